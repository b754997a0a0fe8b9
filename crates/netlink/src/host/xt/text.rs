//! How iptables writes things.

use std::fmt::Display;

/// A word as iptables' own parser takes it back: letters, digits, `_` and `-` stand alone, anything else in quotes.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            text.push('\\');
        }
        text.push(c);
    }
    text + "\""
}

/// The names of the bits that are set.
pub(super) fn names<'a>(bits: u32, all: impl IntoIterator<Item = (u32, &'a str)>) -> String {
    let names: Vec<_> = all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect();
    names.join(",")
}

/// `5`, or `5:9`.
pub(super) fn span<T: PartialEq + Display>(low: T, high: T, between: char) -> String {
    if low == high { low.to_string() } else { format!("{low}{between}{high}") }
}

/// `! ` before an option that is inverted.
pub(super) fn not(inverted: bool) -> &'static str {
    if inverted { "! " } else { "" }
}

/// Options, put together.
#[derive(Debug, Default)]
pub(super) struct Options(Vec<String>);

impl Options {
    /// Adds an option.
    pub(super) fn add(&mut self, option: impl Into<String>) {
        self.0.push(option.into());
    }

    /// Adds an option that may be inverted.
    pub(super) fn may_not(&mut self, inverted: bool, option: impl Display) {
        self.0.push(format!("{}{option}", not(inverted)));
    }

    /// Adds an option where it is there.
    pub(super) fn when(&mut self, there: bool, option: impl Into<String>) {
        if there {
            self.add(option);
        }
    }

    /// All of them.
    pub(super) fn text(self) -> String {
        self.0.join(" ")
    }
}
