//! The Open Inference Protocol over HTTP, with Triton's extensions: binary tensors, classification, statistics,
//! configuration, the model repository. The same semantics as over gRPC, and the same path: `api::infer`.
//!
//! `door::http1` (bounded, timed) -> here -> `infer`: `body` (bounded) -> `encoding` -> `request` -> api -> `answer`

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use millgate_shared::door::http1::Guard;
use millgate_shared::door::origin::Hosts;

use crate::access::Access;
use crate::access::layer::AccessLayer;
use crate::api::{Api, server_metadata};
use crate::failure::Failure;
use crate::holding::Holding;
use crate::holding::layer::{HoldingLayer, Protocol};
use crate::oip::json;
use crate::readiness::{Readiness, Unready};

mod answer;
mod body;
mod data;
mod encoding;
mod head;
mod infer;
mod models;
mod path;
mod request;
mod settings;
mod status;

/// What `crate::fuzzing` reads: the number of inputs.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_for_fuzzing(head: Option<usize>, body: bytes::Bytes) -> Result<usize, Failure> {
    let model = path::Model { model: "m".to_owned(), version: String::new() };
    request::read(model, head, body, &mut |_| Ok(())).map(|(request, _)| request.inputs.len())
}

/// The API, and whether work is wanted. Cheap to clone.
#[derive(Debug, Clone)]
struct Rest {
    api: Api,
    readiness: Readiness,
}

/// What anyone may ask: whether the server lives.
const OPEN: &str = "/v2/health/";

/// Must wrap the router; see [`crate::access`].
pub(crate) fn access(access: &Arc<Access>) -> AccessLayer<Body> {
    AccessLayer::new(Arc::clone(access), |path| path.starts_with(OPEN), status::refuse)
}

/// What is looked at before the router is asked: see [`millgate_shared::door::origin`].
pub(crate) fn guard(hosts: Hosts) -> Guard {
    Guard { hosts, is_health: |path| path.starts_with(OPEN), refuse: status::refuse_with }
}

/// Must wrap the router inside of [`access`]; see [`crate::holding`].
pub(crate) fn holding(holding: &Arc<Holding>) -> HoldingLayer<Body> {
    let protocol = Protocol::<Body> {
        is_open: |path| path.starts_with(OPEN),
        refuse: status::refuse,
        arriving: None,
        fail: |failure| Err(axum::Error::new(failure.clone())),
    };
    HoldingLayer::new(Arc::clone(holding), protocol)
}

pub(crate) fn router(api: Api, readiness: Readiness) -> Router {
    let model = Router::new()
        .route("/", get(models::metadata))
        .route("/ready", get(models::ready))
        .route("/config", get(models::config))
        .route("/stats", get(models::statistics))
        .route("/infer", post(infer::infer))
        .route("/trace/setting", get(settings::trace_of).post(settings::change_trace_of));
    let memory = Router::new()
        .route("/status", get(no_regions))
        .route("/region/{region}/status", get(no_region))
        .route("/region/{region}/register", post(memory))
        .route("/region/{region}/unregister", post(memory))
        .route("/unregister", post(memory));
    Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(models::all_statistics))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .route("/v2/repository/index", post(models::index))
        .route("/v2/repository/models/{model}/load", post(models::load))
        .route("/v2/repository/models/{model}/unload", post(models::unload))
        .nest("/v2/systemsharedmemory", memory.clone())
        .nest("/v2/cudasharedmemory", memory)
        .route("/v2/trace/setting", get(settings::trace).post(settings::change_trace))
        .route("/v2/logging", get(settings::log).post(settings::change_log))
        .fallback(async || status::refuse_with(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            status::refuse_with(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .with_state(Rest { api, readiness })
}

async fn server() -> Response {
    status::reply(json::of("ServerMetadataResponse", &server_metadata()))
}

/// The bodies are the protocol's own; Triton leaves them empty, KServe's client reads them.
async fn live() -> Response {
    status::json(&serde_json::json!({ "live": true }))
}

async fn ready(State(rest): State<Rest>) -> Response {
    match rest.readiness.why_not() {
        None => status::json(&serde_json::json!({ "ready": true })),
        Some(Unready::Draining) => status::not_ready(None, &Failure::Stopped),
        Some(Unready::Stalled) => status::not_ready(None, &Failure::Stalled),
    }
}

fn unsupported(what: &str) -> Response {
    status::refuse(&Failure::Unsupported(format!("{what} is not offered")))
}

async fn memory() -> Response {
    unsupported("shared memory")
}

async fn no_regions() -> Response {
    status::json(&[(); 0])
}

async fn no_region() -> Response {
    status::refuse_with(StatusCode::NOT_FOUND, "no memory is shared with clients")
}
