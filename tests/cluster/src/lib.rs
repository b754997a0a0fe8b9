//! A real Kubernetes for tests: control plane and nodes in namespaces, the operator on it in pods from images made of
//! our own programs, with the manifests of `deploy/` and no other identity than theirs.
//!
//! ```no_run
//! let cluster = notrack_cluster::Cluster::start(&notrack_cluster::Options::default())?;
//! cluster.install()?;
//! cluster.kubectl("get nodeplans")?;
//! # anyhow::Ok(())
//! ```

mod argocd;
mod audit;
mod buildah;
mod cluster;
mod git;
mod helm;
mod images;
pub mod load;
pub mod monitoring;
mod operator;
mod previous;
pub mod prometheus;
mod testbed;
mod traffic;

pub use argocd::{ArgoCd, argocd, resource};
pub use audit::Request;
pub use buildah::{Buildah, Built};
pub use cluster::{Cluster, Node, Options, PATIENCE, policy, server};
pub use git::GitRepository;
pub use helm::helm;
pub use operator::{agent_pod, agent_processes, condition, is_ready, processes_with, remove_rules};
pub use previous::Previous;
pub use testbed::repository;
pub use traffic::{fetch, serve};
