//! The status of the plan, written by server-side apply: always the whole of it, because a partial one drops the rest.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use notrack_api::{NodePlan, NodePlanStatus};
use notrack_runtime::api_server::causes;
use serde_json::json;

use super::pace::Written;

/// The owner of the status' fields.
const FIELD_MANAGER: &str = "notrack-agent";

/// Writes it. The text says why it failed.
pub async fn write(client: Client, name: String, status: NodePlanStatus) -> (Written, String) {
    let plans: Api<NodePlan> = Api::all(client);
    let patch = json!({
        "apiVersion": NodePlan::api_version(&()),
        "kind": NodePlan::kind(&()),
        "metadata": { "name": name },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match plans.patch_status(&name, &params, &Patch::Apply(&patch)).await {
        Ok(_) => (Written::Ok, String::new()),
        Err(kube::Error::Api(status)) if status.code == 404 => (Written::Gone, status.message.clone()),
        Err(kube::Error::Api(status)) => (Written::Failed, format!("{} {}", status.code, status.message)),
        Err(error) => (Written::Failed, causes(&error)),
    }
}
