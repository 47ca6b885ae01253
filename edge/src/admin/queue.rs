//! `/queue`: the spool, for `millgate-edge queue` while the agent runs.
//!
//! It shows samples and drops entries, so it asks for a token, which stands in a file of the state directory that only the
//! agent's user can read: whoever may look into the directory may look through this, and nobody else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use millgate_shared::digest::hex;
use millgate_shared::files;
use serde::{Deserialize, Serialize};

use crate::spool::Spool;

/// The file's name in the state directory.
pub(crate) const FILE_NAME: &str = "admin.json";

/// Where a running agent is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
}

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

impl Door {
    pub(crate) fn read(state_dir: &Path) -> io::Result<Self> {
        serde_json::from_slice(&std::fs::read(state_dir.join(FILE_NAME))?).map_err(io::Error::other)
    }

    /// With a new token.
    fn write(state_dir: &Path, mut addr: SocketAddr) -> io::Result<Self> {
        if addr.ip().is_unspecified() {
            addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let door = Self { addr, token: hex(&bytes) };
        files::replace(&state_dir.join(FILE_NAME), &serde_json::to_vec(&door)?, files::PRIVATE)?;
        Ok(door)
    }
}

/// Nothing, if there is no spool or its door cannot be written down.
pub(super) fn routes(spool: Option<Spool>, state_dir: Option<&Path>, addr: SocketAddr) -> Router {
    let (Some(spool), Some(state_dir)) = (spool, state_dir) else { return Router::new() };
    let door = match Door::write(state_dir, addr) {
        Ok(door) => Arc::new(door),
        Err(error) => {
            tracing::warn!(%error, "`millgate-edge queue` cannot speak to this agent");
            return Router::new();
        }
    };
    Router::new()
        .route("/queue", get(status))
        .route("/queue/entries", get(entries))
        .route("/queue/entries/{id}", get(entry))
        .route("/queue/drop", post(discard))
        .with_state(spool)
        // Of these paths only: others are not there, whoever asks.
        .route_layer(middleware::from_fn_with_state(door, authorised))
}

async fn authorised(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let wanted = format!("Bearer {}", door.token);
    // Takes the same time wherever they differ.
    let differs = given.iter().zip(wanted.as_bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
    if differs != 0 || given.len() != wanted.len() {
        return (StatusCode::UNAUTHORIZED, "the token of the state directory is missing\n").into_response();
    }
    next.run(request).await
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

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
