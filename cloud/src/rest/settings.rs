//! Trace and log settings: reading answers what is so, also as an update that changes nothing; changing is refused.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value};

use super::path::{Asker, Model};
use super::{Rest, models, status};
use crate::failure::Failure;
use crate::oip::settings;

pub(super) async fn trace(State(rest): State<Rest>) -> Response {
    status::json(&settings::trace_json(rest.api.sampled()))
}

pub(super) async fn trace_of(State(rest): State<Rest>, model: Model) -> Response {
    let found = rest.api.pool().serving().find(&model.model, &model.version);
    status::reply(found.map(|_| settings::trace_json(rest.api.sampled())))
}

pub(super) async fn change_trace(
    State(rest): State<Rest>,
    asker: Asker,
    headers: HeaderMap,
    request: Body,
) -> Response {
    change(&asker, &headers, request, "trace settings", settings::trace_json(rest.api.sampled())).await
}

pub(super) async fn change_trace_of(
    State(rest): State<Rest>,
    asker: Asker,
    model: Model,
    headers: HeaderMap,
    request: Body,
) -> Response {
    if let Err(failure) = rest.api.pool().serving().find(&model.model, &model.version) {
        return status::refuse(&failure);
    }
    change_trace(State(rest), asker, headers, request).await
}

pub(super) async fn log() -> Response {
    status::json(&settings::log_json())
}

pub(super) async fn change_log(asker: Asker, headers: HeaderMap, request: Body) -> Response {
    change(&asker, &headers, request, "log settings", settings::log_json()).await
}

/// `now` if nothing is to be changed.
async fn change(asker: &Asker, headers: &HeaderMap, request: Body, what: &str, now: Value) -> Response {
    let wanted = models::asked::<Map<String, Value>>(headers, request).await;
    let changed = wanted.and_then(|wanted| match wanted.keys().next() {
        None => Ok(now),
        Some(name) => {
            asker.0.may_change_the_pool()?;
            Err(Failure::Unsupported(format!("changing {what} (`{name}`) is not offered")))
        }
    });
    status::reply(changed)
}
