//! The way of the command line to a running agent: where its admin port is, and a token.
//!
//! What lies behind it shows samples, drops entries and switches bundles, so it asks for a token, which stands in a file of the
//! state directory that only the agent's user can read: whoever may look into the directory may look through this, and
//! nobody else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use millgate_shared::digest::hex;
use millgate_shared::{bounded, files};
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
pub(crate) const FILE_NAME: &str = "admin.json";

/// Where a running agent is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
}

impl Door {
    pub(crate) fn read(state_dir: &Path) -> io::Result<Self> {
        serde_json::from_slice(&bounded::read(&state_dir.join(FILE_NAME), bounded::RECORD)?)
            .map_err(io::Error::other)
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

/// Puts `routes` behind a new door; none of them, if the door cannot be written down.
pub(super) fn behind(routes: Router, state_dir: &Path, addr: SocketAddr) -> Router {
    let door = match Door::write(state_dir, addr) {
        Ok(door) => Arc::new(door),
        Err(error) => {
            tracing::warn!(%error, "`millgate-edge queue` and `bundle` cannot speak to this agent");
            return Router::new();
        }
    };
    // Of these paths only: others are not there, whoever asks.
    routes.route_layer(middleware::from_fn_with_state(door, authorised))
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

pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
