//! Nodes that are full of rules, none of which needs the entry of the flow: nothing is to be said against it.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_core::net::Family;
use notrack_lab::{End, Line, Namespace, Pair, run_ok_with_input, veth};
use notrack_netns::agent::server;
use notrack_netns::track;
use notrack_netns::traffic::{self, entries};

use super::support::{NOTHING, Tool, asks, flush, judge, reaches, serves};

fn pair() -> Pair {
    let pair = Pair::new().unwrap();
    track(&pair.node).unwrap();
    pair
}

/// The node's own server.
fn server_is_bypassed(Pair { client, node }: &Pair) {
    judge(node, &serves(&[80])).is_clean();
    flush(node);
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    traffic::tcp(node, node, "127.0.0.1:80").unwrap();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
}

/// The node as a client.
fn client_is_bypassed(Pair { client, node }: &Pair) {
    judge(node, &asks(&[8080], "10.77.0.0/24")).is_clean();
    flush(node);
    traffic::tcp(node, client, "10.77.0.2:8080").unwrap();
    assert_eq!(entries(node, 8080).unwrap(), NOTHING);
}

fn restore(tool: Tool, node: &Namespace, rules: &str) {
    let program = if tool == Tool::IptablesNft { "iptables-nft-restore" } else { "iptables-legacy-restore" };
    run_ok_with_input(&mut node.command(program), rules).unwrap();
}

#[test]
fn an_accept_without_a_state_and_limits_on_the_header() {
    let pair = pair();
    pair.node
        .nft(
            "table inet firewall {
                set askers {
                    type ipv4_addr
                    flags dynamic,timeout
                    timeout 10s
                }
                chain input {
                    type filter hook input priority filter; policy drop;
                    iifname lo accept
                    tcp dport 80 tcp flags syn / fin,syn,rst,ack limit rate over 1000/second drop
                    tcp dport 80 tcp flags syn / fin,syn,rst,ack add @askers { ip saddr limit rate over 1000/second } drop
                    meta l4proto { icmp, ipv6-icmp } accept
                    ct state established,related accept
                    tcp dport { 22, 80 } accept
                }
            }",
        )
        .unwrap();
    server_is_bypassed(&pair);
}

#[test]
fn limits_of_iptables_on_the_header() {
    for tool in Tool::IPTABLES {
        let pair = pair();
        restore(
            tool,
            &pair.node,
            "*filter
:INPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp --dport 80 --syn -m hashlimit --hashlimit-above 1000/sec --hashlimit-mode srcip --hashlimit-name x -j DROP
-A INPUT -p tcp --dport 80 --syn -m limit --limit 1000/sec --limit-burst 1000 -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp --dport 80 -j ACCEPT
COMMIT
",
        );
        server_is_bypassed(&pair);
    }
}

#[test]
fn an_unrelated_port_is_translated() {
    for tool in Tool::ALL {
        let pair = pair();
        tool.hang(
            Family::Ipv4,
            &pair.node,
            "nat hook prerouting priority dstnat",
            "tcp dport 9999 dnat to 10.77.0.2:99",
            "nat PREROUTING -p tcp --dport 9999 -j DNAT --to-destination 10.77.0.2:99",
        );
        server_is_bypassed(&pair);
        client_is_bypassed(&pair);
    }
}

/// A real server behind LVS with direct return: the virtual address is on `lo`, and nothing is translated.
#[test]
fn an_address_on_the_loopback_device() {
    let pair = pair();
    let Pair { client, node } = &pair;
    node.ip("address add 10.99.0.1/32 dev lo").unwrap();
    node.set_sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
    node.set_sysctl("net.ipv4.conf.all.arp_announce", "2").unwrap();
    client.ip("route add 10.99.0.1 via 10.77.0.1").unwrap();
    server_is_bypassed(&pair);
    traffic::tcp(client, node, "10.99.0.1:80").unwrap();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
}

