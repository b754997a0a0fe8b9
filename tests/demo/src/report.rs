//! What the demo found: lines of figures, each with and without a policy, and whether they hold.

use serde::Serialize;
use serde_json::{Value, json};

/// The whole result.
#[derive(Debug)]
pub struct Report {
    pub lines: Vec<Line>,
    pub seconds: u64,
}

/// The names of two columns.
pub type Heads = [&'static str; 2];

/// One thing shown.
#[derive(Debug, Serialize)]
pub struct Line {
    /// For machines.
    pub name: &'static str,
    pub title: String,
    /// What the two columns are, where it is not what the table's head says.
    pub heads: Heads,
    pub rows: Vec<Row>,
    /// Said below the rows.
    pub notes: Vec<String>,
}

/// One figure, without and with the policy, or as the line's heads say.
#[derive(Debug, Serialize)]
pub struct Row {
    /// For machines.
    pub name: &'static str,
    #[serde(skip)]
    pub what: &'static str,
    pub without: Figure,
    pub with: Figure,
    /// Whether it is as it should be; `None` where nothing is promised.
    pub holds: Option<bool>,
}

/// A value in the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    Count(u64),
    /// Of one.
    Share(f64),
    Word(&'static str),
}

impl Report {
    /// Whether every line holds.
    pub fn holds(&self) -> bool {
        self.lines.iter().all(Line::holds)
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                let Line { name, title, heads, rows, notes } = line;
                json!({
                    "name": name, "title": title, "heads": heads, "holds": line.holds(),
                    "rows": rows, "notes": notes,
                })
            })
            .collect();
        json!({ "holds": self.holds(), "seconds": self.seconds, "lines": lines })
    }
}

impl Line {
    /// Whether every row holds.
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }
}

impl Row {
    /// A figure that only informs.
    pub fn new(name: &'static str, what: &'static str, without: Figure, with: Figure) -> Self {
        Self { name, what, without, with, holds: None }
    }

    /// The same, promised: `holds` says whether it is so.
    pub fn promised(self, holds: bool) -> Self {
        Self { holds: Some(holds), ..self }
    }
}

impl Figure {
    /// `yes` or `no`, in words that fit the row.
    pub fn word(condition: bool, yes: &'static str, no: &'static str) -> Self {
        Self::Word(if condition { yes } else { no })
    }

    /// As people read it.
    pub fn shown(&self) -> String {
        match self {
            Self::Count(count) => thousands(*count),
            Self::Share(share) if *share == 0.0 => "none".to_owned(),
            // Never rounded down to nothing, nor up to all.
            Self::Share(share) => format!("{:.1} %", (share * 100.0).clamp(0.1, 100.0)),
            Self::Word(word) => (*word).to_owned(),
        }
    }
}

/// 1234567 as 1,234,567.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(holds: Option<bool>) -> Report {
        let row = Row::new("lost", "lost", Figure::Share(1.0), Figure::Share(0.0));
        let rows = vec![Row { holds, ..row }];
        let line = Line { name: "full", title: "Full".into(), heads: ["", ""], rows, notes: Vec::new() };
        Report { lines: vec![line], seconds: 61 }
    }

    #[test]
    fn one_row_that_does_not_hold_fails_all() {
        assert!(report(Some(true)).holds() && report(None).holds());
        assert!(!report(Some(false)).holds());
        let json = report(Some(false)).to_json();
        assert_eq!(json["holds"], false);
        assert_eq!(json["lines"][0]["rows"][0]["without"], 1.0);
    }

    #[test]
    fn figures_are_readable_and_honest() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(262_144), "262,144");
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(Figure::Share(0.0).shown(), "none");
        assert_eq!(Figure::Share(0.0001).shown(), "0.1 %");
        assert_eq!(Figure::Share(1.0).shown(), "100.0 %");
    }
}
