//! The API server's own account of who wrote what.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;

/// A write that the API server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
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

    /// The writes of our programs since a mark.
    pub fn writes_since(&self, mark: usize) -> Result<Vec<Write>> {
        let log = fs::read(self.audit_log())?;
        let new = String::from_utf8_lossy(log.get(mark..).unwrap_or_default()).into_owned();
        // The last line may be half written.
        let lines = new.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter_map(|line| write(&line)).collect())
    }
}

fn write(line: &Value) -> Option<Write> {
    let user = line["user"]["username"].as_str()?.strip_prefix("system:serviceaccount:notrack-system:")?;
    let is_write = matches!(line["verb"].as_str()?, "create" | "update" | "patch" | "delete");
    let about = &line["objectRef"];
    let resource = match about["subresource"].as_str() {
        Some(part) => format!("{}/{part}", about["resource"].as_str()?),
        None => about["resource"].as_str()?.to_owned(),
    };
    (is_write && line["stage"] == "ResponseComplete").then(|| Write {
        user: user.to_owned(),
        resource,
        name: about["name"].as_str().unwrap_or_default().to_owned(),
        code: line["responseStatus"]["code"].as_u64().unwrap_or_default(),
    })
}