/// NodeLocal DNSCache: an address of its own that is not the node's, and `NOTRACK` rules for it.
#[test]
fn a_resolver_with_rules_of_its_own() {
    for tool in Tool::IPTABLES {
        let pair = pair();
        let Pair { client, node } = &pair;
        let other = Namespace::new("other").unwrap();
        veth(End::new(node, "nodelocaldns", &["169.254.20.10/32"]), End::new(&other, "eth0", &[])).unwrap();
        restore(
            tool,
            node,
            "*raw
-A PREROUTING -d 169.254.20.10/32 -p udp -m udp --dport 53 -j NOTRACK
-A PREROUTING -d 169.254.20.10/32 -p tcp -m tcp --dport 53 -j NOTRACK
-A OUTPUT -s 169.254.20.10/32 -p udp -m udp --sport 53 -j NOTRACK
-A OUTPUT -s 169.254.20.10/32 -p tcp -m tcp --sport 53 -j NOTRACK
-A OUTPUT -d 169.254.20.10/32 -p udp -m udp --dport 53 -j NOTRACK
COMMIT
*filter
-A INPUT -d 169.254.20.10/32 -p udp -m udp --dport 53 -j ACCEPT
-A OUTPUT -s 169.254.20.10/32 -p udp -m udp --sport 53 -j ACCEPT
COMMIT
",
        );
        let unforged = server("p", "UDP", "53") + "  compensation: {icmpErrors: Ignore}\n";
        judge(node, &unforged).is_clean();
        assert!(!node.ruleset().unwrap().contains("169.254.20.10 . udp"), "{tool:?}: an address of another");
        traffic::udp(client, node, "10.77.0.2:0", "10.77.0.1:53").unwrap();
        traffic::udp(node, node, "169.254.20.10:0", "169.254.20.10:53").unwrap();
        assert_eq!(entries(node, 53).unwrap(), NOTHING, "{tool:?}");
        server_is_bypassed(&pair);
    }
}

/// A container engine's network behind the node, and a published port.
#[test]
fn containers_behind_a_masquerade() {
    for tool in Tool::IPTABLES {
        let line = Line::new().unwrap();
        track(&line.node).unwrap();
        // Line's server is the container.
        let Line { client, node, server } = line;
        server.ip("address add 172.17.0.2/16 dev eth0").unwrap();
        for change in ["eth1 down", "eth1 name docker0", "docker0 up"] {
            node.ip(&format!("link set {change}")).unwrap();
        }
        node.ip("address add 172.17.0.1/16 dev docker0").unwrap();
        restore(
            tool,
            &node,
            "*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8888 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
",
        );
        let pair = Pair { client, node };
        server_is_bypassed(&pair);
        // Outside, the node and its containers are one. On their own network they are not.
        let asks_outside = asks(&[8080], "10.77.0.0/24");
        judge(&pair.node, &asks_outside).is("Refused").says(&["NT003 Masquerade", "asked by others too"]);
        traffic::tcp(&server, &pair.client, "10.77.0.2:8080").unwrap();
        let inside = asks(&[8080], "172.17.0.0/16").replace("peers:", "interfaces: [docker0], peers:");
        judge(&pair.node, &inside).is("Programmed");
        traffic::tcp(&pair.node, &server, "172.17.0.2:8080").unwrap();
        assert_eq!(entries(&pair.node, 8080).unwrap().len(), 1, "that of the container");
        reaches(&pair.client, "10.77.0.1:8888", &server, "172.17.0.2:80").unwrap();
        assert!(
            !entries(&pair.node, 8888).unwrap().is_empty(),
            "{tool:?}: the container's port is translated"
        );
    }
}

