//! Rules are printed as nft prints them.

use super::support::{listed, loaded, only, texts};

const RULES: &str = "
ct state established,related accept
ct state { new, untracked } accept
ct state != new accept
ct state ! new accept
ct state vmap { established : accept, related : accept, invalid : drop }
ct status dnat accept
ct mark & 1 == 1 accept
ct original ip saddr 10.0.0.1 accept
ct count over 20 drop
iif lo accept
iifname \"eth*\" oifname != \"eth0\" accept
iifname \"eth0\" tcp dport { 22, 80, 8000-8010 } ct state established,related accept
ip saddr 10.0.0.0/8 ip daddr 10.1.2.0/23 tcp dport 22 accept
ip saddr 10.0.0.1-10.0.0.9 udp sport != 1000-2000 drop
ip saddr != { 10.0.0.0/8, 11.1.1.1 } ip saddr != 10.0.0.0/8 accept
ip saddr & 255.0.0.255 == 10.0.0.1 accept
ip saddr @admins ip daddr . tcp dport @served accept
ip saddr . tcp dport { 10.0.0.1 . 80, 10.0.0.2 . 81 } accept
ip6 saddr 2001:db8::/63 ip6 nexthdr tcp return
ip protocol { icmp, esp } accept
ip ttl < 5 drop
tcp flags syn / fin,syn,rst,ack accept
tcp flags != syn / syn,ack drop
tcp flags ! fin,syn drop
meta mark 0x10 meta mark & 0xff == 0x10 meta mark > 5 accept
meta mark { 1, 3-5 } accept
meta l4proto { tcp, udp } th dport 53 accept
icmp type echo-request limit rate 5/second accept
icmpv6 type { nd-router-advert, nd-neighbor-solicit } limit rate over 3/minute burst 9 packets drop
fib daddr type local accept
fib saddr . iif oif missing drop
meta pkttype broadcast log prefix \"x\" counter jump other
tcp dport 22 accept comment \"hello\"
tcp dport 113 reject with tcp reset
ip daddr 10.0.0.1 reject with icmp port-unreachable
reject with icmpx admin-prohibited
add @seen { ip saddr limit rate 3/second } accept
quota over 100 mbytes drop
meta mark set ct mark
meta mark set 0x1
ct mark set meta mark
ct zone set 5
ip daddr set 10.0.0.1
tcp dport set 8080
udp dport 53 notrack
goto other
";

const NAT: &str = "
tcp dport 8080 redirect to :80
ip daddr 1.2.3.4 tcp dport 80 dnat ip to 10.0.0.2:8080
dnat ip to tcp dport map @servers
ip6 daddr 2001:db8::1 tcp dport 80 dnat ip6 to [2001:db8::2]:8080
";

#[test]
fn as_nft_lists_them() {
    let namespace = loaded(&format!(
        "table inet t {{
            set admins {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8 }}\n }}
            set served {{ type ipv4_addr . inet_service; flags interval; elements = {{ 10.0.0.0/24 . 80-90 }}\n }}
            set seen {{ type ipv4_addr; size 99; flags dynamic,timeout; timeout 60s; }}
            map servers {{ type inet_service : ipv4_addr; elements = {{ 80 : 10.0.0.5 }}\n }}
            chain other {{ }}
            chain rules {{ {RULES} }}
            chain nat {{ type nat hook prerouting priority -100; {NAT} }}
            chain post {{ type nat hook postrouting priority 100; masquerade random\n snat ip to 1.2.3.4-1.2.3.9\n }}
        }}"
    ));
    let table = only(&namespace);
    for chain in ["rules", "nat", "post"] {
        let listed = listed(&namespace, &format!("inet t {chain}"));
        assert!(listed.len() > 1, "{listed:?}");
        for (ours, nfts) in texts(&table.chains[chain].rules).iter().zip(&listed) {
            assert_eq!(ours, nfts);
        }
        assert_eq!(table.chains[chain].rules.len(), listed.len());
    }
}

#[test]
fn long_sets_are_cut_short() {
    let ports: Vec<_> = (1..=50).map(|port| (port * 2).to_string()).collect();
    let ports = ports.join(", ");
    let namespace = loaded(&format!("table inet t {{ chain c {{ tcp dport {{ {ports} }} accept\n }}\n }}"));
    let table = only(&namespace);
    assert_eq!(table.chains["c"].rules[0].text, "tcp dport { 2, 4, 6, ... 47 more } accept");
}
