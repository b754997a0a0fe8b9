//! What the live view knows, and what keys do to it: no terminal, no clock.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::aggregate::{Aggregate, By, Sort};
use super::figures::Figures;

/// Seconds of history: wider than most terminals.
const HISTORY: usize = 300;

/// One reading of the entries.
#[derive(Debug)]
pub struct Reading {
    /// The groups.
    pub aggregate: Aggregate,
    /// How long it took.
    pub took: Duration,
}

/// The live view.
#[derive(Debug)]
pub struct App {
    /// Grouping shown.
    pub by: By,
    /// Order shown.
    pub sort: Sort,
    /// More columns.
    pub wide: bool,
    /// Groups scrolled past.
    pub offset: usize,
    /// The latest figures.
    pub figures: Figures,
    /// Those of the start: what went wrong since then matters more than what did since boot.
    pub first: Figures,
    /// Entries, second by second, the latest last.
    pub history: VecDeque<u64>,
    /// The latest reading, and its age.
    pub reading: Option<(Reading, Duration)>,
    /// Whether one is under way.
    pub is_reading: bool,
    /// What went wrong last.
    pub error: Option<String>,
    /// The filter in words.
    pub filter: String,
}

/// What a key asks the loop to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Draw again.
    Draw,
    /// Read the entries now.
    Read,
    /// End.
    Quit,
}

impl App {
    /// With the first figures, and nothing read yet.
    pub fn new(by: By, sort: Sort, wide: bool, filter: String, figures: Figures) -> Self {
        Self {
            by,
            sort,
            wide,
            offset: 0,
            figures,
            first: figures,
            history: VecDeque::from([figures.stats.entries.into()]),
            reading: None,
            is_reading: false,
            error: None,
            filter,
        }
    }

    /// Takes new figures.
    pub fn update(&mut self, figures: Figures) {
        self.figures = figures;
        self.history.push_back(figures.stats.entries.into());
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// Does what a key says.
    pub fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
            KeyCode::Char('c') if control => return Some(Wish::Quit),
            KeyCode::Char('r') => return Some(Wish::Read),
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(By::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => {
                let index = digit as usize - '1' as usize;
                self.by = *By::ALL.get(index)?;
                self.offset = 0;
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('w') => self.wide = !self.wide,
            KeyCode::Up => self.offset = self.offset.saturating_sub(1),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            KeyCode::Down => self.offset += 1,
            KeyCode::PageDown => self.offset += PAGE,
            KeyCode::Home => self.offset = 0,
            _ => return None,
        }
        self.offset = self.offset.min(self.groups().saturating_sub(1));
        Some(Wish::Draw)
    }

    fn turn(&mut self, steps: usize) {
        let at = By::ALL.iter().position(|by| *by == self.by).unwrap_or(0);
        self.by = By::ALL[(at + steps) % By::ALL.len()];
        self.offset = 0;
    }

    fn groups(&self) -> usize {
        let reading = self.reading.as_ref().map(|(reading, _)| &reading.aggregate);
        reading.map_or(0, |aggregate| aggregate.groups(self.by))
    }
}

/// Rows of a page.
const PAGE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample;

    fn app() -> App {
        let mut aggregate = Aggregate::new(&By::ALL);
        sample::entries().iter().for_each(|entry| aggregate.add(entry));
        let reading = Reading { aggregate, took: Duration::from_millis(80) };
        let mut app = App::new(By::Port, Sort::Entries, false, String::new(), sample::figures());
        app.reading = Some((reading, Duration::ZERO));
        app
    }

    fn press(app: &mut App, code: KeyCode) -> Option<Wish> {
        app.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_turn_pages_and_orders() {
        let mut app = app();
        assert_eq!(press(&mut app, KeyCode::Tab), Some(Wish::Draw));
        assert_eq!(app.by, By::Peer);
        press(&mut app, KeyCode::Right);
        press(&mut app, KeyCode::Right);
        assert_eq!(app.by, By::Protocol, "round and round");
        press(&mut app, KeyCode::Left);
        assert_eq!(app.by, By::Pair);
        press(&mut app, KeyCode::Char('2'));
        assert_eq!(app.by, By::State);
        press(&mut app, KeyCode::Char('s'));
        assert_eq!(app.sort, Sort::Nat);
        press(&mut app, KeyCode::Char('w'));
        assert!(app.wide);
    }

    #[test]
    fn scrolling_stops_at_the_last_group() {
        let mut app = app();
        for _ in 0..20 {
            press(&mut app, KeyCode::Down);
        }
        assert_eq!(app.offset, 2, "443, 53 and none");
        press(&mut app, KeyCode::PageUp);
        assert_eq!(app.offset, 0);
    }

    #[test]
    fn keys_that_leave() {
        let mut app = app();
        assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Wish::Quit));
        assert_eq!(press(&mut app, KeyCode::Char('c')), None);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.key(interrupt), Some(Wish::Quit));
        assert_eq!(press(&mut app, KeyCode::Char('r')), Some(Wish::Read));
    }

    #[test]
    fn history_is_bounded() {
        let mut app = app();
        for _ in 0..2 * HISTORY {
            app.update(sample::figures());
        }
        assert_eq!(app.history.len(), HISTORY);
    }
}
