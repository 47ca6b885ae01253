//! `/queue`: the spool, for `millgate-edge queue` while the agent runs. It shows samples and drops entries, so it is behind
//! the door of the state directory.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::door::json;
use crate::spool::Spool;

/// What is to be dropped.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drop {
    #[serde(default)]
    pub(crate) ids: Vec<String>,
    #[serde(default)]
    pub(crate) all: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) dropped: usize,
}

/// Paths of the spool; none, if there is no spool.
pub(super) fn routes(spool: Option<Spool>) -> Router {
    let Some(spool) = spool else { return Router::new() };
    Router::new()
        .route("/queue", get(status))
        .route("/queue/entries", get(entries))
        .route("/queue/entries/{id}", get(entry))
        .route("/queue/drop", post(discard))
        .with_state(spool)
}

async fn status(State(spool): State<Spool>) -> Response {
    json(&spool.status().await)
}

async fn entries(State(spool): State<Spool>) -> Response {
    json(&spool.list().await)
}

async fn entry(State(spool): State<Spool>, UrlPath(id): UrlPath<String>) -> Response {
    match spool.body(id).await {
        Some(body) => ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response(),
        None => (StatusCode::NOT_FOUND, "no such entry\n").into_response(),
    }
}

async fn discard(State(spool): State<Spool>, body: Bytes) -> Response {
    let drop: Drop = match serde_json::from_slice(&body) {
        Ok(drop) => drop,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let ids = (!drop.all).then_some(drop.ids);
    json(&Dropped { dropped: spool.discard(ids).await })
}
