//! Every metric of the pool. Labels are bounded: method names, gRPC codes, the bundle's experts, fixed words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::metrics::{latency_histogram, registry, render};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tonic::Code;

use crate::pool::Pool;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    expert: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpertLabels {
    expert: String,
}

/// The pool's counters and its registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Calls answered; a message of a stream counts as a call.
    requests: Family<RequestLabels, Counter>,
    /// Experts asked for, by what came of it: `ok`, `failed`, `refused`, `expired`.
    expert_runs: Family<RunLabels, Counter>,
    /// Resizing, normalising and running the model, for those that answered.
    expert_compute: Family<ExpertLabels, Histogram, fn() -> Histogram>,
    /// Time that jobs waited for a thread.
    queue_seconds: Histogram,
    /// Jobs that wait now; read when scraped.
    queue_length: Gauge,
    /// Calls that have arrived and are not answered.
    in_flight: Gauge,
    /// Open connections, gRPC and REST.
    connections: Gauge,
    /// Connections closed because there were too many.
    connections_refused: Counter,
}

/// What came of asking an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    Ok,
    /// It ran, or was to run, and gave an error.
    Failed,
    /// The queue was full.
    Refused,
    /// Its deadline had passed.
    Expired,
}

impl RunResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

impl Metrics {
    pub fn new(pool: &Pool) -> Self {
        let mut registry = registry();
        let requests = Family::default();
        let expert_runs = Family::default();
        let expert_compute = Family::new_with_constructor(latency_histogram as fn() -> Histogram);
        let queue_seconds = latency_histogram();
        let (queue_length, in_flight, connections) = (Gauge::default(), Gauge::default(), Gauge::default());
        let connections_refused = Counter::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let manifest = pool.manifest();
        let bundle = Info::new([
            ("name", manifest.name.clone()),
            ("version", manifest.version.clone()),
            ("digest", pool.digest().to_string()),
        ]);
        // The registry appends `_total` and `_info` by type.
        registry.register("build", "This binary", build);
        registry.register("bundle", "The bundle that is served", bundle);
        registry.register("requests", "Calls by method and gRPC code", requests.clone());
        registry.register("expert_runs", "Experts asked for, by result", expert_runs.clone());
        registry.register("expert_compute_seconds", "Time in an expert, one sample", expert_compute.clone());
        registry.register("queue_seconds", "Time that jobs waited for a thread", queue_seconds.clone());
        registry.register("queue_length", "Jobs that wait for a thread", queue_length.clone());
        registry.register("in_flight", "Calls that are not answered yet", in_flight.clone());
        registry.register("connections", "Open connections, gRPC and REST", connections.clone());
        registry.register("connections_refused", "Connections over the limit", connections_refused.clone());
        Self {
            registry,
            requests,
            expert_runs,
            expert_compute,
            queue_seconds,
            queue_length,
            in_flight,
            connections,
            connections_refused,
        }
    }

    /// The text of `/metrics`.
    pub fn render(&self, pool: &Pool) -> String {
        self.queue_length.set(pool.workers().queued() as i64);
        render(&self.registry)
    }

    /// Calls that are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get().try_into().unwrap_or_default()
    }

    /// Counts a call in; dropping the result counts it out.
    pub(crate) fn begin(self: &Arc<Self>, method: &'static str, deadline: Instant) -> CallGuard {
        self.in_flight.inc();
        CallGuard { metrics: Arc::clone(self), method, deadline, code: None }
    }

    pub(crate) fn expert_run(&self, expert: &str, result: RunResult) {
        let labels = RunLabels { expert: expert.to_owned(), result: result.as_str() };
        self.expert_runs.get_or_create(&labels).inc();
    }

    pub(crate) fn computed(&self, expert: &str, compute: Duration) {
        let labels = ExpertLabels { expert: expert.to_owned() };
        self.expert_compute.get_or_create(&labels).observe(compute.as_secs_f64());
    }

    pub(crate) fn queued(&self, queued: Duration) {
        self.queue_seconds.observe(queued.as_secs_f64());
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }
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

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Internal => "INTERNAL",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unavailable => "UNAVAILABLE",
        Code::Unimplemented => "UNIMPLEMENTED",
        _ => "OTHER",
    }
}
