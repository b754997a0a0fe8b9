//! The four questions and orders of `ip_tables.h`, as socket options.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use notrack_core::host::TableFamily;

use super::blob::{HOOKS, Image, Layout, Replacement};

/// `IPT_SO_GET_INFO`, `IPT_SO_SET_REPLACE`; `ip6_tables.h` has the same numbers.
const GET_INFO: libc::c_int = 64;
const SET_REPLACE: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IPT_SO_SET_ADD_COUNTERS`.
const GET_ENTRIES: libc::c_int = 65;
const SET_ADD_COUNTERS: libc::c_int = 65;

/// `XT_TABLE_MAXNAMELEN`.
const NAME_LEN: usize = 32;
/// `struct ipt_getinfo`: name, valid hooks, entry and underflow points of five hooks, number of rules, size in bytes.
const INFO_LEN: usize = NAME_LEN + 4 + 2 * HOOKS * 4 + 4 + 4;
/// `struct ipt_get_entries` and `xt_counters_info` before their arrays: name, a number, padding.
const HEAD_LEN: usize = NAME_LEN + 8;
/// `struct xt_counters`: packets, bytes.
const COUNTERS_LEN: usize = 16;

// `struct ipt_replace` is written below as 64-bit kernels have it.
const _: () = assert!(size_of::<usize>() == 8);

/// A socket of a table's family: any does, and this one needs no capability of its own.
pub(super) struct Control {
    socket: UdpSocket,
    level: libc::c_int,
}

impl Control {
    pub fn open(family: TableFamily) -> io::Result<Control> {
        let (bind, level) = match family {
            TableFamily::Ip6 => ("[::]:0", libc::SOL_IPV6),
            TableFamily::Ip | TableFamily::Inet => ("0.0.0.0:0", libc::SOL_IP),
        };
        Ok(Control { socket: UdpSocket::bind(bind)?, level })
    }

    /// Reads a table; `EAGAIN` where it changed on the way.
    pub fn read(&self, table: &str, layout: Layout) -> io::Result<Image> {
        let mut info = named(table, INFO_LEN)?;
        self.get(GET_INFO, &mut info)?;
        let mut numbers = info[NAME_LEN..]
            .chunks_exact(4)
            .map(|bytes| bytes.first_chunk().map_or(0, |n| u32::from_ne_bytes(*n)));
        let mut next = || numbers.next().unwrap_or_default();
        let valid_hooks = next();
        let hook_entry = [(); HOOKS].map(|()| next());
        let underflow = [(); HOOKS].map(|()| next());
        let (_number, size) = (next(), next());

        let mut entries = named(table, HEAD_LEN + size as usize)?;
        entries[NAME_LEN..NAME_LEN + 4].copy_from_slice(&size.to_ne_bytes());
        self.get(GET_ENTRIES, &mut entries)?;
        Ok(Image::new(layout, valid_hooks, hook_entry, underflow, entries.split_off(HEAD_LEN)))
    }

    /// Replaces a table in one step, then gives its rules the counters that they had; `EAGAIN` where it has
    /// another number of rules than the image.
    pub fn replace(&self, table: &str, old: &Image, new: &Replacement) -> io::Result<()> {
        // The kernel puts the old rules' counters here: the old table counts until it is replaced.
        let mut counters = vec![0_u64; old.len() * COUNTERS_LEN / size_of::<u64>()];
        let mut order = named(table, NAME_LEN)?;
        let size = u32::try_from(new.bytes.len()).map_err(io::Error::other)?;
        for number in [old.valid_hooks(), new.origins.len() as u32, size]
            .into_iter()
            .chain(new.hook_entry)
            .chain(new.underflow)
            .chain([old.len() as u32])
        {
            order.extend(number.to_ne_bytes());
        }
        order.extend(counters.as_mut_ptr().expose_provenance().to_ne_bytes());
        order.extend(&new.bytes);
        // SAFETY: the kernel reads `order`, all of which is initialized, and writes at most as many `xt_counters` of
        // 16 bytes as the order states to the address in it, where `counters` has that many and lives until after the
        // call; it refuses an order that states another number of them than the table has rules.
        unsafe { self.set(SET_REPLACE, &order) }?;

        let mut add = named(table, HEAD_LEN)?;
        add[NAME_LEN..NAME_LEN + 4].copy_from_slice(&(new.origins.len() as u32).to_ne_bytes());
        for origin in &new.origins {
            let old = origin.and_then(|index| counters.get(2 * index..2 * index + 2)).unwrap_or(&[0, 0]);
            add.extend(old.iter().flat_map(|figure| figure.to_ne_bytes()));
        }
        // SAFETY: the kernel only reads `add`, all of which is initialized.
        if let Err(error) = unsafe { self.set(SET_ADD_COUNTERS, &add) } {
            // Another program has replaced the table since. The rules are right, so this is no failure.
            tracing::warn!(table, %error, "the counters of an iptables table start from 0");
        }
        Ok(())
    }

    /// Asks the kernel; it demands that the buffer has exactly the answer's length.
    fn get(&self, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
        let mut len = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `len` bytes, all of them inside `buffer`, which lives and is borrowed
        // mutably until the call returns; every bit pattern is a valid byte.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                self.level,
                option,
                buffer.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives the kernel an order.
    ///
    /// # Safety
    /// Where the order holds an address, as much memory must be writable there as the order says.
    unsafe fn set(&self, option: libc::c_int, order: &[u8]) -> io::Result<()> {
        let len = libc::socklen_t::try_from(order.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel reads `len` bytes, all of them inside `order`; the caller answers for what they say.
        let done = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), self.level, option, order.as_ptr().cast(), len)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// A structure of `len` bytes that begins with a table's name; what follows is 0.
fn named(table: &str, len: usize) -> io::Result<Vec<u8>> {
    // The last byte stays 0.
    if table.len() >= NAME_LEN {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = vec![0; len];
    bytes[..table.len()].copy_from_slice(table.as_bytes());
    Ok(bytes)
}
