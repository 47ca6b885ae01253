//! The HTTP side for operators: `/metrics`, `/healthz` (the process lives) and `/readyz` (it wants work).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use millgate_shared::door::http1::Guard;
use millgate_shared::door::origin::Hosts;
use millgate_shared::metrics::Format;

use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::readiness::Readiness;

#[derive(Debug, Clone)]
struct Admin {
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

/// What is looked at before the router is asked: see [`millgate_shared::door::origin`].
pub(crate) fn guard(hosts: Hosts) -> Guard {
    Guard {
        hosts,
        is_health: |path| ["/healthz", "/readyz"].contains(&path),
        refuse: |status, words| (status, format!("{words}\n")).into_response(),
    }
}

pub(crate) fn router(pool: Arc<Pool>, metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| std::future::ready("alive\n")))
        .route("/readyz", get(ready))
        .with_state(Admin { pool, metrics, readiness })
}

async fn metrics_text(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::wanted(headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes));
    let page = admin.metrics.render(&admin.pool, format);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], page)
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.readiness.why_not() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.as_str())),
    }
}
