//! What a scalar means, above all a plain (unquoted) one.
//!
//! Kubernetes reads YAML 1.1, current parsers YAML 1.2. Where the two differ, the same file would mean one thing to
//! `kubectl apply` and another to us, so such a scalar is refused: whoever wrote it may not know what it means either.

use saphyr_parser::{ScalarStyle, Tag};

use super::node::{Flaw, Value};

/// Words that are booleans in YAML 1.1 and strings in 1.2, in all of their three spellings.
const OLD_BOOLEANS: [(&str, bool); 6] =
    [("y", true), ("yes", true), ("on", true), ("n", false), ("no", false), ("off", false)];

/// What a scalar means in the place of a value.
pub(super) fn value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    match tag {
        Some(tag) if is_core(tag, "str") => Value::String(text.to_owned()),
        Some(tag) => Value::Bad(tag_flaw(tag)),
        None if style == ScalarStyle::Plain => resolve(text),
        None => Value::String(text.to_owned()),
    }
}

/// Why a scalar must not be a key, if so. A number may: it becomes a string in JSON, and stays what it looks like.
pub(super) fn key_flaw(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Flaw> {
    if style == ScalarStyle::Plain && text == "<<" {
        return Some(Flaw {
            message: "merge keys are not supported".into(),
            help: "write the fields out, or use an alias for the whole value".into(),
        });
    }
    match value(text, style, tag) {
        Value::Bad(flaw) => Some(flaw),
        Value::Null | Value::Bool(_) => {
            Some(Flaw { message: "a key must be a string".into(), help: format!("quote it: \"{text}\"") })
        }
        _ => None,
    }
}

/// Why a tag must not stand on a list or a mapping, if so.
pub(super) fn container_flaw(tag: &Tag) -> Option<Flaw> {
    (!is_core(tag, "map") && !is_core(tag, "seq")).then(|| tag_flaw(tag))
}

fn is_core(tag: &Tag, suffix: &str) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == suffix
}

fn tag_flaw(tag: &Tag) -> Flaw {
    Flaw {
        message: format!("the YAML tag {tag} is not supported"),
        help: "write the value without a tag".into(),
    }
}

/// Resolves a plain scalar.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    for (word, meaning) in OLD_BOOLEANS {
        if word.eq_ignore_ascii_case(text) {
            return Value::Bad(Flaw {
                message: format!(
                    "unquoted {text} means {meaning} to Kubernetes, and a word to other readers of YAML"
                ),
                help: format!("write {meaning} or \"{text}\""),
            });
        }
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        number(text)
    } else {
        Value::String(text.to_owned())
    }
}

fn number(text: &str) -> Value {
    if matches!(text.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return flaw(text, "is not a number that JSON has");
    }
    let digits = text.trim_start_matches(['-', '+']);
    let signs = text.len() - digits.len();
    if signs <= 1 && is_decimal(digits) {
        if digits.len() > 1 && digits.starts_with('0') {
            return flaw(text, "is octal to some readers of YAML, and decimal to others");
        }
        // Beyond 64 bits it is a number still, but no integer that any field takes.
        return text
            .parse()
            .map(Value::Int)
            .unwrap_or_else(|_| Value::Float(text.parse().unwrap_or(f64::MAX)));
    }
    if signs <= 1 && is_float(digits) {
        return text.parse().map(Value::Float).unwrap_or_else(|_| Value::String(text.to_owned()));
    }
    if signs <= 1 && is_old_number(digits) {
        return flaw(text, "is a number to some readers of YAML, and a string to others");
    }
    Value::String(text.to_owned())
}

fn flaw(text: &str, what: &str) -> Value {
    Value::Bad(Flaw {
        message: format!("unquoted {text} {what}"),
        help: format!("write a plain decimal number, or quote it: \"{text}\""),
    })
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Digits with a point, an exponent or both.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let whole_ok = whole.is_empty() || is_decimal(whole);
    let fraction_ok = fraction.is_empty() || is_decimal(fraction);
    let exponent_ok = exponent.is_none_or(|e| is_decimal(e.strip_prefix(['-', '+']).unwrap_or(e)));
    whole_ok && fraction_ok && exponent_ok && mantissa.bytes().any(|b| b.is_ascii_digit())
}

/// Other bases, and digits in groups: `0x1f`, `0o17`, `0b1`, `1_000`.
fn is_old_number(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace('_', "");
    let based = |prefix: &str, base: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    is_decimal(&text) || is_float(&text) || based("0x", 16) || based("0o", 8) || based("0b", 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_that_all_readers_agree_on() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("0", Value::Int(0)),
            ("80", Value::Int(80)),
            ("-1", Value::Int(-1)),
            ("+5", Value::Int(5)),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1000.0)),
            ("99999999999999999999", Value::Float(1e20)),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
        for text in [
            "tRUE",
            "yess",
            "10.0.0.0/8",
            "2001:db8::/32",
            "1.2.3",
            "-",
            "--1",
            "..",
            "2027-01-01T00:00:00Z",
            "1:30",
            "0xg",
            "e3",
            ".e3",
            "eth0",
            "::1",
            "-a",
            "1-2",
            "+",
        ] {
            assert_eq!(resolve(text), Value::String(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn scalars_that_readers_differ_on_are_refused() {
        for text in [
            "yes", "Yes", "YES", "no", "on", "Off", "y", "N", "010", "0o10", "0x1F", "0b11", "1_000", "-017",
            ".inf", "-.INF", ".NaN", "1_0.5", "007",
        ] {
            assert!(matches!(resolve(text), Value::Bad(_)), "{text}: {:?}", resolve(text));
        }
    }
}
