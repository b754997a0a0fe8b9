//! The rules of firewalld, as it writes them.

use std::time::Duration;

use notrack_core::host::{Field, HostVerdict, Match, Members, Step};
use notrack_lab::{Background, Namespace, require_tools, run_ok};

use super::support::{listed, read, table, texts};

/// Starts firewalld with a bus of its own, on a /run that nobody else sees; both end with the shell.
const FIREWALLD: &str = "
set -e
mount --make-rprivate /
mount -t tmpfs none /run
mkdir -p /run/dbus /run/firewalld
dbus-daemon --system --fork --nopidfile
firewalld --nofork --nopid --log-target=console
";

#[test]
fn firewalld_is_understood() {
    require_tools(&["firewalld", "dbus-daemon", "unshare"]).unwrap();
    let namespace = Namespace::new("firewalld").unwrap();
    let mut command = namespace.command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", FIREWALLD]);
    let mut firewalld = Background::spawn(command).unwrap();
    let loaded = || {
        run_ok(namespace.command("nft").args([
            "list",
            "chain",
            "inet",
            "firewalld",
            "filter_IN_public_allow",
        ]))
        .is_ok_and(|listed| listed.contains("tcp dport 22"))
    };
    firewalld.wait_ready("firewalld", Duration::from_secs(30), loaded).unwrap();

    let rules = read(&namespace);
    let firewalld_table = table(&rules, "inet firewalld");
    for (name, chain) in &firewalld_table.chains {
        assert_eq!(
            texts(&chain.rules),
            listed(&namespace, &format!("inet firewalld {name}")),
            "chain {name}"
        );
        for rule in &chain.rules {
            let opaque = rule.steps.iter().any(|step| matches!(step, Step::Opaque(_)));
            assert!(!opaque, "not understood: {rule:?}");
        }
    }
    let input = &firewalld_table.chains["filter_INPUT"].rules;
    let [Step::Match(Match { fields, inverted: false, of: Members::Set(set) }), accept] = &input[0].steps[..]
    else {
        panic!("{:?}", input[0]);
    };
    assert_eq!(
        (fields.as_slice(), accept),
        ([Field::CtState].as_slice(), &Step::Verdict(HostVerdict::Accept))
    );
    let states: Vec<_> =
        firewalld_table.sets[set].elements.iter().map(|element| element.values[0].0).collect();
    assert_eq!(states, [2, 4]);
}
