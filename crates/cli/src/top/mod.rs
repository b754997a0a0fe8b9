//! `top`: who is in the connection table of this machine.

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use notrack_netlink::conntrack::{Conntrack, Filter, TupleFilter};
use notrack_netlink::tracking::{Tracked, tracking};

mod aggregate;
mod app;
mod figures;
mod heavy;
mod json;
mod live;
mod output;
#[cfg(test)]
mod sample;
mod view;

use aggregate::{Aggregate, By, Groups, Sort};
use figures::Figures;

const HELP: &str = "\
On a terminal top shows a live view, else one reading.

It sees the network namespace that it runs in, and needs root or CAP_NET_ADMIN there: run it on the node \
itself, or in a pod of the host network that has the capability.

NAT counts the entries that are translated: their traffic cannot be bypassed. KEPT counts those that a \
helper, a mark or a label keeps tracked.

Reading all entries costs the kernel some microseconds for each, and slows new connections down meanwhile. \
With --protocol and --port, or with an IPv4 --peer, the kernel leaves the others out.";

/// Arguments of `top`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Group entries by this; without it one reading shows every grouping, the live view starts with ports.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Sort groups by this, the largest first.
    #[arg(long, value_enum, default_value = "entries")]
    sort: Sort,
    /// Show so many groups of each kind (of one reading).
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 10)]
    number: usize,
    /// Form of the output; json means one reading.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Only this protocol: a name such as tcp, or a number.
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    /// Only connections to this port of the server.
    #[arg(long)]
    port: Option<u16>,
    /// Only connections that this address began.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<IpAddr>,
    /// One reading, on a terminal too.
    #[arg(long)]
    once: bool,
    /// Seconds between two readings of the entries in the live view; it rests at least nine times as long
    /// as a reading takes. The figures at its top are read every second.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For people, with more columns.
    Wide,
    /// For programs.
    Json,
}

impl Args {
    fn filter(&self) -> Filter {
        Filter {
            protocol: self.protocol,
            original: TupleFilter {
                source: self.peer,
                destination_port: self.port,
                ..TupleFilter::default()
            },
            ..Filter::default()
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let mut table = Conntrack::open()?;
    // Refused here, before the terminal is changed, where the capability is missing.
    let figures = Figures::read(&mut table)?;
    if args.once || args.output == Output::Json || !io::stdout().is_terminal() {
        let text = once(&args, &mut table, &figures)?;
        return crate::stdout::print(&text);
    }
    live::run(&args, table, figures)
}

/// One reading.
fn once(args: &Args, table: &mut Conntrack, figures: &Figures) -> Result<String> {
    let wanted = args.by.map_or_else(|| By::ALL.to_vec(), |by| vec![by]);
    let mut aggregate = Aggregate::new(&wanted);
    table.dump(&args.filter(), |entry| aggregate.add(entry))?;
    if figures.stats.entries == 0 && args.output != Output::Json && nothing_tracks() {
        return Ok(output::figures(figures, args.output == Output::Wide) + "\n" + OFF + "\n");
    }
    let groups = wanted.iter().filter_map(|by| aggregate.largest(*by, args.number, args.sort));
    render(args.output, figures, &aggregate, &groups.collect::<Vec<_>>())
}

fn render(form: Output, figures: &Figures, aggregate: &Aggregate, groups: &[Groups]) -> Result<String> {
    let total = aggregate.total().entries;
    if form == Output::Json {
        return Ok(json::json(figures, total, groups)? + "\n");
    }
    let wide = form == Output::Wide;
    let mut text = output::figures(figures, wide);
    if total == 0 {
        return Ok(text + "\n" + NOTHING + "\n");
    }
    for groups in groups {
        text += "\n";
        text += &output::groups(groups, total, wide);
    }
    Ok(text)
}

const NOTHING: &str = "No entries found.";
const OFF: &str = "No entries: nothing in this network namespace tracks connections.";

/// Whether an empty table is no wonder.
fn nothing_tracks() -> bool {
    // Every table counts here, our own as well: no table has an empty name.
    tracking("").is_ok_and(|found| found.v4 == Tracked::No && found.v6 == Tracked::No)
}

fn protocol(text: &str) -> Result<u8, String> {
    let known = output::PROTOCOLS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    match (known, text.parse()) {
        (Some((_, number)), _) => Ok(*number),
        (None, Ok(number)) => Ok(number),
        (None, Err(_)) => {
            let names: Vec<&str> = output::PROTOCOLS.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "no protocol of that name; known are {}, and numbers from 0 to 255",
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("top").chain(words.split_whitespace());
        Program::try_parse_from(words).map(|program| program.args)
    }

    #[test]
    fn arguments_become_a_filter() {
        let args = parse("--protocol UDP --port 53 --peer 10.0.0.1").unwrap();
        let filter = args.filter();
        assert_eq!(filter.protocol, Some(17));
        assert_eq!(filter.original.destination_port, Some(53));
        assert_eq!(filter.original.source, Some([10, 0, 0, 1].into()));
        assert_eq!(parse("--protocol 89").unwrap().protocol, Some(89));
        assert_eq!(parse("").unwrap().filter(), Filter::default());
    }

    #[test]
    fn mistakes_are_explained() {
        let said = parse("--protocol tpc").unwrap_err().to_string();
        assert!(said.contains("udp") && said.contains("0 to 255"), "{said}");
        assert!(parse("--interval 0").is_err());
        assert!(parse("--protocol 256").is_err());
    }

    #[test]
    fn an_empty_table_is_told_as_such() {
        let aggregate = Aggregate::new(&By::ALL);
        let text = render(Output::Table, &sample::figures(), &aggregate, &[]).unwrap();
        assert!(text.ends_with("\nNo entries found.\n"), "{text}");
    }
}
