//! Failures as gRPC statuses: the only place that makes a `tonic::Status`.

use std::collections::HashMap;
use std::time::Duration;

use millgate_shared::bundle::BundleDigest;
use millgate_shared::deciding::DecidingError;
use millgate_shared::decision::Missing;
use millgate_shared::digest::hex;
use millgate_shared::driver::DriverError;
use millgate_shared::wire::{self, WireError};
use millgate_shared::workers::WorkError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::agent::DecideError;
use crate::labels::kept::Refusal;

/// Where a request's parts stand.
pub(super) const PARTS: &str = "sample.parts";

/// A status travels in HTTP/2 headers, which peers bound; a message may quote what a client sent, of any length.
const LONGEST_MESSAGE: usize = 1024;
/// When a full queue is worth another try.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// INVALID_ARGUMENT that names the field.
pub(super) fn bad_field(field: &str, message: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(shortened(field), shortened(message));
    let text = shortened(&format!("`{field}`: {message}"));
    Status::with_error_details(Code::InvalidArgument, text, details)
}

pub(super) fn bundle_mismatch(asked: &[u8], held: BundleDigest) -> Status {
    let asked = shortened(&format!("sha256:{}", hex(&asked[..asked.len().min(64)])));
    let digests = [("asked".to_owned(), asked.clone()), ("held".to_owned(), held.to_string())];
    let details = ErrorDetails::with_error_info("BUNDLE_MISMATCH", "millgate.v1", HashMap::from(digests));
    let text = format!("`bundle_digest`: is {asked}, this agent holds {held}");
    Status::with_error_details(Code::FailedPrecondition, text, details)
}

pub(super) fn of(error: &DecideError) -> Status {
    let message = error.to_string();
    match error {
        DecideError::Part { unread, .. } => {
            let WireError { field, message } = wire::unread(PARTS, unread);
            bad_field(&field, &message)
        }
        DecideError::Driver(DriverError::UnknownTask(_)) => bad_field("sample.task", &message),
        DecideError::Driver(DriverError::Gate(_)) => Status::internal(shortened(&message)),
        DecideError::Driver(DriverError::Deciding(error)) => deciding(error),
        DecideError::Workers(WorkError::Full { .. }) => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        DecideError::Workers(WorkError::Stopped) => Status::unavailable(message),
        DecideError::Workers(WorkError::Panicked) => Status::internal(message),
    }
}

/// Why a label was not taken.
pub(super) fn of_label(refusal: &Refusal) -> Status {
    let message = shortened(&refusal.to_string());
    match refusal {
        Refusal::Unknown(_) => Status::not_found(message),
        Refusal::Bad { field, message } => bad_field(field, message),
        Refusal::Full(_) => Status::resource_exhausted(message),
        Refusal::Busy => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        Refusal::Off => Status::failed_precondition(message),
        Refusal::Failed(_) => Status::internal(message),
    }
}

fn deciding(error: &DecidingError) -> Status {
    let message = error.to_string();
    match error {
        DecidingError::NoExpert { .. } => bad_field(PARTS, &message),
        DecidingError::Scope(source) => bad_field("labels", &source.to_string()),
        DecidingError::UnknownExpert(_) | DecidingError::Pinned { .. } => bad_field("pinned", &message),
        DecidingError::NoAnswer(missing) => {
            let is_late =
                !missing.is_empty() && missing.iter().all(|expert| expert.reason == Missing::Deadline);
            if is_late { Status::deadline_exceeded(message) } else { Status::internal(message) }
        }
    }
}

/// For the metric of errors.
pub(super) fn code_name(status: &Status) -> &'static str {
    match status.code() {
        Code::FailedPrecondition => "bundle_mismatch",
        _ => "bad_request",
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST_MESSAGE)])
}
