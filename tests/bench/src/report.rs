//! What is printed: figures, and ratios beside what we aim at.

use serde_json::{Value, json};

use crate::stats::Summary;

/// What a ratio or a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the result.
#[derive(Debug, Clone)]
pub struct Finding {
    pub what: String,
    pub value: f64,
    /// `x` for ratios, `%`, `ms`, `MiB`.
    pub unit: &'static str,
    pub spread: Option<f64>,
    pub aim: Option<Aim>,
}

impl Finding {
    /// A figure to be judged, or only shown.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str, aim: Option<Aim>) -> Self {
        Self { what: what.into(), value, unit, spread: None, aim }
    }

    /// The ratio of a peer's figure to ours, in pairs of the same round: above one where we are
    /// faster.
    pub fn ratio(what: impl Into<String>, peer: &[f64], ours: &[f64], aim: Option<Aim>) -> Self {
        let ratios: Vec<f64> = peer.iter().zip(ours).map(|(peer, ours)| peer / ours).collect();
        let Summary { median, spread } = Summary::of(&ratios);
        Self { what: what.into(), value: median, unit: "x", spread: Some(spread), aim }
    }

    /// Whether it is as aimed; `None` where it only informs.
    pub fn holds(&self) -> Option<bool> {
        Some(match self.aim? {
            Aim::AtLeast(least) => self.value >= least,
            Aim::AtMost(most) => self.value <= most,
        })
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { what, value, unit, spread, aim } = self;
        let digits = if value.abs() < 10.0 { 2 } else { 1 };
        let spread = spread.map_or_else(String::new, |spread| format!("±{:.0} %", spread * 50.0));
        let aim = match aim {
            None => String::new(),
            Some(Aim::AtLeast(least)) => format!("≥ {least} {unit}"),
            Some(Aim::AtMost(most)) => format!("≤ {most} {unit}"),
        };
        let mark = match self.holds() {
            None => "",
            Some(true) => "✔",
            Some(false) => "falls short",
        };
        format!("{what:<62} {value:>8.digits$} {unit:<3} {spread:<6} {aim:<10} {mark}").trim_end().to_owned()
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let (aim, relation) = match self.aim {
            None => (None, None),
            Some(Aim::AtLeast(least)) => (Some(least), Some("atLeast")),
            Some(Aim::AtMost(most)) => (Some(most), Some("atMost")),
        };
        json!({
            "what": self.what, "value": self.value, "unit": self.unit, "spread": self.spread,
            "aim": aim, "relation": relation, "holds": self.holds(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_pairs_and_judged_by_its_median() {
        let aim = Some(Aim::AtLeast(2.0));
        let ratio = Finding::ratio("x", &[200.0, 900.0, 210.0], &[100.0, 300.0, 100.0], aim);
        assert_eq!(ratio.value, 2.1);
        assert_eq!(ratio.holds(), Some(true));
        assert!(ratio.line().ends_with('✔'), "{}", ratio.line());
        let most = Finding::new("x", 3.0, "ms", Some(Aim::AtMost(2.0)));
        assert_eq!(most.holds(), Some(false));
        assert!(most.line().ends_with("falls short"));
        assert_eq!(most.to_json()["relation"], "atMost");
    }
}
