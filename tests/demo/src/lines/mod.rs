//! The things shown. Each plays on nodes of its own and returns its part of the table.

mod dns;
mod every_port;
mod firewall;
mod full;
mod gateway;
mod http;
mod service;

pub use dns::dns;
pub use every_port::every_port;
pub use firewall::firewall;
pub use full::full;
pub use gateway::gateway;
pub use http::http;
pub use service::service;

use anyhow::Result;

use crate::load::{Load, median};
use crate::report::{Figure, Heads, Row};
use crate::site::Site;

/// What the columns of a line are that shows what a plain rule breaks.
const NAIVE: Heads = ["naive rules", "notrack"];
/// New connections that are tried at such a line.
const TRIES: u64 = 50;

fn lost(count: u64) -> Figure {
    Figure::Share(count as f64 / TRIES as f64)
}

/// Of two seconds each, without and with a policy.
const ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 15;
const SECONDS: u32 = 2;

/// Throughput is noisy, the more so on two busy cores. What is promised is that a bypass does not
/// cost any; this much less is still within the noise.
const NOT_SLOWER: f64 = 0.85;

/// Whether the policy costs no throughput. Each round is its own pair: the machine's mood changes
/// from round to round.
fn not_slower(rounds: &[[Load; 2]]) -> bool {
    median(rounds.iter().map(|round| round[1].per_second / round[0].per_second)) >= NOT_SLOWER
}

/// Plays a load on two nodes, without and with a policy, in turns: whatever else the machine does
/// meets both alike. Who begins changes too. On a machine too busy for a clear answer there are
/// more rounds; a policy that does slow it down fails those as well.
fn in_turns(
    [without, with]: [&Site; 2],
    play: impl Fn(&str, &Site) -> Result<Load>,
) -> Result<Vec<[Load; 2]>> {
    let mut rounds = Vec::new();
    while rounds.len() < ROUNDS || !not_slower(&rounds) && rounds.len() < MOST_ROUNDS {
        let round = rounds.len() + 1;
        let with = || play(&format!("round {round}, with the policy"), with);
        let without = || play(&format!("round {round}, without"), without);
        rounds.push(if round % 2 == 1 {
            [without()?, with()?]
        } else {
            let with = with()?;
            [without()?, with]
        });
    }
    Ok(rounds)
}

/// The rows that a load is judged by; each round is without and with the policy.
fn compare(
    rate: (&'static str, &'static str),
    rounds: &[[Load; 2]],
    entries: [u64; 2],
    bypassed: u64,
) -> Vec<Row> {
    let rates = [0, 1].map(|side| median(rounds.iter().map(|round| round[side].per_second)) as u64);
    let errors = [0, 1].map(|side| rounds.iter().map(|round| round[side].errors).sum());
    let row = |name, what, [without, with]: [u64; 2]| {
        Row::new(name, what, Figure::Count(without), Figure::Count(with))
    };
    vec![
        row("entries", "entries left in the table", entries).promised(entries[0] > 0 && entries[1] == 0),
        row("bypassed", "packets that skipped tracking", [0, bypassed]).promised(bypassed > 0),
        row(rate.0, rate.1, rates).promised(not_slower(rounds)),
        row("errors", "errors", errors).promised(errors == [0, 0]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(entries: [u64; 2], without: Load, with: Load) -> Vec<Option<bool>> {
        let rounds = [[without, with]; 3];
        compare(("rate", "rate"), &rounds, entries, 1).into_iter().map(|row| row.holds).collect()
    }

    #[test]
    fn a_load_is_judged_by_entries_rate_and_errors() {
        let load = |per_second, errors| Load { per_second, errors };
        let good = [Some(true); 4];
        assert_eq!(judged([9, 0], load(100.0, 0), load(90.0, 0)), good);
        assert_eq!(judged([9, 1], load(100.0, 0), load(90.0, 0))[0], Some(false));
        assert_eq!(judged([0, 0], load(100.0, 0), load(90.0, 0))[0], Some(false), "nothing tracked");
        assert_eq!(judged([9, 0], load(100.0, 0), load(80.0, 0))[2], Some(false));
        assert_eq!(judged([9, 0], load(0.0, 0), load(0.0, 0))[2], Some(false), "no answers at all");
        assert_eq!(judged([9, 0], load(100.0, 0), load(100.0, 1))[3], Some(false));
    }
}
