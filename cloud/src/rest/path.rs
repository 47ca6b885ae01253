//! The model that a path names, for those who may run it; and whoever may change the pool.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Deserialize;

use super::{Rest, status};
use crate::access::rights::Rights;
use crate::access::{Caller, caller};
use crate::failure::Failure;
use crate::holding::Account;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    pub(super) model: String,
    /// Empty: the one that is served by default.
    #[serde(default)]
    pub(super) version: String,
}

impl FromRequestParts<Rest> for Model {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, Response> {
        let path = Path::<Self>::from_request_parts(parts, rest).await;
        let Path(model) =
            path.map_err(|error| status::refuse_with(StatusCode::BAD_REQUEST, &error.to_string()))?;
        let allowed = caller(&parts.extensions)
            .and_then(|it| it.may_run(rest.api.pool().manifest().as_deref(), &model.model));
        allowed.map_err(|failure| status::refuse(&failure))?;
        Ok(model)
    }
}

/// Whoever asks may see some models.
#[derive(Debug)]
pub(super) struct Asker(pub(super) Caller);

impl FromRequestParts<Rest> for Asker {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _rest: &Rest) -> Result<Self, Response> {
        caller(&parts.extensions).map(Self).map_err(|failure| status::refuse(&failure))
    }
}

impl Asker {
    pub(super) fn rights(&self) -> Result<Arc<Rights>, Failure> {
        self.0.rights()
    }
}

/// What the request holds of the pool.
#[derive(Debug)]
pub(super) struct Holder(pub(super) Account);

impl FromRequestParts<Rest> for Holder {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _rest: &Rest) -> Result<Self, Response> {
        let account = parts.extensions.get::<Account>().cloned().map(Self);
        account.ok_or_else(|| status::refuse(&Failure::Stopped))
    }
}

/// Whoever asks may change the pool.
#[derive(Debug)]
pub(super) struct Admin;

impl FromRequestParts<Rest> for Admin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _rest: &Rest) -> Result<Self, Response> {
        let allowed = caller(&parts.extensions).and_then(|caller| caller.may_change_the_pool());
        allowed.map(|()| Self).map_err(|failure| status::refuse(&failure))
    }
}
