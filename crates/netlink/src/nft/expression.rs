//! Our expressions as libnftnl's, for nftnl's rules.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

use nftnl::Rule;
use nftnl::expr::Expression;
use nftnl::nftnl_sys as sys;
use notrack_core::nf::Verdict;
use notrack_core::nf::expr::{CmpOp, Expr, MetaKey, PayloadBase};

use super::uapi;

/// An expression on its way into a rule.
pub(super) struct Lowered<'a>(pub &'a Expr);

/// An expression of libnftnl that is being filled.
struct Raw(NonNull<sys::nftnl_expr>);

impl Raw {
    fn new(name: &CStr) -> Raw {
        // SAFETY: `name` is a C string; libnftnl copies what it needs of it.
        let expr = unsafe { sys::nftnl_expr_alloc(name.as_ptr()) };
        // Null means that memory is out (the names are all known to libnftnl): abort, as nftnl's own types do.
        NonNull::new(expr).map_or_else(|| std::process::abort(), Raw)
    }

    fn u32(self, attribute: u32, value: u32) -> Self {
        // SAFETY: `self.0` is a live expression; an attribute that it does not have is ignored.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn u64(self, attribute: u32, value: u64) -> Self {
        // SAFETY: as for `u32`.
        unsafe { sys::nftnl_expr_set_u64(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn data(self, attribute: u32, bytes: &[u8]) -> Self {
        // SAFETY: libnftnl copies `bytes.len()` bytes from the pointer, which a slice guarantees to be readable.
        unsafe {
            sys::nftnl_expr_set(
                self.0.as_ptr(),
                attribute as u16,
                bytes.as_ptr().cast::<c_void>(),
                bytes.len() as u32,
            )
        };
        self
    }

    fn text(self, attribute: u32, text: &str) -> Self {
        // Names come from validated policies; one with a NUL would only be cut short, and read back as different.
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: libnftnl copies the C string.
        unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), attribute as u16, text.as_ptr()) };
        self
    }
}

impl Expression for Lowered<'_> {
    fn to_expr(&self, _: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        use uapi::NFT_REG_1;
        let raw = match self.0 {
            Expr::Payload { base, offset, len, register } => Raw::new(c"payload")
                .u32(
                    sys::NFTNL_EXPR_PAYLOAD_BASE,
                    match base {
                        PayloadBase::Network => uapi::NFT_PAYLOAD_NETWORK_HEADER,
                        PayloadBase::Transport => uapi::NFT_PAYLOAD_TRANSPORT_HEADER,
                    },
                )
                .u32(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset)
                .u32(sys::NFTNL_EXPR_PAYLOAD_LEN, *len)
                .u32(sys::NFTNL_EXPR_PAYLOAD_DREG, *register),
            Expr::Meta { key, register } => Raw::new(c"meta")
                .u32(sys::NFTNL_EXPR_META_KEY, meta_key(*key))
                .u32(sys::NFTNL_EXPR_META_DREG, *register),
            Expr::CtState => Raw::new(c"ct")
                .u32(sys::NFTNL_EXPR_CT_KEY, uapi::NFT_CT_STATE)
                .u32(sys::NFTNL_EXPR_CT_DREG, NFT_REG_1),
            Expr::Cmp { op, data } => Raw::new(c"cmp")
                .u32(sys::NFTNL_EXPR_CMP_SREG, NFT_REG_1)
                .u32(
                    sys::NFTNL_EXPR_CMP_OP,
                    match op {
                        CmpOp::Eq => uapi::NFT_CMP_EQ,
                        CmpOp::Neq => uapi::NFT_CMP_NEQ,
                    },
                )
                .data(sys::NFTNL_EXPR_CMP_DATA, data),
            Expr::Mask { mask } => Raw::new(c"bitwise")
                .u32(sys::NFTNL_EXPR_BITWISE_SREG, NFT_REG_1)
                .u32(sys::NFTNL_EXPR_BITWISE_DREG, NFT_REG_1)
                .u32(sys::NFTNL_EXPR_BITWISE_LEN, mask.len() as u32)
                .data(sys::NFTNL_EXPR_BITWISE_MASK, mask)
                .data(sys::NFTNL_EXPR_BITWISE_XOR, &vec![0; mask.len()]),
            Expr::Lookup { set, inverted, verdict_map } => {
                let raw = Raw::new(c"lookup")
                    .text(sys::NFTNL_EXPR_LOOKUP_SET, set)
                    .u32(sys::NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
                match (verdict_map, inverted) {
                    (true, _) => raw.u32(sys::NFTNL_EXPR_LOOKUP_DREG, uapi::NFT_REG_VERDICT),
                    (false, true) => raw.u32(sys::NFTNL_EXPR_LOOKUP_FLAGS, uapi::NFT_LOOKUP_F_INV),
                    (false, false) => raw,
                }
            }
            Expr::Immediate(verdict) => {
                let raw = Raw::new(c"immediate")
                    .u32(sys::NFTNL_EXPR_IMM_DREG, uapi::NFT_REG_VERDICT)
                    .u32(sys::NFTNL_EXPR_IMM_VERDICT, verdict_code(verdict));
                match verdict.target() {
                    Some(chain) => raw.text(sys::NFTNL_EXPR_IMM_CHAIN, chain),
                    None => raw,
                }
            }
            Expr::Notrack => Raw::new(c"notrack"),
            Expr::Counter(name) => Raw::new(c"objref")
                .u32(sys::NFTNL_EXPR_OBJREF_IMM_TYPE, uapi::NFT_OBJECT_COUNTER)
                .text(sys::NFTNL_EXPR_OBJREF_IMM_NAME, name),
            Expr::RateOver { per_second } => Raw::new(c"limit")
                .u64(sys::NFTNL_EXPR_LIMIT_RATE, u64::from(*per_second))
                .u64(sys::NFTNL_EXPR_LIMIT_UNIT, 1)
                .u32(sys::NFTNL_EXPR_LIMIT_BURST, *per_second)
                .u32(sys::NFTNL_EXPR_LIMIT_TYPE, 0)
                .u32(sys::NFTNL_EXPR_LIMIT_FLAGS, uapi::NFT_LIMIT_F_INV),
            // Nothing of ours is foreign: such a rule is only ever read. The kernel refuses an empty counter
            // reference, so that even a mistake here changes nothing.
            Expr::Foreign(_) => Raw::new(c"objref"),
        };
        raw.0
    }
}

/// The kernel's number of a meta key.
pub(super) fn meta_key(key: MetaKey) -> u32 {
    match key {
        MetaKey::Iif => uapi::NFT_META_IIF,
        MetaKey::Oif => uapi::NFT_META_OIF,
        MetaKey::IifName => uapi::NFT_META_IIFNAME,
        MetaKey::OifName => uapi::NFT_META_OIFNAME,
        MetaKey::NfProto => uapi::NFT_META_NFPROTO,
        MetaKey::L4Proto => uapi::NFT_META_L4PROTO,
    }
}

/// The kernel's number of a verdict.
pub(super) fn verdict_code(verdict: &Verdict) -> u32 {
    match verdict {
        Verdict::Drop => uapi::NF_DROP,
        Verdict::Accept => uapi::NF_ACCEPT,
        Verdict::Jump(_) => uapi::NFT_JUMP.cast_unsigned(),
        Verdict::Goto(_) => uapi::NFT_GOTO.cast_unsigned(),
        Verdict::Return => uapi::NFT_RETURN.cast_unsigned(),
    }
}
