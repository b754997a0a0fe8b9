//! From what is seen of the plan to an order: the rule set is read by name, once, until it is there.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kube::api::GetParams;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client};
use notrack_api::{RuleSet as Object, RuleSetRef};
use notrack_core::compile::RuleSet;
use notrack_core::payload::decode;
use notrack_runtime::api_server::causes;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, timeout};

use super::plan::{Accepted, accept, generation};
use super::source::{News, Order};
use super::trouble::Trouble;
use super::watch::Sight;

/// An answer that takes longer is worth a word; it is waited for all the same.
const SLOW: Duration = Duration::from_secs(10);

type Loading = Pin<Box<dyn Future<Output = Arc<RuleSet>> + Send>>;

/// Turns sights into news until there are no more.
pub struct Loader {
    rule_sets: Api<Object>,
    name: String,
    own_uid: String,
    news: Sender<News>,
    /// The last rule set that was read: a plan may change without it.
    loaded: Option<Arc<RuleSet>>,
    /// The plan that is followed, or will be once its rule set is read.
    accepted: Option<Accepted>,
    loading: Option<Loading>,
}

/// Nobody listens any more.
struct Closed;

impl Loader {
    /// For the node of a name and UID.
    pub fn new(client: Client, name: String, own_uid: String, news: Sender<News>) -> Loader {
        let rule_sets = Api::all(client);
        Loader { rule_sets, name, own_uid, news, loaded: None, accepted: None, loading: None }
    }

    /// Runs until nobody sees or nobody listens.
    pub async fn run(mut self, mut sights: Receiver<Sight>) {
        loop {
            let loading = async {
                match &mut self.loading {
                    Some(loading) => loading.await,
                    None => pending().await,
                }
            };
            let done = tokio::select! {
                sight = sights.recv() => match sight {
                    Some(sight) => self.see(sight).await,
                    None => return,
                },
                rule_set = loading => {
                    self.loading = None;
                    self.loaded = Some(rule_set);
                    self.order().await
                }
            };
            if let Err(Closed) = done {
                return;
            }
        }
    }

    async fn see(&mut self, sight: Sight) -> Result<(), Closed> {
        match sight {
            Sight::Away(trouble) => self.tell(News::Away(trouble)).await,
            Sight::Watching => self.tell(News::Watching).await,
            Sight::Missing => self.refuse(None, Trouble::PlanMissing(self.name.clone())).await,
            Sight::Plan(plan) => match accept(&plan, &self.own_uid) {
                // The agent's own reports come back as events too.
                Ok(accepted) if self.accepted.as_ref() == Some(&accepted) => Ok(()),
                Ok(accepted) => self.follow(accepted).await,
                Err(trouble) => self.refuse(Some(generation(&plan)), trouble).await,
            },
        }
    }

    async fn refuse(&mut self, generation: Option<i64>, trouble: Trouble) -> Result<(), Closed> {
        self.accepted = None;
        self.loading = None;
        self.tell(News::Refused { generation, trouble }).await
    }

    async fn follow(&mut self, accepted: Accepted) -> Result<(), Closed> {
        let wanted = accepted.rule_set.clone();
        let generation = accepted.generation;
        self.accepted = Some(accepted);
        self.loading = None;
        match wanted {
            Some(wanted) if !self.has(&wanted) => {
                let load = load(self.rule_sets.clone(), wanted, generation, self.news.clone());
                self.loading = Some(Box::pin(load));
                Ok(())
            }
            _ => self.order().await,
        }
    }

    fn has(&self, wanted: &RuleSetRef) -> bool {
        self.loaded.as_ref().is_some_and(|rule_set| rule_set.digest().as_str() == wanted.digest)
    }

    /// The accepted plan, now that everything of it is there.
    async fn order(&mut self) -> Result<(), Closed> {
        let Some(accepted) = &self.accepted else { return Ok(()) };
        if accepted.rule_set.is_none() {
            self.loaded = None;
        }
        let order = Order {
            generation: accepted.generation,
            rule_set: self.loaded.clone(),
            exclusions: accepted.exclusions.clone(),
            report_every: accepted.report_every,
        };
        self.tell(News::Order(order)).await
    }

    async fn tell(&mut self, news: News) -> Result<(), Closed> {
        self.news.send(news).await.map_err(|_| Closed)
    }
}

/// Reads a rule set, however long it takes, and tells what stands in the way.
async fn load(
    rule_sets: Api<Object>,
    wanted: RuleSetRef,
    generation: i64,
    news: Sender<News>,
) -> Arc<RuleSet> {
    let mut backoff = DefaultBackoff::default();
    let refused = |trouble| News::Refused { generation: Some(generation), trouble };
    loop {
        let mut reading = std::pin::pin!(read(&rule_sets, &wanted));
        let result = match timeout(SLOW, &mut reading).await {
            Ok(result) => result,
            Err(_) => {
                let cause = format!("no answer in {} seconds yet", SLOW.as_secs());
                let trouble = Trouble::RuleSetUnavailable { name: wanted.name.clone(), cause };
                // Where nobody listens nobody waits for the rule set either.
                let _ = news.send(refused(trouble)).await;
                reading.await
            }
        };
        match result {
            Ok(rule_set) => return Arc::new(rule_set),
            Err(trouble) => {
                let _ = news.send(refused(trouble)).await;
                sleep(backoff.next().unwrap_or(SLOW)).await;
            }
        }
    }
}

/// From the API server's cache first: a rule set never changes. One that is not in the cache yet may be in etcd.
async fn read(rule_sets: &Api<Object>, wanted: &RuleSetRef) -> Result<RuleSet, Trouble> {
    let object = match rule_sets.get_with(&wanted.name, &GetParams::any()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => rule_sets.get(&wanted.name).await,
        other => other,
    };
    let object = object.map_err(|error| Trouble::RuleSetUnavailable {
        name: wanted.name.clone(),
        cause: match &error {
            kube::Error::Api(status) => status.message.clone(),
            error => causes(error),
        },
    })?;
    Ok(decode(&object.spec, &wanted.digest)?)
}

#[cfg(test)]
mod tests;
