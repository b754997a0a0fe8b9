//! Hazard 1: the address and the port of a Service themselves. Untracked, what goes there is not translated, and reaches nobody.

use crate::{ALL, HANGS, NODE_PORT, PATIENT, World};

impl World {
    /// Where kube-proxy translates: a cluster address on the client's own node, a node port on the node that is asked.
    pub fn naive_rules_for_the_service_itself_hang_them(&self) {
        let (cluster, node) = (self.cluster_address(), &self.server().address);
        let table = format!(
            "table ip naive {{
                chain prerouting {{
                    type filter hook prerouting priority raw; policy accept;
                    ip daddr {cluster} tcp dport 80 notrack
                    ip daddr {node} tcp dport {NODE_PORT} notrack
                }}
                chain output {{
                    type filter hook output priority raw; policy accept;
                    ip daddr {cluster} tcp dport 80 notrack
                    ip saddr {node} tcp sport {NODE_PORT} notrack
                }}
            }}"
        );
        let networks = ["node1", "node2"].map(|name| self.cluster.node(name).unwrap().network().unwrap());
        for network in &networks {
            network.nft(&table).unwrap();
        }
        let harmed = self.reached(HANGS);
        for network in &networks {
            network.nft("delete table ip naive").unwrap();
        }
        assert!(harmed.directly, "{harmed:?}");
        assert!(
            !harmed.by_cluster_address_on_the_node && !harmed.by_cluster_address_from_another,
            "{harmed:?}"
        );
        assert!(!harmed.by_node_port, "{harmed:?}");
        assert_eq!(self.reached(PATIENT), ALL, "after");
    }

    /// One that names exactly these, in every role that can.
    pub fn a_policy_for_the_service_itself_is_refused_with_its_name(&self) {
        let cluster = self.cluster_address();
        let ports = |port: u16| format!("ports: [{{protocol: TCP, port: {port}}}]");
        for (name, more) in [
            ("client", format!("role: Client, {}, peers: [{{cidr: {cluster}/32}}]", ports(80))),
            ("forward", format!("role: Forward, {}, serverAddresses: [{cluster}/32]", ports(80))),
            ("node-port", format!("role: Server, {}", ports(NODE_PORT))),
        ] {
            let all_reach_it = || assert_eq!(self.reached(PATIENT), ALL, "{name}");
            let hazards = self.is_refused(name, &more, "ServiceAddress", all_reach_it);
            assert!(hazards.contains("NT001") && hazards.contains("default/web"), "{name}: {hazards}");
        }
    }
}
