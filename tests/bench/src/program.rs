//! The XDP program, by hand: it gives each packet its flow's source and passes it up the stack.

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const MAP_LOOKUP: i32 = 1;
/// `src` of a 64-bit load that says: the number is a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;

// Offsets in a frame of Ethernet, IPv4 without options and UDP.
const IP_IDENTIFICATION: i16 = 14 + 4;
const IP_SOURCE_LOW_HALF: i16 = 14 + 14;
const UDP_SOURCE_PORT: i16 = 14 + 20;
const HEADERS: i32 = 14 + 20 + 8;

/// Assembles the program. `counter` is a map of one word; it is taken modulo `flows`, unless that
/// is 0, and `first` is added: the flow's number.
///
/// A flow's number becomes its source port (low 16 bits) and the low half of its source address
/// (next 16 bits). The IP identification is set to the complement of the latter, so that the sum of
/// both, and with it the header's checksum, never changes.
pub fn packet_source(counter: i32, flows: u32, first: u32) -> Vec<u64> {
    let mut code = vec![
        mov(6, 1),
        load32(7, 6, 0), // data
        load32(8, 6, 4), // data_end
        mov(2, 7),
        add_constant(2, HEADERS),
        jump_if_greater(2, 8, 0), // To the end: patched below.
        store32_constant(10, -4, 0),
        mov(2, 10),
        add_constant(2, -4),
    ];
    code.extend(load_map(1, counter));
    code.extend([call(MAP_LOOKUP), jump_if_zero(0, 0)]); // Patched too.
    code.extend([load64(1, 0, 0), mov(2, 1), add_constant(2, 1), store64(0, 0, 2)]);
    if flows > 0 {
        code.push(modulo_constant(1, flows as i32));
    }
    code.extend([
        add_constant(1, first as i32),
        store16(7, UDP_SOURCE_PORT, 1),
        shift_right_constant(1, 16),
        store16(7, IP_SOURCE_LOW_HALF, 1),
        xor_constant(1, 0xffff),
        store16(7, IP_IDENTIFICATION, 1),
        mov_constant(0, XDP_PASS),
        EXIT,
    ]);
    let end = code.len();
    code.extend([mov_constant(0, XDP_DROP), EXIT]);
    for (at, instruction) in code.iter_mut().enumerate() {
        if is_conditional_jump(*instruction) {
            *instruction |= ((end - at - 1) as u64) << 16;
        }
    }
    code
}

const EXIT: u64 = 0x95;

/// Code, destination and source register, offset, constant: struct bpf_insn, little-endian.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u16 as u64) << 16
        | (constant as u32 as u64) << 32
}

fn is_conditional_jump(instruction: u64) -> bool {
    matches!(instruction as u8, 0x2d | 0x15)
}

fn mov(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}
fn mov_constant(to: u8, constant: i32) -> u64 {
    instruction(0xb7, to, 0, 0, constant)
}
fn add_constant(to: u8, constant: i32) -> u64 {
    instruction(0x07, to, 0, 0, constant)
}
fn modulo_constant(to: u8, constant: i32) -> u64 {
    instruction(0x97, to, 0, 0, constant)
}
fn shift_right_constant(to: u8, constant: i32) -> u64 {
    instruction(0x77, to, 0, 0, constant)
}
fn xor_constant(to: u8, constant: i32) -> u64 {
    instruction(0xa7, to, 0, 0, constant)
}
fn load32(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x61, to, from, offset, 0)
}
fn load64(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x79, to, from, offset, 0)
}
fn store16(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x6b, to, from, offset, 0)
}
fn store64(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x7b, to, from, offset, 0)
}
fn store32_constant(to: u8, offset: i16, constant: i32) -> u64 {
    instruction(0x62, to, 0, offset, constant)
}
fn jump_if_greater(left: u8, right: u8, offset: i16) -> u64 {
    instruction(0x2d, left, right, offset, 0)
}
fn jump_if_zero(register: u8, offset: i16) -> u64 {
    instruction(0x15, register, 0, offset, 0)
}
fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}
/// A load of 64 bits is two instructions long.
fn load_map(to: u8, descriptor: i32) -> [u64; 2] {
    [instruction(0x18, to, PSEUDO_MAP_FD, 0, descriptor), 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_verifier_accepts_it_and_jumps_end_at_the_drop() {
        let counter = crate::bpf::one_word().unwrap();
        for (flows, first) in [(0, 1 << 20), (1, 0), (200_000, 0)] {
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(&counter);
            let code = packet_source(descriptor, flows, first);
            crate::bpf::load_xdp(&code).unwrap();
            let targets = code.iter().enumerate().filter(|(_, code)| is_conditional_jump(**code));
            for (at, jump) in targets {
                let target = at + 1 + ((jump >> 16) as u16 as usize);
                assert_eq!(code[target], mov_constant(0, XDP_DROP));
            }
        }
        let error = format!("{:#}", crate::bpf::load_xdp(&[EXIT]).unwrap_err());
        assert!(error.contains("R0 !read_ok"), "{error}");
    }
}
