//! The orders of `ip_tables.h`, as socket options.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use libc::c_int;

use super::blob::Replacement;
use crate::xtables::{ARRAY_AT, COUNTERS_LEN, HOOKS, Image, Iptables, NAME_LEN, named};

/// `IPT_SO_SET_REPLACE` and `IP6T_SO_SET_REPLACE`.
const SET_REPLACE: c_int = 64;
/// `IPT_SO_SET_ADD_COUNTERS` and `IP6T_SO_SET_ADD_COUNTERS`.
const SET_ADD_COUNTERS: c_int = 65;

// `struct ipt_replace` is written below as 64-bit kernels have it.
const _: () = assert!(size_of::<usize>() == 8);

/// Replaces a table in one step, then gives its rules the counters that they had; `EAGAIN` where it has another number
/// of rules than the one that was read.
pub(super) fn replace(iptables: &Iptables, table: &str, new: &Replacement) -> io::Result<()> {
    let Replacement { image: Image { hooks, bytes, .. }, origins, old_rules } = new;
    let socket = iptables.socket()?;
    // The kernel puts the old rules' counters here: the old table counts until it is replaced.
    let mut counters = vec![0_u64; old_rules * COUNTERS_LEN / size_of::<u64>()];
    let mut order = named(table, NAME_LEN)?;
    let valid_hooks = (0..HOOKS).filter(|hook| hooks[*hook].is_some()).fold(0, |all, hook| all | 1 << hook);
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    for number in [valid_hooks, origins.len() as u32, size]
        .into_iter()
        // Points of hooks that the table does not have, as the kernel keeps them.
        .chain(hooks.map(|hook| hook.map_or(u32::MAX, |(first, _)| first)))
        .chain(hooks.map(|hook| hook.map_or(u32::MAX, |(_, policy)| policy)))
        .chain([*old_rules as u32])
    {
        order.extend(number.to_ne_bytes());
    }
    order.extend(counters.as_mut_ptr().expose_provenance().to_ne_bytes());
    order.extend(bytes);
    // SAFETY: the kernel reads `order`, all of which is initialized, and writes at most as many `xt_counters` of
    // 16 bytes as the order states to the address in it, where `counters` has that many and lives until after the
    // call; it refuses an order that states another number of them than the table has rules.
    unsafe { set(&socket, iptables.level, SET_REPLACE, &order) }?;

    let mut add = named(table, ARRAY_AT)?;
    add[NAME_LEN..NAME_LEN + 4].copy_from_slice(&(origins.len() as u32).to_ne_bytes());
    for origin in origins {
        let old = origin.and_then(|index| counters.get(2 * index..2 * index + 2)).unwrap_or(&[0, 0]);
        add.extend(old.iter().flat_map(|figure| figure.to_ne_bytes()));
    }
    // SAFETY: the kernel only reads `add`, all of which is initialized.
    if let Err(error) = unsafe { set(&socket, iptables.level, SET_ADD_COUNTERS, &add) } {
        // Another program has replaced the table since. The rules are right, so this is no failure.
        tracing::warn!(table, %error, "the counters of an iptables table start from 0");
    }
    Ok(())
}

/// Gives the kernel an order.
///
/// # Safety
/// Where the order holds an address, as much memory must be writable there as the order says.
unsafe fn set(socket: &UdpSocket, level: c_int, option: c_int, order: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(order.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `len` bytes, all of them inside `order`; the caller answers for what they say.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, order.as_ptr().cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
