//! The work that leaves the main loop, and what comes back from it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::collect;
use crate::crds::{self, Installed};
use crate::objects::RuleSet;
use crate::publish::{self, Outcome, Work};
use crate::status::{self, Due, Wrote};
use crate::write::WriteError;

/// What comes back.
#[derive(Debug)]
pub enum Effect {
    /// From a publication.
    Published(Outcome),
    /// A policy's status was written, or not.
    Status(Wrote),
    /// A step of collecting RuleSets ended; `None`: the RuleSet is gone.
    Collected(String, Result<Option<RuleSet>, WriteError>),
    /// What was found of the CRDs.
    Crds(Installed),
    /// What the CRDs lack.
    CrdsLack(Vec<String>),
}

/// Starts work; each piece answers by itself.
#[derive(Clone)]
pub struct Effects {
    /// For all of it.
    pub client: Client,
    /// Where answers go.
    pub answers: mpsc::Sender<Effect>,
}

impl Effects {
    /// Publishes. Setting the flag stops it before its next write.
    pub fn publish(&self, work: Work, known_crds: Vec<String>) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, mut receiver) = mpsc::channel(64);
        tokio::spawn(publish::publish(self.client.clone(), work, known_crds, stop.clone(), sender));
        let answers = self.answers.clone();
        tokio::spawn(async move {
            while let Some(outcome) = receiver.recv().await {
                drop(answers.send(Effect::Published(outcome)).await);
            }
        });
        stop
    }

    /// Writes policies' statuses.
    pub fn write_statuses(&self, due: Vec<Due>) {
        let (sender, mut receiver) = mpsc::channel(64);
        tokio::spawn(status::write(self.client.clone(), due, sender));
        let answers = self.answers.clone();
        tokio::spawn(async move {
            while let Some(wrote) = receiver.recv().await {
                drop(answers.send(Effect::Status(wrote)).await);
            }
        });
    }

    /// Marks, unmarks and deletes RuleSets.
    pub fn collect(&self, steps: Vec<collect::Step>, now: Timestamp) {
        let Effects { client, answers } = self.clone();
        tokio::spawn(async move {
            let api = Api::all(client);
            for step in steps {
                let result = collect::take(&api, &step, now).await;
                let answer = Effect::Collected(step.name().to_owned(), result);
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Looks for the CRDs.
    pub fn look_for_crds(&self) {
        let Effects { client, answers } = self.clone();
        tokio::spawn(async move {
            drop(answers.send(Effect::Crds(crds::installed(&client).await)).await);
        });
    }

    /// Compares the CRDs with ours.
    pub fn compare_crds(&self) {
        let Effects { client, answers } = self.clone();
        tokio::spawn(async move {
            match crds::behind(&client).await {
                Ok(lacking) => drop(answers.send(Effect::CrdsLack(lacking)).await),
                Err(error) => tracing::warn!("the CRDs cannot be compared: {error}"),
            }
        });
    }
}
