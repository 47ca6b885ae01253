//! Calls in flight, and how each ended.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;

use super::Metrics;

/// How gRPC names the end of a call whose answer came too late, and of one that nobody waited for.
const LATE: &str = "DEADLINE_EXCEEDED";
const CANCELLED: &str = "CANCELLED";

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
    code: Option<&'static str>,
}

impl CallGuard {
    pub(super) fn begin(metrics: Arc<Metrics>, method: &'static str, deadline: Instant) -> Self {
        metrics.in_flight.inc();
        Self { metrics, method, deadline, code: None }
    }

    /// Sets the time from which on the call's answer is worthless.
    pub(crate) fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Ends the call with a code, as gRPC names it.
    pub(crate) fn end(mut self, code: &'static str) {
        self.code = Some(code);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        // Dropped unanswered: the deadline ended it, or its caller went away.
        let late = Instant::now() >= self.deadline;
        let code = self.code.unwrap_or(if late { LATE } else { CANCELLED });
        self.metrics.in_flight.dec();
        let labels = RequestLabels { method: self.method, code };
        self.metrics.requests.get_or_create(&labels).inc();
    }
}
