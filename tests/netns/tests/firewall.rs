//! Firewalls as sites have them, and the real agent: what would be cut off is found, and the remedies that are printed or
//! applied mend it and let in nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use notrack_core::net::Family;

#[path = "firewall/adapt.rs"]
mod adapt;
#[path = "firewall/attack.rs"]
mod attack;
#[path = "firewall/check.rs"]
mod check;
#[path = "firewall/errors.rs"]
mod errors;
#[path = "firewall/mess.rs"]
mod mess;
#[path = "firewall/modes.rs"]
mod modes;
#[path = "firewall/precise.rs"]
mod precise;
#[path = "firewall/site.rs"]
mod site;
#[path = "firewall/unknown.rs"]
mod unknown;

use site::{Role, Tool};

/// Each back end and family: the roles that its firewall would cut off.
macro_rules! each_kind {
    ($($name:ident: $tool:ident $family:ident $roles:ident,)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn the_printed_commands_are_the_remedy() {
                for role in Role::$roles {
                    check::blocks_until_the_commands_ran(Tool::$tool, Family::$family, role);
                }
            }

            #[test]
            fn adapting_mends_and_lets_in_nothing_else() {
                for role in Role::$roles {
                    adapt::mends(Tool::$tool, Family::$family, role);
                }
            }
        }
    )* };
}

/// Those whose firewall can be made to let in errors by their state alone.
macro_rules! each_strict_kind {
    ($($name:ident: $tool:ident $family:ident,)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn errors_are_missed_and_the_printed_commands_are_the_remedy() {
                for role in errors::ROLES {
                    errors::are_missed_and_the_printed_commands_are_the_remedy(Tool::$tool, Family::$family, role);
                }
            }

            #[test]
            fn errors_are_given_back_by_adapting() {
                for role in errors::ROLES {
                    errors::are_given_back_by_adapting(Tool::$tool, Family::$family, role);
                }
            }
        }
    )* };
}

each_strict_kind! {
    strict_nft_ipv4: Nft Ipv4,
    strict_nft_ipv6: Nft Ipv6,
    strict_iptables_nft_ipv4: IptablesNft Ipv4,
    strict_iptables_nft_ipv6: IptablesNft Ipv6,
    strict_iptables_legacy_ipv4: IptablesLegacy Ipv4,
    strict_iptables_legacy_ipv6: IptablesLegacy Ipv6,
}

each_kind! {
    nft_ipv4: Nft Ipv4 ALL,
    nft_ipv6: Nft Ipv6 ALL,
    iptables_nft_ipv4: IptablesNft Ipv4 ALL,
    iptables_nft_ipv6: IptablesNft Ipv6 ALL,
    iptables_legacy_ipv4: IptablesLegacy Ipv4 ALL,
    iptables_legacy_ipv6: IptablesLegacy Ipv6 ALL,
    firewalld_ipv4: Firewalld Ipv4 FIREWALLD,
    firewalld_ipv6: Firewalld Ipv6 FIREWALLD,
}
