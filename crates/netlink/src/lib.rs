//! netlink
pub mod adapters;
pub mod attr;
pub mod conntrack;
pub mod facts;
pub mod host;
pub mod nft;
pub mod socket;
pub mod sockets;
pub mod surroundings;
pub mod tracking;
mod xtables;
