//! The table that people will screenshot.

use std::fmt::Write;

use crate::report::{Line, Report};

const HEAD: [&str; 3] = ["", "without", "with notrack"];
/// Notes are broken to keep the table within a terminal of 80 columns.
const NOTE_WIDTH: usize = 72;

/// Draws the report; `colour` for a terminal.
pub fn draw(report: &Report, colour: bool) -> String {
    let pen = Pen { widths: widths(report), colour };
    let mut text = pen.rule('┌', '┬', '┐');
    text += &pen.row(HEAD.map(str::to_owned), "");
    for (index, line) in report.lines.iter().enumerate() {
        text += &pen.rule('├', '┼', '┤');
        text += &pen.line(index + 1, line);
    }
    text += &pen.rule('└', '┴', '┘');
    for line in &report.lines {
        for note in &line.notes {
            text += &wrapped(note);
        }
    }
    let verdict = match report.lines.iter().filter(|line| !line.holds()).count() {
        0 => "every line holds".to_owned(),
        failed => format!("{failed} of {} lines do not hold", report.lines.len()),
    };
    let _ = writeln!(text, "{} {verdict}, shown in {} s", pen.mark(report.holds()), report.seconds);
    text
}

struct Pen {
    widths: [usize; 3],
    colour: bool,
}

impl Pen {
    fn rule(&self, left: char, middle: char, right: char) -> String {
        let [what, without, with] = self.widths.map(|width| "─".repeat(width + 2));
        format!("{left}{what}{middle}{without}{middle}{with}{middle}───{right}\n")
    }

    fn row(&self, [what, without, with]: [String; 3], mark: &str) -> String {
        let [a, b, c] = self.widths;
        let mark = if mark.is_empty() { " " } else { mark };
        format!("│ {what:<a$} │ {without:>b$} │ {with:>c$} │ {mark} │\n")
    }

    fn line(&self, number: usize, line: &Line) -> String {
        let [left, right] = line.heads.map(str::to_owned);
        let title = [format!("{number} {}", line.title), left, right];
        let mut text = self.row(title, &self.mark(line.holds()));
        for row in &line.rows {
            let cells = [format!("    {}", row.what), row.without.shown(), row.with.shown()];
            // A good row needs no mark of its own: the line has one.
            let mark = if row.holds == Some(false) { self.mark(false) } else { String::new() };
            text += &self.row(cells, &mark);
        }
        text
    }

    fn mark(&self, good: bool) -> String {
        match (good, self.colour) {
            (true, false) => "✔".into(),
            (false, false) => "✘".into(),
            (true, true) => "\u{1b}[32m✔\u{1b}[0m".into(),
            (false, true) => "\u{1b}[31m✘\u{1b}[0m".into(),
        }
    }
}

fn widths(report: &Report) -> [usize; 3] {
    let mut widths = HEAD.map(|head| head.chars().count());
    for line in &report.lines {
        widths[0] = widths[0].max(line.title.chars().count() + 2);
        widths[1] = widths[1].max(line.heads[0].chars().count());
        widths[2] = widths[2].max(line.heads[1].chars().count());
        for row in &line.rows {
            widths[0] = widths[0].max(row.what.chars().count() + 4);
            widths[1] = widths[1].max(row.without.shown().chars().count());
            widths[2] = widths[2].max(row.with.shown().chars().count());
        }
    }
    widths
}

fn wrapped(note: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in note.split_whitespace() {
        let length = word.chars().count();
        if width == 0 {
            text += "  · ";
        } else if width + 1 + length > NOTE_WIDTH {
            text += "\n    ";
            width = 0;
        } else {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Figure, Row};

    #[test]
    fn columns_align_and_a_bad_row_is_marked() {
        let rows = vec![
            Row::new("a", "requests a second", Figure::Count(11_234), Figure::Count(9)),
            Row::new("b", "lost", Figure::Share(1.0), Figure::Share(0.5)).promised(false),
        ];
        let notes = vec!["word ".repeat(30)];
        let line = Line { name: "x", title: "HTTP".into(), heads: ["naive rules", "notrack"], rows, notes };
        let drawn = draw(&Report { lines: vec![line], seconds: 5 }, false);
        let boxed: Vec<&str> = drawn.lines().filter(|line| line.starts_with('│')).collect();
        let width = boxed[0].chars().count();
        assert!(boxed.iter().all(|line| line.chars().count() == width), "{drawn}");
        assert!(boxed[1].ends_with("│ ✘ │"), "the line: {drawn}");
        assert!(boxed[2].ends_with("│   │"), "the good row: {drawn}");
        assert!(boxed[3].ends_with("│ ✘ │"), "the bad row: {drawn}");
        assert!(drawn.contains("✘ 1 of 1 lines do not hold, shown in 5 s"), "{drawn}");
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
    }
}
