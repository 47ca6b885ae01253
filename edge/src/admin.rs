//! The HTTP side for operators: `/metrics`, `/healthz` (the process lives) and `/readyz` (it takes
//! samples), and `/queue` for the command line.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use millgate_shared::metrics::CONTENT_TYPE;
use millgate_shared::shutdown::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::metrics::Metrics;
use crate::spool::Spool;

pub(crate) mod queue;

#[derive(Debug, Clone)]
struct Admin {
    agent: Agent,
    metrics: Arc<Metrics>,
    /// Cancelled when no more samples are taken.
    draining: CancellationToken,
}

/// Serves until `tasks` stop; gives the address. `intake` are the tasks that take samples; `state_dir` is
/// where the command line finds the way to the `spool`.
pub(crate) fn start(
    listener: TcpListener,
    agent: &Agent,
    metrics: &Arc<Metrics>,
    spool: Option<Spool>,
    state_dir: Option<&Path>,
    intake: &Tasks,
    tasks: &Tasks,
) -> std::io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let admin =
        Admin { agent: agent.clone(), metrics: Arc::clone(metrics), draining: intake.token().clone() };
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| std::future::ready("alive\n")))
        .route("/readyz", get(ready))
        .with_state(admin)
        .merge(queue::routes(spool, state_dir, address));
    let stop = tasks.token().clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "admin port has failed");
        }
    });
    Ok(address)
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], admin.metrics.render(&admin.agent))
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.draining.is_cancelled() {
        false => (StatusCode::OK, "ready\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}
