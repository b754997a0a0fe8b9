//! Interfaces by their index, as rules with `iif` and `oif` name them.

use std::collections::HashMap;

use notrack_core::host::interface_number;

/// The names of this namespace's interfaces, asked for once each.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    known: HashMap<u32, Option<u128>>,
}

impl Interfaces {
    /// The name of an interface as a number; `None` where it is gone.
    pub fn name(&mut self, index: u32) -> Option<u128> {
        *self.known.entry(index).or_insert_with(|| {
            let name = nix::net::if_::if_indextoname(index).ok()?;
            Some(interface_number(name.to_str().ok()?))
        })
    }
}
