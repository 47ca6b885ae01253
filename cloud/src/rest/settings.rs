//! Trace and log settings, for whoever may change the pool: reading answers what is so, also as an update that changes
//! nothing; changing is refused.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value};

use super::path::{Admin, Holder, Model};
use super::{Rest, models, status};
use crate::failure::Failure;
use crate::holding::Account;
use crate::oip::settings;

pub(super) async fn trace(State(rest): State<Rest>, _admin: Admin) -> Response {
    status::json(&settings::trace_json(rest.api.sampled()))
}

pub(super) async fn change_trace(
    State(rest): State<Rest>,
    _admin: Admin,
    Holder(account): Holder,
    headers: HeaderMap,
    request: Body,
) -> Response {
    change(&account, &headers, request, "trace settings", settings::trace_json(rest.api.sampled())).await
}

pub(super) async fn trace_of(State(rest): State<Rest>, admin: Admin, model: Model) -> Response {
    match rest.api.pool().serving().find(&model.model, &model.version) {
        Ok(_) => trace(State(rest), admin).await,
        Err(failure) => status::refuse(&failure),
    }
}

pub(super) async fn change_trace_of(
    State(rest): State<Rest>,
    admin: Admin,
    holder: Holder,
    model: Model,
    headers: HeaderMap,
    request: Body,
) -> Response {
    match rest.api.pool().serving().find(&model.model, &model.version) {
        Ok(_) => change_trace(State(rest), admin, holder, headers, request).await,
        Err(failure) => status::refuse(&failure),
    }
}

pub(super) async fn log(_admin: Admin) -> Response {
    status::json(&settings::log_json())
}

pub(super) async fn change_log(
    _admin: Admin,
    Holder(account): Holder,
    headers: HeaderMap,
    request: Body,
) -> Response {
    change(&account, &headers, request, "log settings", settings::log_json()).await
}

/// `now` if nothing is to be changed.
async fn change(account: &Account, headers: &HeaderMap, request: Body, what: &str, now: Value) -> Response {
    let wanted = models::asked::<Map<String, Value>>(account, headers, request).await;
    status::reply(wanted.and_then(|wanted| match wanted.keys().next() {
        None => Ok(now),
        Some(name) => Err(Failure::Unsupported(format!("changing {what} (`{name}`) is not offered"))),
    }))
}
