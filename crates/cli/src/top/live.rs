//! The live view's loop: figures every second, entries at a pace, keys at once.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notrack_netlink::conntrack::{Conntrack, Filter};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use super::aggregate::{Aggregate, By};
use super::app::{App, Reading, Wish};
use super::figures::Figures;
use super::{Args, Output, output, view};

const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the reader's answer.
const TICK: Duration = Duration::from_millis(200);
/// The part of the time that may go into reading entries: a dump slows new connections down.
const REST: u32 = 9;

/// Shows the view until it is left. The terminal is restored on every way out, a panic too.
pub fn run(args: &Args, table: Conntrack, figures: Figures) -> Result<()> {
    let reader = Reader::start(args.filter())?;
    let by = args.by.unwrap_or(By::Port);
    let app = App::new(by, args.sort, args.output == Output::Wide, words(args), figures);
    let mut terminal = ratatui::try_init().context("cannot use this terminal (--once prints one reading)")?;
    let shown = show(&mut terminal, app, table, &reader, args.interval());
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut DefaultTerminal,
    mut app: App,
    mut table: Conntrack,
    reader: &Reader,
    interval: Duration,
) -> Result<()> {
    let mut next_figures = Instant::now() + FIGURES_EVERY;
    let mut next_reading = Instant::now();
    let mut read_at = next_reading;
    loop {
        let now = Instant::now();
        if now >= next_reading && !app.is_reading {
            app.is_reading = true;
            reader.ask();
        }
        if let Some(answer) = reader.answer() {
            let took = answer.as_ref().map_or(Duration::ZERO, |reading| reading.took);
            next_reading = now + interval.max(took * REST);
            read_at = now;
            app.is_reading = false;
            match answer {
                Ok(reading) => (app.reading, app.error) = (Some((reading, Duration::ZERO)), None),
                Err(error) => app.error = Some(format!("{error:#}")),
            }
        }
        if now >= next_figures {
            next_figures = now + FIGURES_EVERY;
            match Figures::read(&mut table) {
                Ok(figures) => app.update(figures),
                Err(error) => app.error = Some(format!("{error:#}")),
            }
        }
        if let Some((_, age)) = &mut app.reading {
            *age = now - read_at;
        }
        terminal.draw(|frame| view::draw(frame, &app))?;
        if event::poll(TICK)? {
            let Event::Key(key) = event::read()? else { continue };
            match app.key(key) {
                Some(Wish::Quit) => return Ok(()),
                // Not before the rest after the last reading is over.
                Some(Wish::Read) => {
                    let took = app.reading.as_ref().map_or(Duration::ZERO, |(reading, _)| reading.took);
                    next_reading = next_reading.min(read_at + took * REST);
                }
                Some(Wish::Draw) | None => {}
            }
        }
    }
}

/// Reads the entries beside the view, which stays awake meanwhile.
struct Reader {
    ask: Sender<()>,
    answers: Receiver<Result<Reading>>,
}

impl Reader {
    fn start(filter: Filter) -> Result<Self> {
        // A socket of its own, opened here: the same network namespace as the view's.
        let mut table = Conntrack::open()?;
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        thread::Builder::new().name("reader".into()).spawn(move || {
            while asked.recv().is_ok() {
                if answer.send(read(&mut table, &filter)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers })
    }

    fn ask(&self) {
        // It ends only when this end is gone.
        let _ = self.ask.send(());
    }

    fn answer(&self) -> Option<Result<Reading>> {
        self.answers.try_recv().ok()
    }
}

fn read(table: &mut Conntrack, filter: &Filter) -> Result<Reading> {
    let begin = Instant::now();
    let mut aggregate = Aggregate::new(&By::ALL);
    table.dump(filter, |entry| aggregate.add(entry))?;
    Ok(Reading { aggregate, took: begin.elapsed() })
}

/// The filter in words; nothing where all is shown.
fn words(args: &Args) -> String {
    let words = [
        args.protocol.map(|protocol| format!("protocol {}", output::protocol_name(protocol))),
        args.port.map(|port| format!("port {port}")),
        args.peer.map(|peer| format!("peer {peer}")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
