//! The four uses of bpf(2) that a packet source needs, without a compiler or a library for BPF.

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};

const MAP_CREATE: c_long = 0;
const PROG_LOAD: c_long = 5;
const PROG_TEST_RUN: c_long = 10;
const LINK_CREATE: c_long = 28;

const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// Frames are not only shown to the program: they go where it says.
const LIVE_FRAMES: u32 = 1 << 1;
const VERIFIER_LOG: usize = 64 * 1024;

/// Makes an array of one element of eight bytes.
pub fn one_word() -> Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    let mut attributes = Attributes { map_type: MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
    // SAFETY: the structure is the head of the kernel's for this command; it has no pointers.
    unsafe { descriptor(MAP_CREATE, &mut attributes) }.context("cannot make a BPF map")
}

/// Loads an XDP program; where the verifier refuses it, the error says why.
pub fn load_xdp(instructions: &[u64]) -> Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    let license: &CStr = c"Apache-2.0";
    let mut log = vec![0_u8; VERIFIER_LOG];
    let mut attributes = Attributes {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 1,
        log_size: VERIFIER_LOG as u32,
        log_buf: log.as_mut_ptr() as u64,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"notrack_bench\0\0\0",
        prog_ifindex: 0,
        expected_attach_type: ATTACH_XDP,
    };
    // SAFETY: the structure is the head of the kernel's for this command; its pointers are to
    // `instructions`, `license` and `log`, of the lengths given, and all outlive the call.
    let loaded = unsafe { descriptor(PROG_LOAD, &mut attributes) };
    loaded.with_context(|| {
        let said = String::from_utf8_lossy(&log);
        format!("cannot load the packet source: {}", said.trim_end_matches('\0').trim())
    })
}

/// Attaches an XDP program to an interface of this namespace for as long as the result lives.
pub fn attach_xdp(program: &OwnedFd, interface: u32) -> Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_fd: RawFd,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attributes = Attributes {
        prog_fd: program.as_raw_fd(),
        target_ifindex: interface,
        attach_type: ATTACH_XDP,
        flags: 0,
    };
    // SAFETY: the structure is the head of the kernel's for this command; it has no pointers.
    unsafe { descriptor(LINK_CREATE, &mut attributes) }.context("cannot attach the packet source")
}

/// Runs an XDP program on `frame` as if it had arrived on `interface`, `count` times; frames that
/// it passes go up the stack before the call returns.
pub fn run_live(program: &OwnedFd, interface: u32, frame: &[u8], count: u32) -> Result<()> {
    #[repr(C)]
    struct XdpContext {
        data: u32,
        data_end: u32,
        data_meta: u32,
        ingress_ifindex: u32,
        rx_queue_index: u32,
        egress_ifindex: u32,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        prog_fd: RawFd,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        /// Must be zero to the kernel, which unnamed padding need not be.
        padding: u32,
    }
    let context = XdpContext {
        data: 0,
        data_end: frame.len() as u32,
        data_meta: 0,
        ingress_ifindex: interface,
        rx_queue_index: 0,
        egress_ifindex: 0,
    };
    let mut attributes = Attributes {
        prog_fd: program.as_raw_fd(),
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: count,
        ctx_size_in: size_of::<XdpContext>() as u32,
        ctx_in: &raw const context as u64,
        flags: LIVE_FRAMES,
        ..Attributes::default()
    };
    // SAFETY: the structure is the head of the kernel's for this command; its pointers are to
    // `frame` and `context`, of the lengths given, which the kernel only reads during the call.
    unsafe { call(PROG_TEST_RUN, &mut attributes) }.context("cannot run the packet source")?;
    Ok(())
}

/// # Safety
/// As [`call`], with a command that returns a new descriptor.
unsafe fn descriptor<T>(command: c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attributes) }?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` must be the head of `union bpf_attr` for `command`; each pointer in it must be
/// valid, for the length given beside it, until the call returns.
unsafe fn call<T>(command: c_long, attributes: &mut T) -> io::Result<RawFd> {
    let size = size_of::<T>() as c_long;
    // SAFETY: the caller's promise; what lies behind `size` the kernel takes as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
