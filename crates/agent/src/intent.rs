//! What is wanted of the kernel, whoever wants it: a folder of policies or the plan of a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use notrack_core::compile::{RuleSet, compile};
use notrack_core::kept::Kept;
use notrack_core::policy::ValidatedPolicy;

use crate::cluster::source::PlanSource;
use crate::folder::{Folder, Problem};

/// What the kernel is to run, complete.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The rules, without what has expired.
    pub rule_set: RuleSet,
    /// The digest under which a cluster knows them. `None` where there is no cluster, or it wants no rules.
    pub digest: Option<String>,
    /// What stays tracked on this node besides.
    pub kept: Vec<Kept>,
}

impl Intent {
    /// Whether any of its policies has ended at `now` (seconds since 1970).
    pub fn has_expired(&self, now: i64) -> bool {
        self.rule_set.policies().iter().any(|policy| policy.is_expired(now))
    }
}

/// Where it comes from.
#[derive(Debug)]
pub enum Source {
    /// A folder of policies, of which the node's labels select some.
    Folder(FolderSource),
    /// The plan that a controller wrote for this node.
    Plan(PlanSource),
}

/// A folder and the labels of this node.
#[derive(Debug)]
pub struct FolderSource {
    path: PathBuf,
    folder: Folder,
    /// Labels of this node.
    pub labels: BTreeMap<String, String>,
}

impl FolderSource {
    /// A folder that is not read yet.
    pub fn new(path: PathBuf, labels: BTreeMap<String, String>) -> FolderSource {
        FolderSource { path, folder: Folder::default(), labels }
    }

    /// Reads the folder. Where that fails the policies known stay.
    pub fn read(&mut self) {
        if let Err(error) = self.folder.read(&self.path) {
            let text = format!("{}: cannot be read: {error}; what is programmed stays", self.path.display());
            self.folder.problems = vec![Problem { text }];
            self.folder.bad_files = 1;
        }
        for problem in &self.folder.problems {
            tracing::warn!("{}", problem.text);
        }
    }
}

impl Source {
    /// What is wanted at `now` (seconds since 1970); `None` as long as nobody has said it.
    pub fn intent(&self, now: i64) -> Option<Intent> {
        match self {
            Source::Folder(source) => Some(Intent {
                rule_set: compile(source.folder.index(), &source.labels, now),
                digest: None,
                kept: Vec::new(),
            }),
            Source::Plan(source) => source.intent(now),
        }
    }

    /// Every policy to report.
    pub fn policies(&self) -> Vec<Arc<ValidatedPolicy>> {
        match self {
            Source::Folder(source) => source.folder.index().policies().cloned().collect(),
            Source::Plan(source) => source.policies(),
        }
    }

    /// The labels that decide which policies are for this node; `None` where a controller has decided it.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Source::Folder(source) => Some(&source.labels),
            Source::Plan(_) => None,
        }
    }

    /// What is wrong with files.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Source::Folder(source) => {
                source.folder.problems.iter().map(|problem| problem.text.clone()).collect()
            }
            Source::Plan(_) => Vec::new(),
        }
    }

    /// How many files were refused.
    pub fn bad_files(&self) -> usize {
        match self {
            Source::Folder(source) => source.folder.bad_files,
            Source::Plan(_) => 0,
        }
    }
}
