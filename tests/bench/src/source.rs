//! The packet source: XDP live frames that go up the stack of a namespace, counted in CPU time.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use notrack_lab::{End, Flow, Namespace, veth};

use crate::{bpf, program};

/// Which packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// One flow: everything is hot.
    OneFlow,
    /// Each packet begins a flow.
    NewFlows,
    /// 200,000 flows in turn: nothing is hot.
    ManyFlows,
}

impl Traffic {
    pub const ALL: [Self; 3] = [Self::OneFlow, Self::NewFlows, Self::ManyFlows];
    pub const MANY: u32 = 200_000;

    /// As in the table of results.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneFlow => "one flow",
            Self::NewFlows => "new flows",
            Self::ManyFlows => "200k flows",
        }
    }

    /// How many flows there are (0: as many as packets), and the first one's number.
    fn flows(self) -> (u32, u32) {
        match self {
            Self::OneFlow => (1, 0),
            // Behind those of the others.
            Self::NewFlows => (0, 1 << 20),
            Self::ManyFlows => (Self::MANY, 0),
        }
    }
}

/// The host's address; the configurations name it.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The port that the packets go to; the configurations bypass it, or miss it.
pub const PORT: u16 = 8000;

const MAC: &str = "02:00:00:00:00:01";
const FRAME_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A host under a load of UDP packets to one of its ports.
#[derive(Debug)]
pub struct Source {
    host: Namespace,
    interface: u32,
    frame: Vec<u8>,
    program: OwnedFd,
    /// The program must be attached as well: an interface takes XDP frames only then.
    _attached: OwnedFd,
    /// Takes the packets and, full after the first, drops them: the cheapest end a packet can meet.
    _sink: UdpSocket,
}

impl Source {
    /// Prepares an interface of `host` and a sink behind it.
    pub fn new(host: &Namespace, traffic: Traffic) -> Result<Self> {
        let address = format!("{HOST}/16");
        veth(End::new(host, "eth0", &[&address]), End::new(host, "peer0", &[]))?;
        host.ip(&format!("link set eth0 address {MAC}"))?;
        // The machine's default may be strict, and costs a look-up.
        for device in ["all", "eth0"] {
            host.set_sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0")?;
        }
        let sink = host.enter(|| UdpSocket::bind(SocketAddr::from((HOST, PORT))))??;
        setsockopt(&sink, sockopt::RcvBuf, &0).context("cannot shrink the sink")?;
        let interface = host.enter(|| nix::net::if_::if_nametoindex("eth0"))??;
        let program = load(traffic)?;
        let attached = host.enter(|| bpf::attach_xdp(&program, interface))??;
        let (host, frame) = (host.clone(), frame()?);
        Ok(Self { host, interface, frame, program, _attached: attached, _sink: sink })
    }

    /// Sends `count` packets and returns the nanoseconds of CPU that each took, from its making to
    /// the sink. CPU time, not the clock's: others may use this machine too.
    pub fn send(&self, count: u32) -> Result<f64> {
        let spent = self.host.enter(|| -> Result<Duration> {
            let start = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
            bpf::run_live(&self.program, self.interface, &self.frame, count)?;
            Ok((clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - start).into())
        })??;
        Ok(spent.as_nanos() as f64 / f64::from(count))
    }
}

/// 60 bytes: the shortest Ethernet frame, without its check sum.
fn frame() -> Result<Vec<u8>> {
    // The program sets the low half of the source address and the identification so that their sum
    // is 0xffff. The header's checksum is right for that from the start: the identification is 1.
    let mut packet = Flow::parse("10.78.255.254:0", &format!("{HOST}:{PORT}"))?.udp(&[0; 18]);
    // It changes the source port as well: no checksum of UDP.
    packet[26..28].copy_from_slice(&[0, 0]);
    let ethernet = [FRAME_MAC.as_slice(), &[2, 0, 0, 0, 0, 2], &[0x08, 0x00]].concat();
    Ok([ethernet, packet].concat())
}

fn load(traffic: Traffic) -> Result<OwnedFd> {
    let counter = bpf::one_word()?;
    let (flows, first) = traffic.flows();
    let program = program::packet_source(counter.as_raw_fd(), flows, first);
    // The program holds the map from here on.
    bpf::load_xdp(&program)
}
