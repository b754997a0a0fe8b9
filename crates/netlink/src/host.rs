//! The rules of other programs, read from nf_tables and from the old iptables into [`HostRules`].

mod act;
mod backend;
mod compare;
mod expression;
mod interfaces;
mod legacy;
mod load;
mod names;
mod nat;
mod nft;
mod register;
mod set;
mod text;
mod verdict;
mod xt;

use notrack_core::host::HostRules;

use crate::socket::NetlinkError;
pub use legacy::fingerprint as legacy_fingerprint;

/// Reads the rules of every table of the families ip, ip6 and inet and of both old iptables, but for our own table.
/// What is not understood is there as such; tables of the old iptables that cannot be read are named in
/// [`HostRules::incomplete`].
///
/// # Errors
/// When the kernel refuses to show nf_tables (CAP_NET_ADMIN), or others change it too often to be read.
pub fn read() -> Result<HostRules, NetlinkError> {
    let (mut tables, mut incomplete) = (nft::read()?, Vec::new());
    legacy::read(&mut tables, &mut incomplete);
    Ok(HostRules { tables, incomplete })
}
