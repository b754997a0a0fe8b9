//! Rectangles of addresses and ports: the client side of a tuple, and how one is cut out of another.

use crate::net::{AddressRange, Family, PortRange};

/// A range of addresses times a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rectangle {
    /// The addresses.
    pub addresses: AddressRange,
    /// The ports.
    pub ports: PortRange,
}

impl Rectangle {
    /// Every address and port of a family.
    pub fn all(family: Family) -> Rectangle {
        Rectangle { addresses: AddressRange::all(family), ports: PortRange::ALL }
    }

    /// Whether the two share a point.
    pub fn overlaps(&self, other: &Rectangle) -> bool {
        self.addresses.overlaps(other.addresses)
            && self.ports.first() <= other.ports.last()
            && other.ports.first() <= self.ports.last()
    }

    /// What is left of `self` without `hole`: at most four rectangles, disjoint.
    fn without(self, hole: &Rectangle, rest: &mut Vec<Rectangle>) {
        if !self.overlaps(hole) {
            rest.push(self);
            return;
        }
        let mut middle = self.addresses;
        if middle.first < hole.addresses.first {
            let below = AddressRange { last: hole.addresses.first - 1, ..middle };
            rest.push(Rectangle { addresses: below, ports: self.ports });
            middle.first = hole.addresses.first;
        }
        if middle.last > hole.addresses.last {
            let above = AddressRange { first: hole.addresses.last + 1, ..middle };
            rest.push(Rectangle { addresses: above, ports: self.ports });
            middle.last = hole.addresses.last;
        }
        let ports = [
            hole.ports.first().checked_sub(1).and_then(|last| PortRange::new(self.ports.first(), last)),
            hole.ports.last().checked_add(1).and_then(|first| PortRange::new(first, self.ports.last())),
        ];
        rest.extend(ports.into_iter().flatten().map(|ports| Rectangle { addresses: middle, ports }));
    }
}

/// `rectangles` without every one of `holes`. Disjoint where `rectangles` is.
pub fn subtract<'a>(
    rectangles: Vec<Rectangle>,
    holes: impl IntoIterator<Item = &'a Rectangle>,
) -> Vec<Rectangle> {
    holes.into_iter().fold(rectangles, |rectangles, hole| {
        let mut rest = Vec::with_capacity(rectangles.len());
        for rectangle in rectangles {
            rectangle.without(hole, &mut rest);
        }
        rest
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rectangle() -> impl Strategy<Value = Rectangle> {
        // A small corner of the space, so that rectangles meet often.
        (0u128..12, 0u128..12, 0u16..12, 0u16..12).prop_map(|(a, b, c, d)| Rectangle {
            addresses: AddressRange { family: Family::Ipv4, first: a.min(b), last: a.max(b) },
            ports: PortRange::new(c.min(d), c.max(d)).unwrap(),
        })
    }

    fn holds(rectangle: &Rectangle, address: u128, port: u16) -> bool {
        rectangle.addresses.first <= address
            && address <= rectangle.addresses.last
            && rectangle.ports.contains(port)
    }

    proptest! {
        #[test]
        fn what_is_left_is_disjoint_and_exactly_the_difference(
            whole in rectangle(),
            holes in prop::collection::vec(rectangle(), 0..5),
        ) {
            let rest = subtract(vec![whole], &holes);
            for address in 0..12 {
                for port in 0..12 {
                    let hits = rest.iter().filter(|part| holds(part, address, port)).count();
                    let wanted = holds(&whole, address, port)
                        && !holes.iter().any(|hole| holds(hole, address, port));
                    prop_assert_eq!(hits, usize::from(wanted), "{}:{}", address, port);
                }
            }
        }
    }
}
