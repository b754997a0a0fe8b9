//! trial
#![allow(missing_docs)]
mod bpf;
mod program;
mod source;
use source::*;
fn main() -> anyhow::Result<()> {
    for (name, rules) in [
        ("none", ""),
        (
            "tracked",
            "table inet t { chain i { type filter hook input priority 0; ct state established,related accept; accept; }\n}",
        ),
        (
            "notrack",
            "table inet t { chain p { type filter hook prerouting priority -300; notrack; }\nchain i { type filter hook input priority 0; ct state established,related accept; accept; }\n}",
        ),
    ] {
        let host = notrack_lab::Namespace::new("b")?;
        let source = Source::new(&host)?;
        host.nft(rules)?;
        for t in Traffic::ALL {
            if !rules.is_empty() {
                let _ = host.command("conntrack").arg("-F").output();
            }
            source.send(t, if t == Traffic::ManyFlows { 200_000 } else { 20_000 })?;
            if t == Traffic::NewFlows {
                let _ = host.command("conntrack").arg("-F").output();
            }
            let v: Vec<f64> = (0..5)
                .map(|_| {
                    if t == Traffic::NewFlows {
                        let _ = host.command("conntrack").arg("-F").output();
                    }
                    source.send(t, 200_000)
                })
                .collect::<Result<_, _>>()?;
            println!(
                "{name:10} {:10} {:.0?} count {}",
                t.name(),
                v,
                host.sysctl("net.netfilter.nf_conntrack_count")?
            );
        }
        println!("{}", host.ip("-s link show eth0")?);
        let o = notrack_lab::run_ok(
            host.command("sh").args(["-c", "cat /proc/net/snmp | grep -E '^(Ip|Udp):'"]),
        )?;
        println!("{o}");
    }
    Ok(())
}
