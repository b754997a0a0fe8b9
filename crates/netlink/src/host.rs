//! The rules of other programs, read from nf_tables and from the old iptables into [`HostRules`].

mod legacy;
mod xt;

use notrack_core::host::HostRules;

use crate::socket::NetlinkError;
pub use legacy::fingerprint as legacy_fingerprint;

/// Reads the rules of every table of the families ip, ip6 and inet and of both old iptables, but for our own table.
/// What is not understood is there as such; what cannot be read is named in [`HostRules::incomplete`].
///
/// # Errors
/// When the kernel refuses to show nf_tables (CAP_NET_ADMIN).
pub fn read() -> Result<HostRules, NetlinkError> {
    let mut rules = HostRules::default();
    legacy::read(&mut rules.tables, &mut rules.incomplete);
    Ok(rules)
}
