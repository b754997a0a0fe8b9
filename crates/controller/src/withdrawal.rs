//! The order that no node runs any rules any more, because the operator is about to be uninstalled.
//!
//! An agent cannot tell an uninstall from an upgrade, so the job that runs before an uninstall makes a Lease, and the
//! controller that leads then publishes plans without rules. The Lease belongs to the controllers' Deployment: it goes
//! with it, and the next installation knows nothing of it. Controllers that have seen it hold to it to their end. It also
//! runs out, so that an uninstall that somebody gave up leaves no cluster without its rules for good.

use jiff::{Span, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;

/// The name of the Lease.
pub const LEASE: &str = "notrack-withdrawal";
/// How long it holds.
pub const LASTS_SECONDS: i32 = 600;

/// Until when the order holds. A Lease without times is none.
pub fn end(lease: &Lease) -> Timestamp {
    let end = || {
        let spec = lease.spec.as_ref()?;
        let seconds = i64::from(spec.lease_duration_seconds?);
        spec.renew_time.as_ref()?.0.checked_add(Span::new().seconds(seconds)).ok()
    };
    end().unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_holds_until_its_lease_is_over() {
        let lease = |spec| -> Lease {
            let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": spec});
            serde_json::from_value(object).unwrap()
        };
        let of = |spec| end(&lease(spec)).to_string();
        let spec = json!({"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": LASTS_SECONDS});
        assert_eq!(of(spec), "2026-01-01T00:10:00Z");
        assert_eq!(of(json!({"renewTime": "2026-01-01T00:00:00.000000Z"})), "1970-01-01T00:00:00Z");
    }
}
