//! A scalar against its schema.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value as Json;

use super::{
    diagnostic::quoted,
    node::Value,
    schema::{Kind, Text},
};
use crate::suggest;

/// What is wrong with a value.
pub(super) enum Problem {
    WrongType,
    TooShort(usize),
    TooLong(usize, usize),
    NoMatch(String, String),
    NoChoice(String),
    NoTime(String),
    TooSmall(i64),
    TooLarge(i64),
}

/// RFC 3339, as the API server takes it.
static DATE_TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$")
        .ok()
});

/// The value as JSON, or what is wrong with it.
pub(super) fn check(kind: &Kind, value: &Value) -> Result<Json, Problem> {
    match (kind, value) {
        (Kind::String(schema), Value::String(text)) => {
            string(schema, text).map(|()| Json::from(text.as_str()))
        }
        (Kind::Integer { min, .. }, Value::Int(int)) if int < min => Err(Problem::TooSmall(*min)),
        (Kind::Integer { max, .. }, Value::Int(int)) if int > max => Err(Problem::TooLarge(*max)),
        (Kind::Integer { .. }, Value::Int(int)) => Ok(Json::from(*int)),
        _ => Err(Problem::WrongType),
    }
}

fn string(schema: &Text, text: &str) -> Result<(), Problem> {
    let Text { min, max, pattern, choices, date_time } = schema;
    let length = text.chars().count();
    if !choices.is_empty() {
        return if choices.iter().any(|choice| choice == text) {
            Ok(())
        } else {
            Err(Problem::NoChoice(text.into()))
        };
    }
    if *date_time {
        let is_time = DATE_TIME.as_ref().is_some_and(|regex| regex.is_match(text));
        let exists = text.parse::<jiff::Timestamp>().is_ok();
        return if is_time && exists { Ok(()) } else { Err(Problem::NoTime(text.into())) };
    }
    if length < *min {
        return Err(Problem::TooShort(*min));
    }
    if length > *max {
        return Err(Problem::TooLong(*max, length));
    }
    match pattern {
        Some(pattern) if !pattern.is_match(text) => Err(Problem::NoMatch(text.into(), pattern.to_string())),
        _ => Ok(()),
    }
}

impl Problem {
    /// In words. `found` is what the value is, `text` how it is written.
    pub(super) fn describe(self, kind: &Kind, found: &str, text: &str) -> (String, Option<String>) {
        match self {
            Self::WrongType => (format!("must be {}, not {found}", name(kind)), type_help(kind, found, text)),
            Self::TooShort(min) => (format!("must have at least {min} {}", characters(min)), None),
            Self::TooLong(max, length) => (format!("must have at most {max} characters, not {length}"), None),
            Self::NoMatch(value, pattern) => (format!("{} does not match {pattern}", quoted(&value)), None),
            Self::NoChoice(value) => {
                let choices = match kind {
                    Kind::String(text) => text.choices.as_slice(),
                    _ => &[],
                };
                let help = suggest::closest(&value, choices.iter().map(String::as_str))
                    .map(|meant| format!("did you mean {meant}?"));
                (format!("must be one of {}, not {}", choices.join(", "), quoted(&value)), help)
            }
            Self::NoTime(value) => {
                let help = "as RFC 3339, in UTC: 2027-01-01T00:00:00Z".to_owned();
                (format!("{} is not a point in time", quoted(&value)), Some(help))
            }
            Self::TooSmall(min) => (format!("must be at least {min}"), None),
            Self::TooLarge(max) => (format!("must be at most {max}"), None),
        }
    }
}

fn characters(count: usize) -> &'static str {
    if count == 1 { "character" } else { "characters" }
}

fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Object { .. } | Kind::Map { .. } => "an object",
        Kind::List { .. } => "a list",
        Kind::String(_) => "a string",
        Kind::Integer { .. } => "a whole number",
    }
}

fn type_help(kind: &Kind, found: &str, text: &str) -> Option<String> {
    let inner = text.trim_matches(['"', '\'']);
    match (kind, found) {
        (Kind::String(_), "a number" | "a boolean") => Some(format!("quote it: \"{text}\"")),
        (Kind::Integer { .. }, "a string") if inner.parse::<i64>().is_ok() => {
            Some(format!("without quotes: {inner}"))
        }
        (Kind::List { .. }, "an object" | "a string" | "a number") => {
            Some("each item begins with -, also when there is only one".into())
        }
        (Kind::Object { .. }, "a list") => Some("there is only one: write it without -".into()),
        _ => None,
    }
}
