//! How a write ended.

use std::time::Duration;

use notrack_runtime::api_server::causes;
use thiserror::Error;

/// The field manager of everything that this program writes.
pub const FIELD_MANAGER: &str = "notrack-controller";
/// Keeps an object that is made anew anyway out of backups: it would be restored for nodes that are not there.
pub const NO_BACKUP: (&str, &str) = ("velero.io/exclude-from-backup", "true");

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// A RuleSet.
    RuleSet,
    /// A NodePlan.
    Plan,
    /// A NoTrackPolicy's status.
    Status,
}

impl Written {
    /// The name, as in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Written::RuleSet => "ruleset",
            Written::Plan => "nodeplan",
            Written::Status => "policystatus",
        }
    }
}

/// Why a write failed.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Somebody else wrote first.
    #[error("changed since it was read: {0}")]
    Conflict(String),
    /// A controller with a later term has written.
    #[error("another controller leads by now: {0}")]
    Stale(String),
    /// The object, or its whole kind, is not there.
    #[error("not there: {0}")]
    NotFound(String),
    /// Access rules are missing.
    #[error("not allowed; see deploy/access.yaml: {0}")]
    Forbidden(String),
    /// Too many requests.
    #[error("the API server asks to come back later: {message}")]
    Throttled {
        /// Its words.
        message: String,
        /// When.
        after: Option<Duration>,
    },
    /// Refused for what is in it.
    #[error("refused: {0}")]
    Refused(String),
    /// Anything else: no connection, mostly.
    #[error("{0}")]
    Unreachable(String),
}

impl WriteError {
    /// The variant, as a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            WriteError::Conflict(_) => "conflict",
            WriteError::Stale(_) => "stale",
            WriteError::NotFound(_) => "not_found",
            WriteError::Forbidden(_) => "forbidden",
            WriteError::Throttled { .. } => "throttled",
            WriteError::Refused(_) => "refused",
            WriteError::Unreachable(_) => "unreachable",
        }
    }

    /// When another attempt makes sense, after so many failures.
    pub fn retry_after(&self, failures: u32) -> Duration {
        let backoff = Duration::from_millis(200 << failures.min(8)).min(Duration::from_secs(30));
        match self {
            // The watch tells the newer state at once.
            WriteError::Conflict(_) if failures < 5 => Duration::from_millis(100),
            WriteError::Throttled { after: Some(after), .. } => backoff.max(*after),
            _ => backoff,
        }
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> WriteError {
        let kube::Error::Api(status) = error else { return WriteError::Unreachable(causes(&error)) };
        let message = status.message.clone();
        match status.code {
            409 => WriteError::Conflict(message),
            422 if message.contains("stale controller") => WriteError::Stale(message),
            404 => WriteError::NotFound(message),
            401 | 403 => WriteError::Forbidden(message),
            429 => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                let after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                WriteError::Throttled { message, after }
            }
            400..500 => WriteError::Refused(message),
            _ => WriteError::Unreachable(message),
        }
    }
}

/// A request that hangs must not hold up everything after it.
const LONGEST: Duration = Duration::from_secs(20);

/// The answer to a request, if it comes in time.
pub async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(LONGEST, request).await {
        Ok(answer) => answer.map_err(WriteError::from),
        Err(_) => Err(WriteError::Unreachable(format!("no answer within {} s", LONGEST.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn error(code: u16, message: &str) -> WriteError {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed()).into()
    }

    #[test]
    fn the_server_says_what_went_wrong() {
        let stale = "NodePlan.notrack.dev \"a\" is invalid: spec.epoch: Forbidden: stale controller: epoch must not decrease";
        assert_eq!(error(422, stale).reason(), "stale");
        assert_eq!(error(422, "spec.exclusions: too many").reason(), "refused");
        assert_eq!(error(409, "the object has been modified").reason(), "conflict");
        assert_eq!(error(503, "").reason(), "unreachable");
    }

    #[test]
    fn attempts_come_less_and_less_often() {
        let failed = error(500, "");
        assert!(failed.retry_after(0) < failed.retry_after(3));
        assert_eq!(failed.retry_after(1000), Duration::from_secs(30));
        let throttled = WriteError::Throttled { message: String::new(), after: Some(Duration::from_secs(7)) };
        assert_eq!(throttled.retry_after(0), Duration::from_secs(7));
    }
}
