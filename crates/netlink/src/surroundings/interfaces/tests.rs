use super::*;
use crate::attr::{Messages, Writer};

fn sent(index: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut reply = Buffer::new();
    reply.message(RTM_NEWLINK, 2, 1, |message| {
        let mut header = [0; IFINFOMSG_LEN];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        message.raw(&header);
        fill(message);
    });
    reply.finish().unwrap()
}

fn parsed(bytes: &[u8]) -> Link {
    link(&Messages::new(bytes).next().unwrap().unwrap()).unwrap().unwrap()
}

/// As `rtnl_fill_ifinfo` lays them out.
fn links() -> Vec<Link> {
    let mut settings = [0_u8; 33 * 4];
    settings[7 * 4..8 * 4].copy_from_slice(&1_u32.to_ne_bytes());
    settings[23 * 4..24 * 4].copy_from_slice(&1_u32.to_ne_bytes());
    let bridge = sent(5, |link| {
        link.text(IFLA_IFNAME, "br0");
        link.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "bridge");
            info.nested(IFLA_INFO_DATA, |data| data.u8(IFLA_BR_NF_CALL_IPTABLES, 0));
        });
    });
    let port = sent(6, |link| {
        link.text(IFLA_IFNAME, "eth0");
        link.ne32(IFLA_MASTER, 5);
        link.nested(IFLA_XDP, |xdp| xdp.u8(IFLA_XDP_ATTACHED, 1));
        link.nested(IFLA_AF_SPEC, |families| {
            families.nested(2, |inet| inet.bytes(IFLA_INET_CONF, &settings));
        });
    });
    let tunnel = sent(7, |link| {
        link.text(IFLA_IFNAME, "vx0");
        link.nested(IFLA_XDP, |xdp| xdp.u8(IFLA_XDP_ATTACHED, 0));
        link.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "vxlan");
            info.nested(IFLA_INFO_DATA, |data| data.be16(IFLA_VXLAN_PORT, 4789));
        });
    });
    [bridge, port, tunnel].iter().map(|bytes| parsed(bytes)).collect()
}

#[test]
fn links_become_interfaces_with_names_for_numbers() {
    let (interfaces, indexes) = resolve(links(), ForAll::default());
    assert_eq!(indexes.get(&6).map(String::as_str), Some("eth0"));
    let [bridge, port, tunnel] = &interfaces[..] else { panic!("three interfaces") };
    assert_eq!((bridge.kind.as_str(), bridge.calls_iptables), ("bridge", false));
    assert_eq!(port.master.as_deref(), Some("br0"));
    assert_eq!(port.programs, [Program::Xdp]);
    assert_eq!(port.reverse_path, ReversePath { strict: true, marked: true });
    assert_eq!((tunnel.tunnel_port, tunnel.programs.len()), (Some(4789), 0));
    assert_eq!(tunnel.reverse_path, ReversePath::default());
}

#[test]
fn settings_for_all_count_for_each() {
    let (interfaces, _) = resolve(links(), ForAll { rp_filter: 2, marked: true, calls_iptables: true });
    assert!(
        interfaces.iter().all(|interface| interface.reverse_path.marked && !interface.reverse_path.strict)
    );
    let calling: Vec<&str> = interfaces
        .iter()
        .filter(|interface| interface.calls_iptables)
        .map(|bridge| bridge.name.as_str())
        .collect();
    assert_eq!(calling, ["br0"]);
}

#[test]
fn a_cut_message_is_an_error() {
    let bytes = sent(5, |link| link.text(IFLA_IFNAME, "br0"));
    let whole = Messages::new(&bytes).next().unwrap().unwrap();
    for len in [0, 15] {
        let cut = Message { payload: &whole.payload[..len], ..whole };
        assert!(link(&cut).is_err(), "{len}");
    }
}
