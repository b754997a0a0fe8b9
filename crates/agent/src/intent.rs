//! What is wanted of the kernel, whoever wants it: a folder of policies or the plan of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use notrack_core::compile::{RuleSet, compile};
use notrack_core::kept::Kept;
use notrack_core::policy::{Action, Role, ValidatedPolicy};

use crate::cluster::source::PlanSource;
use crate::folder::{Folder, Problem};

/// What the kernel is to run, complete.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The rules, without what has expired.
    pub rule_set: RuleSet,
    /// The digest under which a cluster knows them. `None` where there is no cluster, or it wants no rules.
    pub digest: Option<String>,
    /// What stays tracked on this node besides, by order of the controller.
    pub kept: Vec<Kept>,
    /// Servers that this node itself asks: they stay tracked too, where a flow might bypass them.
    pub asked: Vec<Kept>,
}

impl Intent {
    /// Whether any flow might bypass what this node asks of the servers, from ports that are not named: flows in which
    /// it is not the server itself, unless the servers have an address of its own. What none may bypass would only
    /// make the kernel's maps longer.
    pub fn concerns(&self, kept: &Kept, own: &BTreeSet<IpAddr>) -> bool {
        let is_own = kept.addresses.is_none_or(|range| own.iter().any(|address| range.contains(*address)));
        let mut flows = self.rule_set.policies().iter().flat_map(|policy| &policy.flows);
        flows.any(|flow| {
            flow.action == Action::NoTrack
                && (is_own || flow.role != Role::Server)
                && flow.names_port(kept.protocol, kept.ports)
        })
    }

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
                asked: Vec::new(),
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

#[cfg(test)]
mod tests {
    use notrack_core::hazard::HazardKind;
    use notrack_core::manifest::parse;
    use notrack_core::net::{AddressRange, PortRange, Proto};
    use notrack_core::policy::validate;

    use super::*;

    #[test]
    fn only_servers_that_a_flow_may_bypass_concern_it() {
        let text = "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {name: p}\nspec:\n  nodeSelector: {}\n  \
                    mode: Enforce\n  flows:\n  \
                    - {name: s, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 80}]}\n  \
                    - {name: c, action: NoTrack, role: Client, ports: [{protocol: TCP, port: 53}], peers: [{cidr: 192.0.2.0/24}]}\n  \
                    - {name: t, action: Track, role: Client, ports: [{protocol: TCP, port: 443}], peers: [{cidr: 192.0.2.0/24}]}\n";
        let policy = validate(&parse("p.yaml", text).manifests[0].policy).unwrap();
        let rule_set = RuleSet::new(vec![policy.into()], Vec::new());
        let intent = Intent { rule_set, digest: None, kept: Vec::new(), asked: Vec::new() };
        let own = [IpAddr::from([10, 0, 0, 1])].into();
        let concerns = |protocol, address: [u8; 4], port| {
            let kept = Kept {
                hazard: HazardKind::Protected,
                protocol,
                addresses: Some(AddressRange::one(address.into())),
                ports: PortRange::one(port),
                clients: None,
                spares_interfaces: false,
                evidence: String::new(),
            };
            intent.concerns(&kept, &own)
        };
        assert!(concerns(Proto::Tcp, [192, 0, 2, 1], 53));
        assert!(!concerns(Proto::Udp, [192, 0, 2, 1], 53), "another protocol");
        assert!(!concerns(Proto::Tcp, [192, 0, 2, 1], 443), "an exception tracks it anyway");
        assert!(!concerns(Proto::Tcp, [192, 0, 2, 1], 80), "served here, asked there");
        assert!(concerns(Proto::Tcp, [10, 0, 0, 1], 80), "served and asked here");
    }
}
