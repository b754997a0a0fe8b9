//! The kernel: everything that is read from netfilter and routing, and everything that is written to them.
//!
//! All of it concerns the network namespace of the calling thread. What is read comes out as types of `notrack-core`;
//! nothing is decided here.
//!
//! ```text
//! attr ── netlink messages as bytes                 socket ── requests, dumps and batches, every answer accounted for
//! nft ── our table: observe, commit, a fake         conntrack ── entries: figures, dump, make, delete
//! host ── other programs' rules, read               adapters ── our rules in other programs' chains
//! surroundings ── devices, routing, IPVS, sockets   tracking ── whether this namespace tracks at all
//! facts ── all that is read of a node               sockets ── TCP sockets that live
//! xtables ── the old iptables as bytes, for host, adapters and tracking
//! ```
//!
//! The only crate with unsafe code, each block with its SAFETY sentence, in four files: `nft::message` and
//! `nft::expression` (libnftnl's objects), `xtables` and `adapters::legacy::sockopt` (`getsockopt` and `setsockopt` of
//! the old iptables, for which nix has no types). Bytes are read without it: `attr` never panics on what a kernel sends.
//!
//! What is claimed about the kernel is shown on a real one, in `tests/netns`; `nft::fake` passes the same suite.

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
