//! `/metrics`, `/healthz`, `/readyz` and `/status` on one address.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;

/// What the server asks its program.
pub trait Source: Send + Sync + 'static {
    /// Whether the program works; the text says why not.
    fn healthy(&self) -> Result<(), String>;
    /// Whether it has done its first work.
    fn ready(&self) -> Result<(), String>;
    /// Its status as JSON.
    fn status(&self) -> serde_json::Value;
}

#[derive(Clone)]
struct Shared {
    source: Arc<dyn Source>,
    registry: Registry,
}

/// Serves as long as the program lives, on a thread of its own: whoever asks whether it lives must not wait for its work. A
/// taken port is an error at once.
pub fn start(address: SocketAddr, source: Arc<dyn Source>, registry: Registry) -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {error}; choose another address with --listen")
    })?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        let served =
            runtime.block_on(async { serve(TcpListener::from_std(listener)?, source, registry).await });
        if let Err(error) = served {
            tracing::error!("status and metrics are served no longer: {error}");
        }
    };
    std::thread::Builder::new().name("server".to_owned()).spawn(serve)?;
    Ok(())
}

async fn serve(listener: TcpListener, source: Arc<dyn Source>, registry: Registry) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|State(shared): State<Shared>| async move { answer(shared.source.healthy()) }))
        .route("/readyz", get(|State(shared): State<Shared>| async move { answer(shared.source.ready()) }))
        .route(
            "/status",
            get(|State(shared): State<Shared>| async move { axum::Json(shared.source.status()) }),
        )
        .route("/metrics", get(metrics))
        .with_state(Shared { source, registry });
    axum::serve(listener, router).await
}

fn answer(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&shared.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
