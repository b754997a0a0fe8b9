//! From the events of the API server to updates of the world.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use notrack_api as api;
use notrack_runtime::api_server::causes;
use notrack_runtime::reminder::Reminder;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;
use crate::objects::{self, EndpointSlice, Node, Plan, Policy, RuleSet, Service};
use crate::withdrawal;
use crate::world::{Change, Kind, Update};

/// Where updates go, and what asks for a new listing.
#[derive(Clone)]
pub struct Watches {
    /// For every kind.
    pub client: Client,
    /// The namespace of the controllers.
    pub namespace: String,
    /// Where updates go.
    pub updates: mpsc::Sender<Update>,
    /// Raised to have our own kinds listed anew.
    pub again: watch::Receiver<u64>,
    /// Counts failures.
    pub metrics: Metrics,
}

/// Of Windows nodes nothing is known.
const LINUX: &str = "kubernetes.io/os=linux";

/// How objects of a kind become updates.
struct Reading<K, T> {
    kind: Kind,
    /// What is kept of an object, or why it cannot be read.
    read: fn(K) -> Result<T, String>,
    wrap: fn(Change<T>) -> Update,
}

impl Watches {
    /// Starts all of them, each as a task.
    pub fn start(&self, service_cidrs: bool) {
        self.spawn(Reading { kind: Kind::Policies, read: policy, wrap: Update::Policies });
        self.spawn(Reading { kind: Kind::Nodes, read: |node| Ok(Node::of(node)), wrap: Update::Nodes });
        self.spawn(Reading { kind: Kind::Plans, read: |plan| guarded(plan, Plan::of), wrap: Update::Plans });
        self.spawn(Reading {
            kind: Kind::RuleSets,
            read: |object: PartialObjectMeta<api::RuleSet>| Ok(RuleSet::of(object.metadata)),
            wrap: Update::RuleSets,
        });
        self.spawn(Reading {
            kind: Kind::Services,
            read: |service: DeserializeGuard<Service>| {
                let name = key(&service);
                guarded(service, |service| service.kept(&name))
            },
            wrap: Update::Services,
        });
        self.spawn(Reading {
            kind: Kind::Endpoints,
            read: |slice| guarded(slice, EndpointSlice::kept),
            wrap: Update::Endpoints,
        });
        if service_cidrs {
            let read = |object| guarded(object, objects::service_ranges);
            self.spawn(Reading { kind: Kind::ServiceCidrs, read, wrap: Update::ServiceCidrs });
        }
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let reading = Reading {
            kind: Kind::Withdrawal,
            read: |lease| Ok(withdrawal::end(&lease)),
            wrap: Update::Withdrawal,
        };
        tokio::spawn(self.clone().run(api, reading));
    }

    fn spawn<K, T>(&self, reading: Reading<K, T>)
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
        T: Send + 'static,
    {
        tokio::spawn(self.clone().run(Api::<K>::all(self.client.clone()), reading));
    }

    /// Watches a kind for ever; each round begins with a listing.
    async fn run<K, T>(mut self, api: Api<K>, reading: Reading<K, T>)
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
        T: Send + 'static,
    {
        let kind = reading.kind;
        let config = match kind {
            Kind::Nodes => Config::default().labels(LINUX),
            Kind::Withdrawal => Config::default().fields(&format!("metadata.name={}", withdrawal::LEASE)),
            _ => Config::default(),
        };
        let mut told = Reminder::default();
        loop {
            let mut stream = pin!(watcher(api.clone(), config.clone()).default_backoff());
            let mut listing = BTreeMap::new();
            loop {
                let event = tokio::select! {
                    changed = self.again.changed(), if Kind::OWN.contains(&kind) => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    event = stream.next() => event,
                };
                let update = match event {
                    None => break,
                    Some(Err(error)) => {
                        self.failed(kind, &error, &mut told);
                        None
                    }
                    Some(Ok(event)) => self.convert(&reading, event, &mut listing),
                };
                if let Some(update) = update
                    && self.updates.send(update).await.is_err()
                {
                    return;
                }
            }
        }
    }

    /// A listing becomes known as a whole, when it is complete: a part of one must not look like deletions.
    fn convert<K: Resource<DynamicType = ()>, T>(
        &self,
        reading: &Reading<K, T>,
        event: Event<K>,
        listing: &mut BTreeMap<String, Option<T>>,
    ) -> Option<Update> {
        let kind = reading.kind.name();
        let read = |object: K| {
            let name = key(&object);
            let value = (reading.read)(object).inspect_err(|error| {
                tracing::warn!(kind, name, "cannot be read, what was known of it stays: {error}");
                self.metrics.unreadable(kind);
            });
            (name, value.ok())
        };
        match event {
            Event::Init => {
                listing.clear();
                None
            }
            Event::InitApply(object) => {
                listing.extend([read(object)]);
                None
            }
            Event::InitDone => {
                let listed = std::mem::take(listing);
                tracing::debug!(kind, objects = listed.len(), "listed");
                Some((reading.wrap)(Change::Reset(listed)))
            }
            Event::Apply(object) => {
                let (name, value) = read(object);
                Some((reading.wrap)(Change::Apply(name, value?)))
            }
            Event::Delete(object) => Some((reading.wrap)(Change::Delete(key(&object)))),
        }
    }

    fn failed(&self, kind: Kind, error: &watcher::Error, told: &mut Reminder) {
        self.metrics.watch_failed(kind.name());
        let error = causes(error);
        if told.is_due(&error, Instant::now()) {
            tracing::warn!(kind = kind.name(), "cannot be watched, what is known stays: {error}");
        }
    }
}

fn key<K: Resource>(object: &K) -> String {
    let name = object.meta().name.as_deref().unwrap_or_default();
    match &object.meta().namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn guarded<K, T>(guard: DeserializeGuard<K>, keep: impl FnOnce(K) -> T) -> Result<T, String> {
    guard.0.map(keep).map_err(|invalid| invalid.error)
}

/// A policy that cannot be read is known all the same: its user is told.
fn policy(guard: DeserializeGuard<api::NoTrackPolicy>) -> Result<Policy, String> {
    let name = key(&guard);
    let policy = match guard.0 {
        Ok(policy) => Policy::of(policy),
        Err(invalid) => Policy::unreadable(&invalid.metadata, &invalid.error),
    };
    if let Err(problems) = &policy.content {
        tracing::warn!(policy = name, "refused, its last good version stays: {}", problems.join("; "));
    }
    Ok(policy)
}
