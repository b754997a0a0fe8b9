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

/// Listens on an address. Separate from [`serve`], so that a taken port is an error at start.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {error}; choose another address with --listen")
    })
}

/// Serves until the future is dropped.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn Source>,
    registry: Registry,
) -> std::io::Result<()> {
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
