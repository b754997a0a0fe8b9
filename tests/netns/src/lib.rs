//! What the tests on the real kernel share.

pub mod agent;
pub mod firewalld;
pub mod traffic;

use anyhow::{Context, Result, ensure};
use notrack_core::compile::RuleSet;
use notrack_core::diff::diff;
use notrack_core::facts::NodeFacts;
use notrack_core::nf::Table;
use notrack_core::rules::render;
use notrack_lab::Namespace;
use notrack_netlink::nft::{Netfilter, Nft};

/// Makes a namespace track both families, as a host with a stateful firewall does: without a user of it nothing
/// tracks, and a test proves nothing.
pub fn track(host: &Namespace) -> Result<()> {
    host.nft(
        "table inet tracker {\n chain input {\n type filter hook input priority 0; policy accept;\n \
         ct state invalid counter\n }\n}\n",
    )?;
    Ok(())
}

/// Programs a rule set through the whole way: render, diff, one transaction, read back. Fails where the kernel does
/// not then run exactly the table, or where nft could not load what it lists.
pub fn program(host: &Namespace, nft: &mut Nft, rule_set: &RuleSet, facts: &NodeFacts) -> Result<Table> {
    let table = render(rule_set, facts, None)?.table;
    apply(nft, &table)?;
    if !table.chains.is_empty() {
        let listed = host.ruleset()?;
        // Elsewhere: here the table has an owner, whom nft is not.
        let scratch = Namespace::new("check")?;
        scratch.nft_check(&listed).with_context(|| format!("nft cannot load what it lists:\n{listed}"))?;
    }
    Ok(table)
}

/// Brings a table into the kernel and reads it back.
pub fn apply(nft: &mut Nft, table: &Table) -> Result<()> {
    let observed = nft.observe()?;
    nft.commit(&diff(observed.as_ref(), table))?;
    let observed = nft.observe()?;
    let rest = diff(observed.as_ref(), table);
    ensure!(rest.is_empty(), "the kernel does not run what was programmed: {:?}", rest.ops);
    Ok(())
}
