//! Installs our CustomResourceDefinitions, or brings them up to this version.
//!
//! They are no part of a Helm release: `helm rollback` applies what was rendered for an older one, and fields that an
//! older definition does not know are dropped from every object that is written. So newer ones stay as they are.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use notrack_api::VERSION_LABEL;
use semver::Version;
use tokio::time::{Instant, sleep};

use super::LOOK;
use crate::write::{FIELD_MANAGER, WriteError, within};

/// Installs all of them, and waits until the API server serves them.
pub async fn run(client: &Client, patience: Duration) -> anyhow::Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let deadline = Instant::now() + patience;
    for ours in notrack_api::crds() {
        let name = ours.name_any();
        while let Err(error) = install(&api, &name, &ours).await {
            let is_final = matches!(error, WriteError::Forbidden(_) | WriteError::Refused(_));
            if is_final || Instant::now() >= deadline {
                return Err(error).with_context(|| format!("{name} is not installed"));
            }
            tracing::warn!("{name}: {error}; tries again");
            sleep(LOOK).await;
        }
        while !within(api.get(&name)).await.as_ref().is_ok_and(is_served) {
            if Instant::now() >= deadline {
                bail!(
                    "{name} is installed, but the API server does not serve it: see kubectl describe crd {name}"
                );
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn install(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    ours: &CustomResourceDefinition,
) -> Result<(), WriteError> {
    let known = within(api.get_opt(name)).await?;
    match known.as_ref().and_then(version) {
        Some(theirs) if version(ours).is_some_and(|ours| ours < theirs) => {
            tracing::info!("{name} is of version {theirs}, newer than this one: left as it is");
            return Ok(());
        }
        theirs => {
            let theirs = theirs.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
            tracing::info!(
                "{name} {}",
                known.map_or_else(|| "is new".to_owned(), |_| format!("was of version {theirs}"))
            );
        }
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    within(api.patch(name, &params, &Patch::Apply(ours))).await.map(drop)
}

/// Of which version of this project a definition is.
fn version(crd: &CustomResourceDefinition) -> Option<Version> {
    crd.metadata.labels.as_ref()?.get(VERSION_LABEL)?.parse().ok()
}

fn is_served(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Deletes them, and with them every object of their kinds.
pub async fn delete(client: &Client) -> anyhow::Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in notrack_api::crds() {
        let name = crd.name_any();
        match within(api.delete(&name, &DeleteParams::default())).await {
            Ok(_) => tracing::info!("{name} is deleted"),
            Err(WriteError::NotFound(_)) => {}
            Err(error) => return Err(error).with_context(|| format!("{name} is not deleted")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_versions() {
        let of = |text: &str| {
            let [mut crd, ..] = notrack_api::crds();
            crd.labels_mut().insert(VERSION_LABEL.to_owned(), text.to_owned());
            version(&crd)
        };
        assert!(of("0.10.0") > of("0.9.1") && of("1.0.0") > of("1.0.0-rc.1"));
        assert_eq!(of("latest"), None);
        let [ours, ..] = notrack_api::crds();
        assert_eq!(version(&ours), env!("CARGO_PKG_VERSION").parse().ok());
    }
}
