//! The kernel's own list of hooks (`net/netfilter/nfnetlink_hook.c`, kernel 5.14, where it is built in).

use crate::attr::{AttrError, Attrs, nfnl_type};
use crate::conntrack::Family;
use crate::socket::{NetlinkError, Socket, flags};

const NFNL_SUBSYS_HOOK: u8 = 12;
const NFNL_MSG_HOOK_GET: u8 = 0;
const NFNLA_HOOK_HOOKNUM: u16 = 1;
const NFNLA_HOOK_PRIORITY: u16 = 2;
const NFNLA_HOOK_FUNCTION_NAME: u16 = 4;
const NFNLA_HOOK_CHAIN_INFO: u16 = 6;
const NF_INET_PRE_ROUTING: u32 = 0;
/// `NF_IP_PRI_CONNTRACK`.
const PRIORITY: i32 = -200;

/// The hook function of tracking, if it is registered; nothing at all where this kernel cannot tell.
pub(super) fn registered(
    socket: &mut Socket,
    family: Family,
) -> Result<Option<Option<String>>, NetlinkError> {
    let mut function = None;
    let asked = socket.request(
        "list the kernel's hooks",
        (nfnl_type(NFNL_SUBSYS_HOOK, NFNL_MSG_HOOK_GET), flags::DUMP, family.number()),
        |writer| writer.be32(NFNLA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING),
        |message| {
            if let Some(found) = tracking_function(message.attrs()?)? {
                function = Some(found);
            }
            Ok(())
        },
    );
    match asked {
        Ok(()) => Ok(Some(function)),
        // A subsystem that is not there is EINVAL (`nfnetlink_rcv_msg`).
        Err(NetlinkError::Kernel { errno: libc::EINVAL | libc::EOPNOTSUPP, .. })
        | Err(NetlinkError::Interrupted { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The function, if this hook is that of tracking: at its priority, and no chain of nftables.
fn tracking_function(attrs: Attrs<'_>) -> Result<Option<String>, AttrError> {
    let (mut priority, mut name, mut chain) = (0, "", false);
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            NFNLA_HOOK_PRIORITY => priority = attr.be32()?.cast_signed(),
            NFNLA_HOOK_FUNCTION_NAME => name = attr.text()?,
            NFNLA_HOOK_CHAIN_INFO => chain = true,
            _ => {}
        }
    }
    // A kernel without symbols gives an address for the name, or none.
    let named = name.contains("conntrack") || name.is_empty() || name.starts_with("0x");
    Ok((priority == PRIORITY && !chain && named).then(|| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::{Buffer, Messages};

    /// A hook as `nfnl_hook_dump_one` writes it.
    fn hook(priority: i32, name: &str, chain: bool) -> Option<String> {
        let mut buffer = Buffer::new();
        buffer.nfnl(0, 0, 0, 2, 0, |writer| {
            if !name.is_empty() {
                writer.text(NFNLA_HOOK_FUNCTION_NAME, name);
            }
            writer.be32(NFNLA_HOOK_HOOKNUM, 0);
            writer.be32(NFNLA_HOOK_PRIORITY, priority.cast_unsigned());
            if chain {
                writer.nested(NFNLA_HOOK_CHAIN_INFO, |_| {});
            }
        });
        let bytes = buffer.finish().unwrap();
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        tracking_function(message.attrs().unwrap()).unwrap()
    }

    #[test]
    fn tracking_is_told_from_its_neighbours() {
        assert_eq!(hook(-200, "ipv4_conntrack_in", false).as_deref(), Some("ipv4_conntrack_in"));
        assert_eq!(hook(-200, "", false).as_deref(), Some(""));
        assert_eq!(hook(-400, "ipv4_conntrack_defrag", false), None);
        assert_eq!(hook(-200, "nft_do_chain_inet", true), None);
        assert_eq!(hook(-200, "selinux_ip_forward", false), None);
    }
}
