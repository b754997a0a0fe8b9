//! Hosts in network namespaces, for the tests on the real kernel, the benches and the demo.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use notrack_lab::{Flow, Pair, run_ok, tcp};
//!
//! let pair = Pair::new()?; // client 10.77.0.2, node 10.77.0.1, a cable between them
//! pair.node.nft("add table inet t")?;
//! run_ok(pair.client.command("ip").args(["route", "get", "10.77.0.1"]))?;
//! let syn = Flow::parse("10.77.0.2:40000", "10.77.0.1:80")?.tcp(tcp::SYN);
//! pair.client.raw_socket()?.send(&syn)?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is left behind, whatever ends the program: a [`Namespace`] has no name in the file
//! system, only a file descriptor of ours keeps it, and children die with the thread that
//! started them. Every function that needs a tool or root says so when it is missing; none skips.

mod checksum;
mod flood;
mod link;
mod namespace;
mod packet;
mod process;
mod raw;
mod tools;
mod topology;

pub use flood::{Fill, fill_conntrack};
pub use link::{End, veth};
pub use namespace::{Counter, Namespace};
pub use packet::{Flow, IcmpError, fragments, icmp_error, ip_packet, tcp};
pub use process::{Background, run_ok, run_ok_with_input, wait_until};
pub use raw::{RAW_MARK, RawSocket, Tun};
pub use tools::{built, locate, require_root, require_tools};
pub use topology::{Line, Pair};
