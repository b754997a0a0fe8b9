//! Which expressions and extensions turn tracking on while they exist: those whose set-up calls
//! `nf_ct_netns_get`. A `notrack` of either kind does not, and neither does a NAT chain without a rule.

/// Expressions of nftables.
const EXPRESSIONS: [&str; 7] = ["ct", "nat", "masq", "redir", "connlimit", "synproxy", "flow_offload"];

/// Matches of iptables.
const MATCHES: [&str; 9] = [
    "conntrack",
    "state",
    "connmark",
    "connbytes",
    "connlimit",
    "connlabel",
    "helper",
    "cluster",
    "flowoffload",
];

/// Targets of iptables. `CT` is one as well, unless it is `--notrack`.
const TARGETS: [&str; 10] = [
    "SNAT",
    "DNAT",
    "MASQUERADE",
    "REDIRECT",
    "NETMAP",
    "CONNMARK",
    "CONNSECMARK",
    "SYNPROXY",
    "CLUSTERIP",
    "FLOWOFFLOAD",
];

/// `XT_CT_NOTRACK`, in the first 16 bits of the target's data.
const XT_CT_NOTRACK: u16 = 1;

pub(super) fn expression(name: &str) -> bool {
    EXPRESSIONS.contains(&name)
}

pub(super) fn xt_match(name: &str) -> bool {
    MATCHES.contains(&name)
}

/// `info` is the target's own data.
pub(super) fn xt_target(name: &str, info: &[u8]) -> bool {
    match (name, info.first_chunk()) {
        ("CT", Some(flags)) => u16::from_ne_bytes(*flags) & XT_CT_NOTRACK == 0,
        ("CT", None) => true,
        _ => TARGETS.contains(&name),
    }
}

/// Objects of nftables by `NFT_OBJECT_*`, whether a rule refers to them or not.
pub(super) const fn object(kind: u32) -> Option<&'static str> {
    match kind {
        3 => Some("ct helper"),
        5 => Some("ct count"),
        7 => Some("ct timeout"),
        9 => Some("ct expectation"),
        10 => Some("synproxy"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_skips_tracking_is_no_user_of_it() {
        assert!(!xt_target("CT", &[1, 0, 0, 0]));
        assert!(xt_target("CT", &[0, 0, 3, 0]), "--zone 3");
        assert!(!xt_target("NOTRACK", &[]));
        assert!(xt_target("MASQUERADE", &[]));
        assert!(!expression("notrack"));
    }
}
