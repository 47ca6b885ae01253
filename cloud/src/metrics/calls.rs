//! Calls in flight, and how each ended.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use tonic::Code;

use super::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    method: &'static str,
    code: &'static str,
}

/// One call's place among those in flight.
#[derive(Debug)]
pub(crate) struct CallGuard {
    metrics: Arc<Metrics>,
    method: &'static str,
    deadline: Instant,
    code: Option<Code>,
}

impl CallGuard {
    pub(super) fn begin(metrics: Arc<Metrics>, method: &'static str, deadline: Instant) -> Self {
        metrics.in_flight.inc();
        Self { metrics, method, deadline, code: None }
    }

    /// Its answer is worthless from then on.
    pub(crate) fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    pub(crate) fn end(mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        // Dropped unanswered: the deadline ended it, or its caller went away.
        let late = Instant::now() >= self.deadline;
        let code = self.code.unwrap_or(if late { Code::DeadlineExceeded } else { Code::Cancelled });
        self.metrics.in_flight.dec();
        let labels = RequestLabels { method: self.method, code: code_name(code) };
        self.metrics.requests.get_or_create(&labels).inc();
    }
}

/// As gRPC writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
