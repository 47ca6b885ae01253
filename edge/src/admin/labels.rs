//! `/labels`: what people say of decisions, for `millgate-edge label` while the agent runs. It shows samples and keeps what it is
//! told, so it is behind the door of the state directory.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::door::json;
use crate::labels::Labels;
use crate::labels::kept::{Asked, Refusal, Say};

/// Decisions that are to be forgotten.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forget {
    pub(crate) ids: Vec<String>,
}

/// Tests that are to begin anew.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reset {
    /// `None`: those of all sources.
    pub(crate) source: Option<String>,
}

/// Paths of the labels.
pub(super) fn routes(labels: Labels) -> Router {
    Router::new()
        .route("/labels", post(label))
        .route("/labels/list", post(list))
        .route("/labels/forget", post(forget))
        .route("/labels/reset", post(reset))
        .route("/labels/state", get(state))
        .with_state(labels)
}

async fn label(State(labels): State<Labels>, body: Bytes) -> Response {
    match read::<Say>(&body) {
        Ok(say) => answer(labels.label(say).await),
        Err(refused) => refused,
    }
}

async fn list(State(labels): State<Labels>, body: Bytes) -> Response {
    match read::<Asked>(&body) {
        Ok(asked) => answer(labels.list(asked).await),
        Err(refused) => refused,
    }
}

async fn forget(State(labels): State<Labels>, body: Bytes) -> Response {
    match read::<Forget>(&body) {
        Ok(forget) => answer(labels.forget(forget.ids).await),
        Err(refused) => refused,
    }
}

async fn reset(State(labels): State<Labels>, body: Bytes) -> Response {
    match read::<Reset>(&body) {
        Ok(reset) => answer(labels.reset(reset.source).await),
        Err(refused) => refused,
    }
}

async fn state(State(labels): State<Labels>) -> Response {
    answer(labels.state().await)
}

#[expect(clippy::result_large_err, reason = "it is answered at once")]
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response())
}

fn answer<T: Serialize>(done: Result<T, Refusal>) -> Response {
    match done {
        Ok(done) => json(&done),
        Err(refusal) => (StatusCode::CONFLICT, json(&refusal)).into_response(),
    }
}
