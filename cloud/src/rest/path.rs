//! The model that a path names.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Deserialize;

use super::status;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    pub(super) model: String,
    /// Empty: the one that is served by default.
    #[serde(default)]
    pub(super) version: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Model {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path = Path::<Self>::from_request_parts(parts, state).await;
        path.map(|Path(model)| model)
            .map_err(|error| status::refuse_with(StatusCode::BAD_REQUEST, &error.to_string()))
    }
}
