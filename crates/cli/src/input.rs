//! Reading policy files and node facts.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use notrack_core::facts::NodeFacts;
use notrack_core::manifest::{Parsed, is_file_name, parse};

use crate::args::Files;

/// A file and what is in it.
pub struct Source {
    /// The name to show.
    pub name: String,
    /// The text.
    pub text: String,
    /// The policies and problems.
    pub parsed: Parsed,
}

/// Reads every file named; folders give those that an agent would read, by name.
pub fn read(files: &Files) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in &files.files {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(path)
                .with_context(|| format!("{} cannot be read", path.display()))?
                .flatten()
                .map(|entry| entry.path())
                .collect();
            inside.retain(|path| is_file_name(path));
            inside.sort();
            for path in inside {
                sources.push(read_one(&path)?);
            }
        } else {
            sources.push(read_one(path)?);
        }
    }
    Ok(sources)
}

fn read_one(path: &Path) -> anyhow::Result<Source> {
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        ("standard input".to_owned(), text)
    } else {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        (path.display().to_string(), text)
    };
    let parsed = parse(&name, &text);
    Ok(Source { name, text, parsed })
}

/// The node's facts; assumed where no file is named.
pub fn facts(files: &Files) -> anyhow::Result<NodeFacts> {
    let Some(path) = &files.node_facts else { return Ok(NodeFacts::assumed()) };
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} does not hold the facts of a node", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_what_an_agent_would_read_of_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", ".b.yaml.swp", ".hidden.yaml", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let read = read(&Files { files: vec![folder.path().to_owned()], node_facts: None }).unwrap();
        let names: Vec<&str> = read.iter().filter_map(|source| source.name.rsplit('/').next()).collect();
        assert_eq!(names, ["a.json", "b.yaml"]);
    }
}