/// As kube-proxy writes them: a Service on 10.96.0.10 with a node port and two endpoints.
const KUBE_IPTABLES: &str = "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-EXT-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
-A PREROUTING -m comment --comment services -j KUBE-SERVICES
-A OUTPUT -m comment --comment services -j KUBE-SERVICES
-A POSTROUTING -m comment --comment postrouting -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment web -m tcp --dport 8000 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -m comment --comment last -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment web -m tcp --dport 30080 -j KUBE-EXT-AAAAAAAAAAAAAAAA
-A KUBE-EXT-AAAAAAAAAAAAAAAA -m comment --comment masquerade -j KUBE-MARK-MASQ
-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 8000 -j KUBE-MARK-MASQ
-A KUBE-SVC-AAAAAAAAAAAAAAAA -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.1.5/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080
-A KUBE-SEP-BBBBBBBBBBBBBBBB -s 10.244.2.5/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m tcp -j DNAT --to-destination 10.244.2.5:8080
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment masquerade -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

#[test]
fn kube_proxy_by_iptables() {
    for tool in Tool::IPTABLES {
        let pair = pair();
        restore(tool, &pair.node, KUBE_IPTABLES);
        server_is_bypassed(&pair);
        client_is_bypassed(&pair);
        judge(&pair.node, &asks(&[8000], "10.96.0.10/32")).is("Refused").says(&["NT004 HostPort"]);
    }
}

const KUBE_NFT: &str = "table ip kube-proxy {
    set cluster-ips {
        type ipv4_addr
        elements = { 10.96.0.10 }
    }
    set nodeport-ips {
        type ipv4_addr
        elements = { 10.77.0.1 }
    }
    map no-endpoint-services {
        type ipv4_addr . inet_proto . inet_service : verdict
    }
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.10 . tcp . 8000 : goto service-web }
    }
    map service-nodeports {
        type inet_proto . inet_service : verdict
        elements = { tcp . 30080 : goto external-web }
    }
    chain filter-prerouting {
        type filter hook prerouting priority -110
        ct state new jump firewall-check
    }
    chain filter-input {
        type filter hook input priority -110
        ct state new jump nodeport-endpoints-check
        ct state new jump service-endpoints-check
    }
    chain filter-forward {
        type filter hook forward priority -110
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }
    chain filter-output {
        type filter hook output priority -110
        ct state new jump service-endpoints-check
        ct state new jump firewall-check
    }
    chain filter-output-post-dnat {
        type filter hook output priority -90
        ct state new jump cluster-ips-check
    }
    chain nat-prerouting {
        type nat hook prerouting priority -100
        jump services
    }
    chain nat-output {
        type nat hook output priority -100
        jump services
    }
    chain nat-postrouting {
        type nat hook postrouting priority 100
        jump masquerading
    }
    chain firewall-check {
    }
    chain nodeport-endpoints-check {
        ip daddr @nodeport-ips meta l4proto . th dport vmap { tcp . 30081 : drop }
    }
    chain service-endpoints-check {
        ip daddr . meta l4proto . th dport vmap @no-endpoint-services
    }
    chain cluster-ips-check {
        ip daddr @cluster-ips reject
        ip daddr 10.96.0.0/12 drop
    }
    chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }
    chain service-web {
        ip daddr 10.96.0.10 tcp dport 8000 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
        numgen random mod 2 vmap { 0 : goto endpoint-one, 1 : goto endpoint-two }
    }
    chain external-web {
        jump mark-for-masquerade
        goto service-web
    }
    chain endpoint-one {
        ip saddr 10.244.1.5 jump mark-for-masquerade
        meta l4proto tcp dnat to 10.244.1.5:8080
    }
    chain endpoint-two {
        ip saddr 10.244.2.5 jump mark-for-masquerade
        meta l4proto tcp dnat to 10.244.2.5:8080
    }
    chain mark-for-masquerade {
        meta mark set meta mark | 0x4000
    }
    chain masquerading {
        meta mark & 0x4000 == 0 return
        meta mark set meta mark ^ 0x4000
        masquerade fully-random
    }
}
";

#[test]
fn kube_proxy_by_nftables() {
    let pair = pair();
    pair.node.nft(KUBE_NFT).unwrap();
    server_is_bypassed(&pair);
    client_is_bypassed(&pair);
    judge(&pair.node, &asks(&[8000], "10.96.0.10/32")).is("Refused").says(&["NT004 HostPort"]);
}
