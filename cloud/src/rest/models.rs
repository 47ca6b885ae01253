//! What is known of models, and which are served.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millgate_shared::proto::inference as proto;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::path::{Admin, Asker, Holder, Model};
use super::{Rest, body, head, status};
use crate::access::may_run;
use crate::failure::{Failure, without_places};
use crate::holding::Account;
use crate::oip::{describe, json};
use crate::serving::run::Deployed;
use crate::serving::served::Served;

/// A request about models is a line of text.
const LONGEST: usize = 1 << 20;

fn found(rest: &Rest, model: &Model, describe: impl FnOnce(&Served) -> Result<Value, Failure>) -> Response {
    let found = rest.api.pool().serving().find(&model.model, &model.version);
    status::reply(found.and_then(|served| describe(&served)))
}

pub(super) async fn metadata(State(rest): State<Rest>, model: Model) -> Response {
    let versions = rest.api.pool().serving().versions(&model.model);
    found(&rest, &model, |served| json::of("ModelMetadataResponse", &describe::metadata(served, &versions)))
}

pub(super) async fn config(State(rest): State<Rest>, model: Model) -> Response {
    found(&rest, &model, |served| json::of("ModelConfig", &describe::config(served)))
}

pub(super) async fn ready(State(rest): State<Rest>, model: Model) -> Response {
    match rest.api.pool().serving().find(&model.model, &model.version) {
        Ok(_) => status::json(&serde_json::json!({ "name": model.model, "ready": true })),
        Err(failure) => status::not_ready(Some(&model.model), &failure),
    }
}

pub(super) async fn statistics(State(rest): State<Rest>, model: Model) -> Response {
    let found = rest.api.pool().serving().find_all(&model.model, &model.version);
    status::reply(found.and_then(|served| statistics_of(&served)))
}

pub(super) async fn all_statistics(State(rest): State<Rest>, asker: Asker) -> Response {
    let rights = match asker.rights() {
        Ok(rights) => rights,
        Err(failure) => return status::refuse(&failure),
    };
    let pool = rest.api.pool();
    let all = pool.serving().all().into_iter();
    let all: Vec<_> =
        all.filter(|served| may_run(&rights, pool.manifest().as_deref(), &served.name).is_ok()).collect();
    status::reply(statistics_of(&all))
}

fn statistics_of(served: &[Arc<Deployed>]) -> Result<Value, Failure> {
    let model_stats = served.iter().map(|served| describe::statistics(served)).collect();
    json::of("ModelStatisticsResponse", &proto::ModelStatisticsResponse { model_stats })
}

/// A small request, which may be left out.
pub(super) async fn asked<T: DeserializeOwned + Default>(
    account: &Account,
    headers: &HeaderMap,
    request: Body,
) -> Result<T, Failure> {
    let (text, _held) = body::read(account, headers, request, LONGEST).await?;
    match text.is_empty() {
        true => Ok(T::default()),
        false => head::parse(&text),
    }
}

#[derive(Debug, Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) async fn index(
    State(rest): State<Rest>,
    asker: Asker,
    Holder(account): Holder,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let rights = match asker.rights() {
        Ok(rights) => rights,
        Err(failure) => return status::refuse(&failure),
    };
    let only_ready = match asked::<IndexRequest>(&account, &headers, request).await {
        Ok(asked) => asked.ready,
        Err(failure) => return status::refuse(&failure),
    };
    let index = rest.api.pool().serving().index();
    let models = index.into_iter().filter(|listed| !only_ready || listed.reason.is_none());
    let models =
        models.filter(|listed| may_run(&rights, rest.api.pool().manifest().as_deref(), &listed.name).is_ok());
    let models = models.map(|listed| Listed {
        name: listed.name,
        version: listed.version,
        state: if listed.reason.is_none() { "READY" } else { "UNAVAILABLE" },
        reason: listed.reason.or(listed.note).as_deref().map(without_places),
    });
    status::json(&models.collect::<Vec<_>>())
}

#[derive(Debug, Default, Deserialize)]
struct ChangeRequest {
    #[serde(default)]
    parameters: Map<String, Value>,
}

fn changed(done: Result<(), Failure>) -> Response {
    match done {
        Ok(()) => status::done(),
        Err(failure) => status::refuse(&failure),
    }
}

pub(super) async fn load(
    State(rest): State<Rest>,
    _admin: Admin,
    Holder(account): Holder,
    model: Model,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let parameters = match asked::<ChangeRequest>(&account, &headers, request).await {
        Ok(asked) => asked.parameters,
        Err(failure) => return status::refuse(&failure),
    };
    if let Some(name) = parameters.keys().next() {
        return super::unsupported(&format!("parameter `{name}`"));
    }
    changed(rest.api.change_models(move |pool| pool.load_model(&model.model)).await)
}

/// Nothing here depends on another model, so that `unload_dependents` means nothing.
pub(super) async fn unload(
    State(rest): State<Rest>,
    _admin: Admin,
    Holder(account): Holder,
    model: Model,
    headers: HeaderMap,
    request: Body,
) -> Response {
    match asked::<ChangeRequest>(&account, &headers, request).await {
        Ok(_) => changed(rest.api.change_models(move |pool| pool.unload_model(&model.model)).await),
        Err(failure) => status::refuse(&failure),
    }
}
