//! Answers without tensors, and failures as HTTP statuses with Triton's body, `{"error": "..."}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::api::shortened;
use crate::failure::Failure;

/// The time after which to come back, for clients that can wait less than the whole second of `Retry-After`.
const RETRY_AFTER_MS: &str = "retry-after-ms";

pub(super) fn status_of(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Field(_) | Failure::Sample(_) | Failure::Bundle { .. } | Failure::NoBundle => {
            StatusCode::BAD_REQUEST
        }
        // As gRPC's FAILED_PRECONDITION is mapped to HTTP: who asks again gets the same answer.
        Failure::Unservable { .. } => StatusCode::BAD_REQUEST,
        Failure::UnknownExpert(_) | Failure::UnknownModel(_) | Failure::UnknownVersion { .. } => {
            StatusCode::NOT_FOUND
        }
        Failure::Refused { .. } => StatusCode::TOO_MANY_REQUESTS,
        Failure::Deadline => StatusCode::GATEWAY_TIMEOUT,
        Failure::Late(_) => StatusCode::REQUEST_TIMEOUT,
        Failure::Stopped | Failure::Stalled | Failure::Ended { .. } | Failure::NotReady { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Failure::Model(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Failure::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        Failure::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Failure::Denied(_) => StatusCode::FORBIDDEN,
        Failure::Precondition(_) | Failure::Enrolment { .. } => StatusCode::BAD_REQUEST,
        Failure::TooLarge { .. } | Failure::Memory(_) => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

pub(super) fn refuse(failure: &Failure) -> Response {
    refuse_as(failure, serde_json::json!({ "error": shortened(failure.told()) }))
}

/// Whatever is asked for is not ready: the protocol's `ready`, for clients that read it, beside the error. `name` is
/// that of a model.
pub(super) fn not_ready(name: Option<&str>, failure: &Failure) -> Response {
    let mut body = serde_json::json!({ "ready": false, "error": shortened(failure.told()) });
    if let Some(name) = name {
        body["name"] = name.into();
    }
    refuse_as(failure, body)
}

fn refuse_as(failure: &Failure, body: Value) -> Response {
    let mut response = json(&body);
    *response.status_mut() = status_of(failure);
    if let Failure::Refused { retry_after, .. } = failure {
        retry(response.headers_mut(), *retry_after);
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn retry(headers: &mut HeaderMap, after: Duration) {
    let millis = after.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
}

pub(super) fn refuse_with(status: StatusCode, message: &str) -> Response {
    let mut response = json(&serde_json::json!({ "error": message }));
    *response.status_mut() = status;
    response
}

/// 200 without a body.
pub(super) fn done() -> Response {
    StatusCode::OK.into_response()
}

pub(super) fn reply(answer: Result<Value, Failure>) -> Response {
    match answer {
        Ok(value) => json(&value),
        Err(failure) => refuse(&failure),
    }
}

pub(super) fn json(value: &impl Serialize) -> Response {
    let Ok(text) = serde_json::to_vec(value) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    ([(header::CONTENT_TYPE, "application/json")], Body::from(text)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back_rounded_up() {
        for (micros, seconds, millis) in [(1, "1", "1"), (1_000_000, "1", "1000"), (1_000_001, "2", "1001")] {
            let retry_after = Duration::from_micros(micros);
            let response = refuse(&Failure::Refused { what: "x", retry_after });
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
            assert_eq!(response.headers()[RETRY_AFTER_MS], millis);
        }
        assert_eq!(status_of(&Failure::Deadline), StatusCode::GATEWAY_TIMEOUT);
        assert!(refuse(&Failure::Stopped).headers().get(header::RETRY_AFTER).is_none());
    }
}
