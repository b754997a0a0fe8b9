//! What the programs share: tracing, the metrics and health server, shutdown.
#![forbid(unsafe_code)]

pub mod api_server;
pub mod logging;
pub mod metrics;
pub mod server;
pub mod shutdown;
