//! The live view's picture.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Row, Sparkline, Table, Tabs};

use super::aggregate::{Aggregate, By, Sort};
use super::app::App;
use super::{NOTHING, output};

const KEYS: &str = "q quit  tab group  s sort  w wide  r read now  \u{2191}\u{2193} scroll";
/// Where a table wants attention, and where it is about to drop new connections.
const WARN: f64 = 0.75;
const ALARM: f64 = 0.9;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let [gauge, history, counters, tabs, groups, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    draw_gauge(frame, gauge, app);
    draw_history(frame, history, app);
    frame.render_widget(Paragraph::new(counted(app)), counters);
    draw_tabs(frame, tabs, app);
    match &app.reading {
        Some((reading, _)) => draw_groups(frame, groups, app, &reading.aggregate),
        None => frame.render_widget(Paragraph::new("reading the table...").style(DIM), groups),
    }
    let footer_text = vec![Line::from(status(app)), Line::styled(KEYS, DIM)];
    frame.render_widget(Paragraph::new(footer_text), footer);
}

fn draw_gauge(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let stats = app.figures.stats;
    let part = stats.utilisation();
    let color = match part {
        Some(part) if part >= ALARM => Color::Red,
        Some(part) if part >= WARN => Color::Yellow,
        _ => Color::Green,
    };
    let label = match part {
        Some(_) => format!("{} of {} entries ({})", stats.entries, stats.max, app.figures.used()),
        None => format!("{} entries, no limit", stats.entries),
    };
    let gauge = Gauge::default()
        .gauge_style(Style::new().fg(color))
        .ratio(part.unwrap_or(0.0).clamp(0.0, 1.0))
        .label(label);
    frame.render_widget(gauge, area);
}

/// Entries over the last seconds, on the scale of the table's maximum.
fn draw_history(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let skipped = app.history.len().saturating_sub(area.width.into());
    let seconds = app.history.iter().skip(skipped).copied();
    let line = Sparkline::default().data(seconds).max(app.figures.stats.max.max(1).into());
    frame.render_widget(line, area);
}

/// Counters since boot and, where they moved, since the view was opened.
fn counted(app: &App) -> String {
    let (now, first) = (app.figures.counters, app.first.counters);
    let counters = [
        ("dropped", now.drop, first.drop),
        ("early dropped", now.early_drop, first.early_drop),
        ("insert failed", now.insert_failed, first.insert_failed),
        ("invalid", now.invalid, first.invalid),
    ];
    let words = counters.map(|(name, now, first)| match now.saturating_sub(first) {
        0 => format!("{name} {now}"),
        since => format!("{name} {now} (+{since})"),
    });
    words.join("   ")
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let names = By::ALL.iter().enumerate().map(|(index, by)| format!("{} {}", index + 1, by.as_str()));
    let selected = By::ALL.iter().position(|by| *by == app.by);
    let tabs = Tabs::new(names).select(selected).highlight_style(BOLD.add_modifier(Modifier::REVERSED));
    frame.render_widget(tabs, area);
}

fn draw_groups(frame: &mut Frame<'_>, area: Rect, app: &App, aggregate: &Aggregate) {
    let total = aggregate.total().entries;
    // One line for the headings, one for the remark.
    let height = usize::from(area.height).saturating_sub(2);
    let Some(mut groups) = aggregate.largest(app.by, app.offset + height, app.sort) else {
        return;
    };
    if groups.rows.is_empty() {
        return frame.render_widget(Paragraph::new(NOTHING), area);
    }
    let rows: Vec<_> = groups.rows.drain(..).skip(app.offset).collect();
    let cells = rows.iter().map(|(key, tally)| output::cells(app.by, key, tally, total, app.wide));
    let cells: Vec<Vec<String>> = cells.collect();
    let headings = output::headings(app.by, app.wide);
    let widths = (0..headings.len()).map(|column| {
        let longest = cells.iter().filter_map(|row| row.get(column)).map(String::len).max();
        let width = longest.unwrap_or(0).max(headings[column].len());
        Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX))
    });
    let [table_area, remark_area] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(area);
    let table = Table::new(cells.iter().cloned().map(Row::new), widths)
        .header(Row::new(headings).style(BOLD))
        .column_spacing(3);
    frame.render_widget(table, table_area);
    let remark = output::remark(&groups).unwrap_or_default();
    frame.render_widget(Paragraph::new(remark).style(DIM), remark_area);
}

/// What was read, when, and what is in the way.
fn status(app: &App) -> String {
    let mut words = Vec::new();
    if let Some((reading, age)) = &app.reading {
        let entries = reading.aggregate.total().entries;
        let took = reading.took.as_secs_f64();
        words.push(format!("{entries} entries read in {took:.1} s, {} s ago", age.as_secs()));
    }
    let sort = match app.sort {
        Sort::Entries => "entries",
        Sort::Nat => "NAT",
        Sort::Unreplied => "unreplied",
    };
    words.push(format!("sorted by {sort}"));
    if !app.filter.is_empty() {
        words.push(format!("only {}", app.filter));
    }
    if let Some(error) = &app.error {
        words.push(format!("error: {error}"));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::app::Reading;
    use crate::top::sample;

    fn picture(app: &App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        terminal.backend().to_string()
    }

    fn app() -> App {
        let mut aggregate = Aggregate::new(&By::ALL);
        sample::entries().iter().for_each(|entry| aggregate.add(entry));
        let reading = Reading { aggregate, took: Duration::from_millis(700) };
        let mut app = App::new(By::Port, Sort::Entries, false, String::new(), sample::figures());
        app.reading = Some((reading, Duration::from_secs(4)));
        app
    }

    #[test]
    fn groups_are_shown_under_the_figures() {
        let mut app = app();
        app.figures.counters.drop += 5;
        insta::assert_snapshot!("ports", picture(&app, 80, 14));
        (app.by, app.wide, app.filter) = (By::Pair, true, "port 443".into());
        insta::assert_snapshot!("pairs", picture(&app, 110, 12));
    }

    #[test]
    fn before_the_first_reading_there_is_a_word() {
        let mut app = app();
        app.reading = None;
        app.error = Some("no luck".into());
        let picture = picture(&app, 60, 12);
        assert!(picture.contains("reading the table"), "{picture}");
        assert!(picture.contains("error: no luck"), "{picture}");
    }

    #[test]
    fn a_tiny_terminal_is_no_reason_to_fail() {
        for (width, height) in [(1, 1), (10, 3), (20, 5), (300, 2)] {
            picture(&app(), width, height);
        }
    }
}
