//! What the engine asks of the kernel: in tests a fake answers.

use std::collections::{BTreeMap, BTreeSet};

use notrack_core::diff::CounterValue;
use notrack_core::host::Adapter;
use notrack_netlink::adapters::{self, AdapterError, Present};
use notrack_netlink::nft::{Netfilter, Nft, NftError};

/// Our table, and our rules in other programs' chains.
pub trait Kernel: Netfilter {
    /// The generation of the ruleset: it grows with every commit of anybody.
    fn generation(&mut self) -> Result<u32, NftError>;
    /// The named counters of our table.
    fn counters(&mut self) -> Result<BTreeMap<String, CounterValue>, NftError>;
    /// Our rules in other programs' firewalls.
    fn adapters(&mut self) -> Result<BTreeSet<Present>, AdapterError>;
    /// Adds and removes such rules.
    fn change_adapters(&mut self, add: &[Adapter], remove: &BTreeSet<Present>) -> Result<(), AdapterError>;
}

impl Kernel for Nft {
    fn generation(&mut self) -> Result<u32, NftError> {
        Nft::generation(self)
    }

    fn counters(&mut self) -> Result<BTreeMap<String, CounterValue>, NftError> {
        Nft::counters(self)
    }

    fn adapters(&mut self) -> Result<BTreeSet<Present>, AdapterError> {
        adapters::present()
    }

    fn change_adapters(&mut self, add: &[Adapter], remove: &BTreeSet<Present>) -> Result<(), AdapterError> {
        adapters::apply(add, remove)
    }
}
