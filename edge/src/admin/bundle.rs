//! `/bundle`: which bundle the agent decides with, for `millgate-edge bundle` while the agent runs. It switches bundles, so it
//! is behind the door of the state directory.

use std::path::PathBuf;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::door::json;
use crate::epochs::{Epochs, Refusal, Report, SwitchError};

/// What is to be switched to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// Path of the bundle as this device names it, absolute.
    pub(crate) path: PathBuf,
}

/// Paths of the bundles.
pub(super) fn routes(epochs: Epochs) -> Router {
    Router::new()
        .route("/bundle", get(status))
        .route("/bundle/switch", post(switch))
        .route("/bundle/rollback", post(rollback))
        .with_state(epochs)
}

async fn status(State(epochs): State<Epochs>) -> Response {
    json(&epochs.state())
}

async fn switch(State(epochs): State<Epochs>, body: Bytes) -> Response {
    let switch: Switch = match serde_json::from_slice(&body) {
        Ok(switch) => switch,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    answer(epochs.switch(switch.path).await)
}

async fn rollback(State(epochs): State<Epochs>) -> Response {
    answer(epochs.roll_back().await)
}

fn answer(done: Result<Report, SwitchError>) -> Response {
    match done {
        Ok(report) => json(&report),
        Err(error) => (StatusCode::CONFLICT, json(&Refusal::of(&error))).into_response(),
    }
}
