//! Writes the table of all hazards into `docs/hazards.md` (or another file), or, with `--check`, finds out whether
//! it drifts.

#![forbid(unsafe_code)]

use std::{fs, process::ExitCode};

use notrack_core::hazard::{Answer, HazardKind};

/// Where it is, seen from the top of the repository.
const FILE: &str = "docs/hazards.md";
const BEGIN: &str = "<!-- hazards: generated -->\n";
const END: &str = "<!-- end -->\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (check, file) = match arguments[..] {
        [] => (false, FILE),
        ["--check"] => (true, FILE),
        ["--check", file] => (true, file),
        [file] if !file.starts_with('-') => (false, file),
        _ => {
            eprintln!("usage: notrack-hazards [--check] [<file>]");
            return ExitCode::from(2);
        }
    };
    match write(file, check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the table between its markers, or compares it.
fn write(file: &str, check: bool) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (old, after))) = parts else {
        return Err(format!("{file} has no line {} with a line {} below it", BEGIN.trim(), END.trim()));
    };
    let new = table();
    match check {
        true if old == new => Ok(()),
        true => Err(format!("{file} differs from crates/core/src/hazard.rs: run `make generate`")),
        false => fs::write(file, format!("{before}{BEGIN}{new}{END}{after}"))
            .map_err(|error| format!("{file}: {error}")),
    }
}

/// The table, in Markdown. Blank lines keep the markers, which are HTML, from taking it for theirs.
fn table() -> String {
    let rows = HazardKind::ALL.iter().map(|&kind| {
        let (code, name) = (kind.code(), kind.name());
        let anchor = format!("{code}-{name}").to_lowercase();
        let answer = match kind.answer() {
            Answer::Always => "always",
            Answer::Acknowledgeable => "acknowledge",
            Answer::ByDesign => "by design",
        };
        format!(
            "| [{code}](#{anchor}) | {name} | {} | {answer} | {} |\n",
            cell(kind.meaning()),
            cell(kind.remedy())
        )
    });
    let rows: String = rows.collect();
    format!("\n| code | name | what breaks | answer | remedy |\n| --- | --- | --- | --- | --- |\n{rows}\n")
}

/// As the text of a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
