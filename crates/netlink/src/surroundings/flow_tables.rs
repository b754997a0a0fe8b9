//! nf_tables' flow tables.

use notrack_core::host::{FlowTable, TableFamily};

use crate::attr::{AttrError, Message, nfnl_type};
use crate::socket::{NetlinkError, Socket, flags};

const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFT_MSG_GETFLOWTABLE: u8 = 23;
const NFTA_FLOWTABLE_TABLE: u16 = 1;
const NFTA_FLOWTABLE_NAME: u16 = 2;
const NFTA_FLOWTABLE_HOOK: u16 = 3;
const NFTA_FLOWTABLE_HOOK_DEVS: u16 = 3;
const NFTA_DEVICE_NAME: u16 = 1;
const NFPROTO_INET: u8 = 1;

/// Every flow table.
pub(super) fn read() -> Result<Vec<FlowTable>, NetlinkError> {
    let mut tables = Vec::new();
    let kind = nfnl_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETFLOWTABLE);
    let what = "list the flow tables of nftables";
    let listed = Socket::open()?.request(
        what,
        (kind, flags::DUMP, libc::AF_UNSPEC as u8),
        |_| {},
        |message| {
            tables.extend(flow_table(&message)?);
            Ok(())
        },
    );
    match listed {
        // Kernels without nf_tables, and those before 4.16.
        Err(NetlinkError::Kernel { errno: libc::EINVAL | libc::EOPNOTSUPP, .. }) => Ok(Vec::new()),
        listed => listed.map(|()| tables),
    }
}

fn flow_table(message: &Message<'_>) -> Result<Option<FlowTable>, AttrError> {
    let family = match message.family()? {
        NFPROTO_INET => TableFamily::Inet,
        family if i32::from(family) == libc::AF_INET => TableFamily::Ip,
        family if i32::from(family) == libc::AF_INET6 => TableFamily::Ip6,
        _ => return Ok(None),
    };
    let mut read = FlowTable { family, table: String::new(), name: String::new(), devices: Vec::new() };
    for attr in message.attrs()? {
        let attr = attr?;
        match attr.kind {
            NFTA_FLOWTABLE_TABLE => read.table = attr.text()?.to_owned(),
            NFTA_FLOWTABLE_NAME => read.name = attr.text()?.to_owned(),
            NFTA_FLOWTABLE_HOOK => {
                let Some(devices) = attr.nested().find(NFTA_FLOWTABLE_HOOK_DEVS)? else { continue };
                for device in devices.nested() {
                    let device = device?;
                    if device.kind == NFTA_DEVICE_NAME {
                        read.devices.push(device.text()?.to_owned());
                    }
                }
                read.devices.sort();
            }
            _ => {}
        }
    }
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::{Buffer, Messages};

    /// Laid out as `nf_tables_fill_flowtable_info` does.
    #[test]
    fn a_flow_table_has_its_devices() {
        let mut reply = Buffer::new();
        reply.nfnl(nfnl_type(NFNL_SUBSYS_NFTABLES, 22), 2, 1, NFPROTO_INET, 0, |message| {
            message.text(NFTA_FLOWTABLE_TABLE, "site");
            message.text(NFTA_FLOWTABLE_NAME, "fast");
            message.be32(4, 1);
            message.be64(5, 7);
            message.nested(NFTA_FLOWTABLE_HOOK, |hook| {
                hook.be32(1, 0);
                hook.be32(2, 0);
                hook.nested(NFTA_FLOWTABLE_HOOK_DEVS, |devices| {
                    devices.text(NFTA_DEVICE_NAME, "eth1");
                    devices.text(NFTA_DEVICE_NAME, "eth0");
                });
            });
        });
        let bytes = reply.finish().unwrap();
        let read = flow_table(&Messages::new(&bytes).next().unwrap().unwrap()).unwrap().unwrap();
        assert_eq!(read.family, TableFamily::Inet);
        assert_eq!((read.table.as_str(), read.name.as_str()), ("site", "fast"));
        assert_eq!(read.devices, ["eth0", "eth1"]);
    }
}
