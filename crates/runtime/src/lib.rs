//! What the programs share.
//!
//! ```text
//! logging ── structured logs                         reminder ── what stays wrong, said now and then
//! metrics ── made, listed, shown as of one moment    server ── /metrics, /healthz, /readyz, /status
//! shutdown ── the signals that end a program         bucket ── a budget of writes
//! api_server ── how Kubernetes is asked, and what its errors say
//! ```
#![forbid(unsafe_code)]

pub mod api_server;
pub mod bucket;
pub mod logging;
pub mod metrics;
pub mod reminder;
pub mod server;
pub mod shutdown;
