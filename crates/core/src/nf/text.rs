//! The table in nft's own syntax: stable, one statement a line, for review and for diffs in git.

use std::fmt::{self, Display, Write};

use super::{
    Chain, Direction, Element, FieldType, RawField, Rule, Set, Statement, TABLE_NAME, Table, Verdict,
};
use crate::net::Family;

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE_NAME} {{")?;
        for counter in &self.counters {
            writeln!(f, "\tcounter {counter} {{\n\t}}\n")?;
        }
        for (name, set) in &self.sets {
            write_set(f, name, set)?;
        }
        for (number, (name, chain)) in self.chains.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let Set { spec, elements, lifetime } = set;
    writeln!(f, "\t{} {name} {{", if spec.verdicts { "map" } else { "set" })?;
    let raw = spec.key.iter().any(|field| matches!(field, FieldType::Raw { .. }));
    let fields: Vec<String> = spec.key.iter().map(|field| field.nft_name()).collect();
    let keyword = if raw { "typeof" } else { "type" };
    let data = if spec.verdicts { " : verdict" } else { "" };
    writeln!(f, "\t\t{keyword} {}{data}", fields.join(" . "))?;
    let flags: Vec<&str> = [(spec.interval, "interval"), (spec.timeout, "timeout")]
        .iter()
        .filter_map(|(set, name)| set.then_some(*name))
        .collect();
    if !flags.is_empty() {
        writeln!(f, "\t\tflags {}", flags.join(","))?;
    }
    for (number, element) in elements.iter().enumerate() {
        let lead = if number == 0 { "\t\telements = { " } else { ",\n\t\t\t" };
        write!(f, "{lead}{}", show_element(&spec.key, element))?;
        if let Some(lifetime) = lifetime {
            write!(f, " timeout {}s", lifetime.as_secs())?;
        }
        if let Some(verdict) = &element.verdict {
            write!(f, " : {verdict}")?;
        }
    }
    if !elements.is_empty() {
        writeln!(f, " }}")?;
    }
    writeln!(f, "\t}}\n")
}

fn show_element(types: &[FieldType], element: &Element) -> String {
    let low = element.key.fields(types);
    let Some(end) = element.end else { return low.join(" . ") };
    let high = end.fields(types);
    let fields: Vec<String> = low
        .into_iter()
        .zip(high)
        .map(|(low, high)| if low == high { low } else { format!("{low}-{high}") })
        .collect();
    fields.join(" . ")
}

fn write_chain(f: &mut fmt::Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(base) = chain.base {
        writeln!(
            f,
            "\t\ttype filter hook {} priority {}; policy accept;",
            base.hook.nft_name(),
            base.priority
        )?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, statement) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{statement}")?;
        }
        Ok(())
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Family(Family::Ipv4) => f.write_str("meta nfproto ipv4"),
            Statement::Family(Family::Ipv6) => f.write_str("meta nfproto ipv6"),
            Statement::L4Proto(1) => f.write_str("meta l4proto icmp"),
            Statement::L4Proto(58) => f.write_str("meta l4proto ipv6-icmp"),
            Statement::L4Proto(number) => write!(f, "meta l4proto {number}"),
            Statement::Loopback(Direction::In) => f.write_str("iif \"lo\""),
            Statement::Loopback(Direction::Out) => f.write_str("oif \"lo\""),
            Statement::InterfaceName(Direction::In, name) => write!(f, "iifname \"{name}\""),
            Statement::InterfaceName(Direction::Out, name) => write!(f, "oifname \"{name}\""),
            Statement::TransportBits { offset, bits, mask, value } => {
                if u32::from(*mask) == (1u32 << *bits) - 1 {
                    write!(f, "@th,{offset},{bits} {value:#x}")
                } else {
                    write!(f, "@th,{offset},{bits} & {mask:#x} == {value:#x}")
                }
            }
            Statement::TcpSyn => f.write_str("tcp flags & (fin | syn | rst | ack) == syn"),
            Statement::InSet { key, set, inverted } => {
                write!(f, "{}{} @{set}", show_key(key), if *inverted { " !=" } else { "" })
            }
            Statement::VerdictMap { key, map } => write!(f, "{} vmap @{map}", show_key(key)),
            Statement::Notrack => f.write_str("notrack"),
            Statement::CtUntracked => f.write_str("ct state untracked"),
            Statement::Counter(name) => write!(f, "counter name \"{name}\""),
            Statement::RateOver { per_second } => {
                write!(f, "limit rate over {per_second}/second burst {per_second} packets")
            }
            Statement::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn show_key(key: &[RawField]) -> String {
    let fields: Vec<String> = key
        .iter()
        .map(|field| match field {
            RawField::SourceAddress(Family::Ipv4) => "ip saddr".into(),
            RawField::DestinationAddress(Family::Ipv4) => "ip daddr".into(),
            RawField::SourceAddress(Family::Ipv6) => "ip6 saddr".into(),
            RawField::DestinationAddress(Family::Ipv6) => "ip6 daddr".into(),
            RawField::L4Proto => "meta l4proto".into(),
            RawField::SourcePort => "th sport".into(),
            RawField::DestinationPort => "th dport".into(),
            RawField::NfProto => "meta nfproto".into(),
            RawField::TcpFlags => "tcp flags & (fin | syn | rst | ack | urg)".into(),
            RawField::IcmpType => "icmp type".into(),
            RawField::Icmpv6Type => "icmpv6 type".into(),
            RawField::Transport { offset, bits } => format!("@th,{offset},{bits}"),
        })
        .collect();
    fields.join(" . ")
}
