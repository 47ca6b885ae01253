//! Failures as gRPC statuses: the only place that makes a `tonic::Status`.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use millgate_shared::proto::v1;
use millgate_shared::wire::code_name;
use millgate_shared::wire::stream_error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::failure::{Failure, Kind, without_places};

/// A status travels in HTTP/2 headers, which peers bound; a message may quote what a client sent, of any length.
const LONGEST_MESSAGE: usize = 1024;
/// The domain in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "millgate.v1";

/// [`PreconditionFailure`](tonic_types::PreconditionFailure)'s kind of violation.
const MODEL: &str = "MODEL";

pub(super) fn of(failure: &Failure) -> Status {
    let message = shortened(failure.told());
    let details = match failure {
        Failure::Field(error) => ErrorDetails::with_bad_request_violation(
            shortened(error.field.clone()),
            shortened(error.message.clone()),
        ),
        Failure::Unservable { model, reason } => {
            let reason = shortened(without_places(reason));
            ErrorDetails::with_precondition_failure_violation(MODEL, model.clone(), reason)
        }
        Failure::Refused { retry_after, .. } => ErrorDetails::with_retry_info(Some(*retry_after)),
        Failure::Bundle { asked, held, before } => {
            let digests = [("asked", Some(asked)), ("held", Some(held)), ("before", before.as_ref())];
            let digests =
                digests.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?.to_string())));
            ErrorDetails::with_error_info("BUNDLE_MISMATCH", DOMAIN, digests.collect::<HashMap<_, _>>())
        }
        _ => return Status::new(code(failure.kind()), message),
    };
    Status::with_error_details(code(failure.kind()), message, details)
}

/// The trailers that end an answer which had begun.
pub(super) fn last(failure: &Failure) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // It fails for what no header can bear, and a shortened text is none.
    if of(failure).add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(code(failure.kind()) as i32));
    }
    Frame::trailers(trailers)
}

/// What gRPC calls this kind: nothing in front of this rim knows its codes.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Taken => Code::AlreadyExists,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
        Kind::Refused => Code::ResourceExhausted,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Denied => Code::PermissionDenied,
        Kind::TooLarge => Code::OutOfRange,
    }
}

/// How metrics name what came of a call, whatever protocol brought it: by gRPC's code.
pub(super) fn name_of<T>(answer: &Result<T, Failure>) -> &'static str {
    code_name(answer.as_ref().map_or_else(|failure| code(failure.kind()), |_| Code::Ok))
}

/// A failure as it is told inside a stream or beside other answers; the stream stays usable.
pub(super) fn in_band(failure: &Failure) -> v1::StreamError {
    let mut error = stream_error(&of(failure));
    if let Failure::Refused { retry_after, .. } = failure {
        error.retry_after_us = u64::try_from(retry_after.as_micros()).unwrap_or(u64::MAX);
    }
    error
}

/// What ends a stream that the pool had to leave: calls that were not read yet are for another node.
pub(super) fn stopping() -> Status {
    of(&Failure::Stopped)
}

pub(super) fn unknown_health_name(name: &str) -> Status {
    Status::new(Code::NotFound, shortened(format!("`{name}` has no health here")))
}

/// Cuts a text to a length that headers and logs can bear.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millgate_shared::bundle::BundleDigest;

    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let status =
            of(&Failure::Refused { what: "the queue is full", retry_after: Duration::from_millis(12) });
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(12)));
    }

    #[test]
    fn a_bundle_mismatch_names_both_digests() {
        let digest = |byte: u8| BundleDigest::from_bytes(&[byte; 32]).unwrap();
        let status = of(&Failure::Bundle { asked: digest(1), held: digest(2), before: Some(digest(3)) });
        assert_eq!(status.code(), Code::FailedPrecondition);
        for digest in [digest(1), digest(2), digest(3)] {
            assert!(status.message().contains(&digest.to_string()), "{}", status.message());
        }
    }

    #[test]
    fn a_model_that_cannot_be_served_is_no_reason_to_try_again() {
        let (model, reason) = ("m".to_owned(), "/srv/models/m/1/model.onnx: not an ONNX file".to_owned());
        let status = of(&Failure::Unservable { model: model.clone(), reason: reason.clone() });
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "model `m` cannot be served: model.onnx: not an ONNX file");
        let details = status.get_error_details();
        let violation = &details.precondition_failure().unwrap().violations[0];
        assert_eq!((violation.subject.as_str(), violation.description.contains("/srv")), ("m", false));
        assert_eq!(of(&Failure::NotReady { model, reason }).code(), Code::Unavailable);
    }

    #[test]
    fn a_hostile_name_cannot_blow_up_the_headers() {
        let status = of(&Failure::UnknownExpert("é".repeat(1 << 20)));
        assert!(status.message().len() <= LONGEST_MESSAGE + '…'.len_utf8());
        let status = of(&Failure::field("x".repeat(1 << 20), "é".repeat(1 << 20)));
        assert!(status.message().len() + status.details().len() < 8 << 10);
    }
}
