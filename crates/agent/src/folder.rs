//! The folder of policy files: what an agent without a cluster is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use notrack_core::index::Index;
use notrack_core::manifest::{self, Severity};
use notrack_core::policy::{Invalid, validate};

/// What is wrong with a file, for people: place, field, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `edge.yaml:12:7: spec.flows[0]...: must be ...`
    pub text: String,
}

/// The policies of a folder, kept over bad versions of its files.
#[derive(Debug, Default)]
pub struct Folder {
    index: Index,
    /// Which policies each file gave when it was last good.
    files: BTreeMap<PathBuf, BTreeSet<String>>,
    /// What the last reading found.
    pub problems: Vec<Problem>,
    /// Files of the last reading that gave at least one error.
    pub bad_files: usize,
}

impl Folder {
    /// The policies.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Reads the folder anew. A file that cannot be read or parsed is named and its last good policies stay; one that is
    /// gone takes its policies with it.
    pub fn read(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| manifest::is_file_name(path));
        paths.sort();
        self.problems.clear();
        self.bad_files = 0;
        self.files.retain(|path, _| paths.contains(path));
        for path in &paths {
            self.read_file(path);
        }
        let present: BTreeSet<String> = self.files.values().flatten().cloned().collect();
        self.index.reset(&present);
        Ok(())
    }

    fn problem(&mut self, text: String) {
        self.problems.push(Problem { text });
    }

    fn read_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.bad_files += 1;
                self.problem(format!("{name}: cannot be read: {error}; its last good version stays"));
                return;
            }
        };
        let parsed = manifest::parse(&name, &text);
        for diagnostic in &parsed.diagnostics {
            self.problem(diagnostic.to_string());
        }
        // A file is taken as a whole or not at all, so that half of a change never takes effect.
        let mut bad = parsed.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        let mut good = Vec::new();
        for manifest in &parsed.manifests {
            match validate(&manifest.policy) {
                Ok(policy) => good.push(policy),
                Err(invalid) => {
                    bad = true;
                    for Invalid { path, message } in invalid {
                        self.problem(format!("{name}: {path}: {message}"));
                    }
                }
            }
        }
        let others: BTreeSet<&String> =
            self.files.iter().filter(|(other, _)| *other != path).flat_map(|(_, names)| names).collect();
        if let Some(twin) = good.iter().find(|policy| others.contains(&policy.name)) {
            bad = true;
            let text =
                format!("{name}: policy {:?} is already in another file; remove one of them", twin.name);
            self.problem(text);
        }
        if bad {
            self.bad_files += 1;
            return;
        }
        let names = good.iter().map(|policy| policy.name.clone()).collect();
        for policy in good {
            self.index.apply(policy);
        }
        self.files.insert(path.to_owned(), names);
    }
}
