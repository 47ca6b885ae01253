//! Every metric of the pool. Labels are bounded: method names, gRPC codes, the bundle's experts, loaded models, fixed
//! words.
//!
//! * `calls`: every call. `experts`: the bundle's experts through `millgate.v1`.
//! * `guests`: worker processes. `models`: served models under our names. `triton`: the same under Triton's. `snapshot`: what both read.
//! * `tenants`: who was given how much.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use millgate_shared::metrics::{self as shared, Format, latency_histogram, registry};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::pool::Pool;
use calls::RequestLabels;
use experts::{ExpertLabels, RunLabels};

pub use experts::RunResult;

mod bundles;
pub(crate) mod calls;
mod experts;
mod guests;
mod models;
mod snapshot;
mod tenants;
mod triton;

/// The pool's counters and its registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Names that are not ours.
    foreign: Registry,
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
    /// Certificates that devices asked for: `issued`, `refused`, `failed`.
    certificates: Family<OutcomeLabels, Counter>,
    /// When the pool's own certificate ends, in seconds since 1970; 0: it has none.
    certificate_end: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Metrics {
    /// `rooms` registers the counts that other rooms own. `triton`: served models under Triton's names too.
    pub(crate) fn new(pool: &Arc<Pool>, triton: bool, rooms: impl FnOnce(&mut Registry)) -> Self {
        let (mut registry, mut foreign) = (registry(), Registry::default());
        let requests = Family::default();
        let expert_runs = Family::default();
        let expert_compute = Family::new_with_constructor(latency_histogram as fn() -> Histogram);
        let queue_seconds = latency_histogram();
        let (queue_length, in_flight) = (Gauge::default(), Gauge::default());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        // The registry appends `_total` and `_info` by type.
        registry.register("build", "This binary", build);
        registry.register_collector(Box::new(bundles::Bundles { pool: Arc::clone(pool) }));
        registry.register("requests", "Calls by method and gRPC code", requests.clone());
        registry.register("expert_runs", "Experts asked for, by result", expert_runs.clone());
        registry.register("expert_compute_seconds", "Time in an expert, one sample", expert_compute.clone());
        registry.register("queue_seconds", "Time that jobs waited for a thread", queue_seconds.clone());
        registry.register("queue_length", "Jobs that wait for a thread", queue_length.clone());
        registry.register("in_flight", "Calls that are not answered yet", in_flight.clone());
        let (certificates, certificate_end) = (Family::default(), Gauge::default());
        registry.register("device_certificates", "Certificates that devices asked for", certificates.clone());
        let help = "When the pool's own certificate ends, in seconds since 1970";
        registry.register("certificate_expiry_timestamp_seconds", help, certificate_end.clone());
        registry.register_collector(Box::new(models::Models { pool: Arc::clone(pool) }));
        registry.register_collector(Box::new(tenants::Tenants { pool: Arc::clone(pool) }));
        registry.register_collector(Box::new(guests::Workers { pool: Arc::clone(pool) }));
        rooms(&mut registry);
        if triton {
            foreign.register_collector(Box::new(triton::Triton { pool: Arc::clone(pool) }));
        }
        Self {
            registry,
            foreign,
            requests,
            expert_runs,
            expert_compute,
            queue_seconds,
            queue_length,
            in_flight,
            certificates,
            certificate_end,
        }
    }

    /// The text of `/metrics`.
    pub fn render(&self, pool: &Pool, format: Format) -> String {
        self.queue_length.set(pool.queued() as i64);
        shared::render(format, &self.registry, Some(&self.foreign))
    }

    /// Calls that are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get().try_into().unwrap_or_default()
    }

    /// Counts a call in; dropping the result counts it out.
    pub(crate) fn begin(self: &Arc<Self>, method: &'static str, deadline: Instant) -> calls::CallGuard {
        calls::CallGuard::begin(Arc::clone(self), method, deadline)
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

    pub(crate) fn certificate_asked(&self, outcome: &'static str) {
        self.certificates.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn certificate_ends(&self, end: SystemTime) {
        let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.certificate_end.set(seconds.try_into().unwrap_or(i64::MAX));
    }
}
