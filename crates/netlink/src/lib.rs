//! netlink
pub mod attr;
pub mod conntrack;
pub mod socket;
pub mod nft;
