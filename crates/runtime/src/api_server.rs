//! The Kubernetes API server: how both programs ask it, and what its errors say.

use std::error::Error;
use std::time::Duration;

use kube::Config;

/// A connection that was not made in this time will not be made.
const CONNECT: Duration = Duration::from_secs(10);
/// A watch gets a bookmark each minute: one that is silent for longer has lost its way, as a connection through a
/// Service address does when somebody flushes the node's connection table.
const SILENCE: Duration = Duration::from_secs(100);

/// From a kubeconfig or, in a pod, from its service account; good for watches.
pub async fn config() -> anyhow::Result<Config> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    Ok(config)
}

/// An error with its causes: "client error" alone helps nobody.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    // The API server's own words, without the rest of its answer.
    if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
        return format!("{} ({})", status.message, status.code);
    }
    let text = error.to_string();
    let Some(cause) = error.source() else { return text };
    let (cause, whole) = (causes(cause), cause.to_string());
    // Many repeat their cause in their own words.
    let own = text.strip_suffix(&whole).map_or(text.as_str(), |own| own.trim_end_matches([':', ' ']));
    if own.is_empty() { cause } else { format!("{own}: {cause}") }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_error_is_told_once_with_its_causes() {
        let status = Status::failure("page not found", "").with_code(404).boxed();
        let error = kube::runtime::watcher::Error::InitialListFailed(kube::Error::Api(status));
        assert_eq!(causes(&error), "failed to perform initial object list: page not found (404)");
    }
}
