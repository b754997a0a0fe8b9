//! A problem in a file, and where in its text it is.

use std::fmt;

/// A piece of a file's text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Where it begins.
    pub offset: usize,
    /// How long it is. May be 0: the place where something is missing.
    pub len: usize,
}

/// Whether a problem makes the file unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the file is usable.
    Warning,
    /// The file must not be used.
    Error,
}

/// A problem in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it makes the file unusable.
    pub severity: Severity,
    /// The field, from the object's top. Example: `spec.flows[0].ports[1].endPort`. Empty: the whole document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// The text that is wrong, or beside which something is missing.
    pub span: Span,
    /// Line of the span's begin, from 1.
    pub line: usize,
    /// Column of the span's begin, in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}:{}:{}: {severity}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// The text of a file, and where its lines and characters begin.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    lines: Vec<usize>,
    /// Byte offset of every character; empty where each is one byte. The YAML parser counts in characters.
    characters: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(after_breaks).collect();
        let characters =
            if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self { file, text, lines, characters }
    }

    /// The byte offset of a character.
    pub(super) fn byte(&self, character: usize) -> usize {
        if self.characters.is_empty() {
            character.min(self.text.len())
        } else {
            self.characters.get(character).copied().unwrap_or(self.text.len())
        }
    }

    /// The number of the character at a byte offset.
    pub(super) fn character(&self, byte: usize) -> usize {
        if self.characters.is_empty() { byte } else { self.characters.partition_point(|at| *at < byte) }
    }

    /// Line and column, from 1.
    pub(super) fn position(&self, byte: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        (line, self.character(byte) - self.character(start) + 1)
    }

    pub(super) fn diagnostic(
        &self,
        severity: Severity,
        path: &str,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let (line, column) = self.position(span.offset);
        Diagnostic {
            severity,
            path: printable(path),
            message: printable(&message.into()),
            help: help.map(|help| printable(&help)),
            file: self.file.to_owned(),
            span,
            line,
            column,
        }
    }
}

/// Text from a file may hold anything: escapes that move a terminal's cursor, letters that only look like others.
/// What is printed shows them for what they are.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// A value in quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        format!("\"{text}\"")
    } else {
        let start: String = text.chars().take(LONGEST).collect();
        format!("\"{start}...\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_spans_bytes() {
        let source = Source::new("f", "ä: 1\nßx: ü\n");
        let x = source.text.find('x').unwrap();
        assert_eq!(x, 8);
        assert_eq!(source.position(x), (2, 2));
        assert_eq!(source.byte(source.character(x)), x);
        assert_eq!(source.position(source.text.len()), (3, 1));
    }

    #[test]
    fn nothing_unprintable_is_printed() {
        let source = Source::new("f", "");
        let d = source.diagnostic(
            Severity::Error,
            "a.p\u{43e}rt",
            Span::default(),
            "\u{1b}[2J",
            Some("\n".into()),
        );
        assert_eq!(d.path, "a.p\\u{43e}rt");
        assert_eq!(d.message, "\\u{1b}[2J");
        assert_eq!(d.help.as_deref(), Some("\\u{a}"));
        assert_eq!(quoted(&"é".repeat(61)).chars().count(), 60 + 5);
    }
}
