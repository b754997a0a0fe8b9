//! netlink
pub mod attr;
pub mod conntrack;
pub mod socket;
pub mod tracking;
pub mod nft;
