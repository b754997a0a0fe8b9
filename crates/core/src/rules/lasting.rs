//! Connections that stay tracked although a policy names them: a set of their tuples, asked ahead of `notrack`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::sites::Half;
use crate::diff::Observed;
use crate::facts::NodeFacts;
use crate::net::Family;
use crate::nf::{Element, FieldType, Key, RawField, Rule, Set, SetSpec, Statement, Table, Verdict};
use crate::packet::Tuple;

fn set_name(family: Family) -> String {
    format!("lasting{}", family.digit())
}

/// Client and server with their ports, then the protocol: the packets of both directions ask one set.
fn key_of(half: Half, family: Family) -> Vec<RawField> {
    let source = [RawField::SourceAddress(family), RawField::SourcePort];
    let destination = [RawField::DestinationAddress(family), RawField::DestinationPort];
    let (client, server) = match half {
        Half::ToServer => (source, destination),
        Half::FromServer => (destination, source),
    };
    [client.as_slice(), &server, &[RawField::L4Proto]].concat()
}

/// The rules that a policy's chain begins with, none where no connection lasts; the sets that they ask are added to
/// the table. ICMP errors go the way of their policy: their own tuple is in no set.
pub(super) fn rules(table: &mut Table, half: Half, facts: &NodeFacts) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        let of_family = facts.lasting.iter().filter(|tuple| Family::of(tuple.source) == family);
        let elements: Vec<Element> = of_family.map(|tuple| element(*tuple)).collect();
        if elements.is_empty() {
            continue;
        }
        let key = key_of(half, family);
        let types = key.iter().map(|field| field.field_type()).collect();
        let spec = SetSpec { key: types, interval: false, verdicts: false, timeout: false };
        let name = set_name(family);
        let set = name.as_str().into();
        table.sets.entry(name).or_insert_with(|| Set::new(spec, elements));
        rules.push(Rule(vec![
            Statement::Family(family),
            Statement::InSet { key, set, inverted: false },
            Statement::Verdict(Verdict::Return),
        ]));
    }
    rules
}

fn element(tuple: Tuple) -> Element {
    let Tuple { source, destination, proto, source_port, destination_port } = tuple;
    let client = Key::EMPTY.address(source).port(source_port);
    Element { key: client.address(destination).port(destination_port).byte(proto), end: None, verdict: None }
}

/// The connections that a table in the kernel keeps tracked.
pub fn lasting_of(observed: &Observed) -> BTreeSet<Tuple> {
    let sets =
        Family::ALL.into_iter().filter_map(|family| Some((family, observed.sets.get(&set_name(family))?)));
    sets.flat_map(|(family, set)| set.elements.iter().filter_map(move |element| tuple(family, &element.key)))
        .collect()
}

fn tuple(family: Family, key: &Key) -> Option<Tuple> {
    let (mut place, bytes) = (0, key.bytes());
    let mut next = |field: FieldType| {
        let value = bytes.get(place..place + field.len())?;
        place += field.padded_len();
        Some(value)
    };
    let mut end = || {
        let address = match next(FieldType::address(family))? {
            octets if octets.len() == 4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
            octets => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        };
        let port = u16::from_be_bytes(next(FieldType::InetService)?.try_into().ok()?);
        Some((address, port))
    };
    let ((source, source_port), (destination, destination_port)) = (end()?, end()?);
    let proto = *next(FieldType::InetProto)?.first()?;
    Some(Tuple { source, destination, proto, source_port, destination_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_read_back_from_its_element() {
        for (family, source, destination) in
            [(Family::Ipv4, "10.0.0.2", "10.0.0.1"), (Family::Ipv6, "fd00::2", "fd00::1")]
        {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let wanted = Tuple { source, destination, proto: 17, source_port: 40000, destination_port: 53 };
            assert_eq!(tuple(family, &element(wanted).key), Some(wanted));
            assert_eq!(tuple(family, &Key::EMPTY.address(source)), None);
        }
    }
}
