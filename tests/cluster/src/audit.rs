//! The API server's own account of who wrote what.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;

/// A request that the API server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `list`, `watch`, `patch` ...
    pub verb: String,
    /// Whose: `notrack-controller` or `notrack-agent`.
    pub user: String,
    /// Resource and subresource: `nodeplans/status`.
    pub resource: String,
    /// The object's name.
    pub name: String,
    /// The HTTP status.
    pub code: u64,
}

impl Cluster {
    /// How long the log of requests is now: what comes behind is newer.
    pub fn audit_mark(&self) -> Result<usize> {
        Ok(usize::try_from(fs::metadata(self.audit_log())?.len())?)
    }

    /// The requests of our programs since a mark.
    pub fn requests_since(&self, mark: usize) -> Result<Vec<Request>> {
        let log = fs::read(self.audit_log())?;
        let new = String::from_utf8_lossy(log.get(mark..).unwrap_or_default()).into_owned();
        // The last line may be half written.
        let lines = new.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter_map(|line| request(&line)).collect())
    }

    /// Those of them that write.
    pub fn writes_since(&self, mark: usize) -> Result<Vec<Request>> {
        let mut requests = self.requests_since(mark)?;
        let writes = ["create", "update", "patch", "delete"];
        requests.retain(|request| writes.contains(&request.verb.as_str()));
        Ok(requests)
    }

    /// Fails unless there was every admission policy before there was an agent: until then nothing holds one to its node.
    pub fn admission_came_first(&self) -> Result<()> {
        self.was_made_in_order(
            &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
            "daemonsets",
        )
    }

    /// Fails unless the API server has made every object of ours of the kinds `first` before any of the kind `then`. Kinds
    /// are named as in URLs.
    pub fn was_made_in_order(&self, first: &[&str], then: &str) -> Result<()> {
        let log = fs::read_to_string(self.audit_log())?;
        let log: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let made = |resource: &str| -> Vec<usize> {
            (0..).zip(&log).filter(|(_, line)| makes(line, resource)).map(|(place, _)| place).collect()
        };
        let start = *made(then).first().with_context(|| format!("there are no {then} of ours"))?;
        for resource in first {
            let end = *made(resource).last().with_context(|| format!("there are no {resource} of ours"))?;
            ensure!(end < start, "{then} were made before {resource}");
        }
        Ok(())
    }
}

/// Whether a line of the log is about an object of ours that was made by it.
fn makes(line: &Value, resource: &str) -> bool {
    let about = &line["objectRef"];
    about["resource"] == resource
        && about["name"].as_str().is_some_and(|name| name.contains("notrack"))
        && ["create", "patch"].contains(&line["verb"].as_str().unwrap_or_default())
        && line["responseStatus"]["code"] == 201
        && !line["requestURI"].as_str().unwrap_or_default().contains("dryRun=")
}

fn request(line: &Value) -> Option<Request> {
    let user = line["user"]["username"].as_str()?.strip_prefix("system:serviceaccount:notrack-system:")?;
    let about = &line["objectRef"];
    let resource = match about["subresource"].as_str() {
        Some(part) => format!("{}/{part}", about["resource"].as_str()?),
        None => about["resource"].as_str()?.to_owned(),
    };
    (line["stage"] == "ResponseComplete").then(|| Request {
        verb: line["verb"].as_str().unwrap_or_default().to_owned(),
        user: user.to_owned(),
        resource,
        name: about["name"].as_str().unwrap_or_default().to_owned(),
        code: line["responseStatus"]["code"].as_u64().unwrap_or_default(),
    })
}
