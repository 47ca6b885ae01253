//! What the uplink counts and measures; `/metrics` shows it.

use std::time::Duration;

use millgate_shared::metrics::latency_histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::pools::Transport;
use super::refusal::Refusal;
use super::session;
use super::split::Parts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLine {
    pool: String,
    transport: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dial {
    pool: String,
    transport: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    part: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refuses {
    pool: String,
    reason: String,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Counts {
    /// `line_up{pool,transport}`: 1 for the transport that carries calls to a pool.
    up: Family<OfLine, Gauge>,
    /// `pool_refuses{pool,reason}`: 1 while a pool is of no use until somebody acts, and for which of the reasons.
    refuses: Family<Refuses, Gauge>,
    /// `dials_total{pool,transport,outcome}`: handshakes by outcome: ok, failed, late.
    dials: Family<Dial, Counter>,
    /// `lines_lost_total{pool}`.
    lost: Family<OfPool, Counter>,
    /// `calls_total`: calls of samples.
    calls: Counter,
    /// `extra_sends_total{reason}`: sent more than once, as hedge, retry or because a line broke.
    extra: Family<Reason, Counter>,
    /// `hedges_won_total`: the second address answered first.
    hedges_won: Counter,
    /// `line_bytes_total` up and down, messages with their framing.
    sent: Family<OfLine, Counter>,
    received: Family<OfLine, Counter>,
    /// `round_trip_seconds{pool}`: of calls, on the line and in the pool.
    round_trip: Family<OfPool, Histogram>,
    /// `backlog_calls_total{outcome}`.
    backlog: Family<Reason, Counter>,
    /// `backlog_rate`: bytes a second that bulk may take.
    backlog_rate: Gauge,
    /// `deadline_split_seconds{part}`: where the last sample's deadline was planned to go.
    split: Family<Part, Gauge<f64, std::sync::atomic::AtomicU64>>,
    /// `unsendable_total`: calls that could not have been answered in time and were not sent.
    unsendable: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            up: Family::default(),
            refuses: Family::default(),
            dials: Family::default(),
            lost: Family::default(),
            calls: Counter::default(),
            extra: Family::default(),
            hedges_won: Counter::default(),
            sent: Family::default(),
            received: Family::default(),
            round_trip: Family::new_with_constructor(latency_histogram),
            backlog: Family::default(),
            backlog_rate: Gauge::default(),
            split: Family::default(),
            unsendable: Counter::default(),
        }
    }
}

impl Counts {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("uplink");
        registry.register("line_up", "1 for the transport that carries calls to a pool", self.up.clone());
        let text =
            "1 while a pool is of no use until somebody acts: it turns the device away, or cannot be trusted";
        registry.register("pool_refuses", text, self.refuses.clone());
        registry.register("dials", "Handshakes by outcome: ok, failed, late", self.dials.clone());
        registry.register("lines_lost", "Lines that broke or were given up", self.lost.clone());
        registry.register("calls", "Calls of samples to pools", self.calls.clone());
        let text = "Calls sent once more: hedge, retry after a refusal, resent because a line broke";
        registry.register("extra_sends", text, self.extra.clone());
        registry.register("hedges_won", "Hedges whose answer came first", self.hedges_won.clone());
        registry.register("line_sent_bytes", "Messages sent to pools, framing included", self.sent.clone());
        let text = "Messages received from pools, framing included";
        registry.register("line_received_bytes", text, self.received.clone());
        let text = "From sending a call to its answer, seconds";
        registry.register("round_trip_seconds", text, self.round_trip.clone());
        registry.register("backlog_calls", "Calls of the back-log by outcome", self.backlog.clone());
        let text = "Bytes a second that the back-log may take of the line";
        registry.register("backlog_rate_bytes", text, self.backlog_rate.clone());
        let text = "Where the last sample's deadline was planned to go, seconds";
        registry.register("deadline_split_seconds", text, self.split.clone());
        let text = "Calls that could not have been answered in time and were not sent";
        registry.register("unsendable_calls", text, self.unsendable.clone());
    }

    pub(super) fn dialled(&self, pool: &str, transport: Transport, outcome: &str) {
        let labels = Dial {
            pool: pool.to_owned(),
            transport: transport.as_str().to_owned(),
            outcome: outcome.to_owned(),
        };
        self.dials.get_or_create(&labels).inc();
    }

    pub(super) fn carries(&self, pool: &str, transport: Option<Transport>) {
        for one in [Transport::Quic, Transport::Tcp] {
            self.up.get_or_create(&of_line(pool, one)).set((transport == Some(one)).into());
        }
    }

    /// `None`: it does not.
    pub(super) fn refuses(&self, pool: &str, refusal: Option<Refusal>) {
        for one in Refusal::ALL {
            let labels = Refuses { pool: pool.to_owned(), reason: one.as_str().to_owned() };
            self.refuses.get_or_create(&labels).set((refusal == Some(one)).into());
        }
    }

    pub(super) fn line_lost(&self, pool: &str) {
        self.lost.get_or_create(&OfPool { pool: pool.to_owned() }).inc();
    }

    pub(super) fn sent(&self, pool: &str, transport: Transport, bytes: u64) {
        self.sent.get_or_create(&of_line(pool, transport)).inc_by(bytes);
    }

    pub(super) fn received(&self, pool: &str, transport: Transport, bytes: u64) {
        self.received.get_or_create(&of_line(pool, transport)).inc_by(bytes);
    }

    pub(super) fn took(&self, pool: &str, took: Duration) {
        self.round_trip.get_or_create(&OfPool { pool: pool.to_owned() }).observe(took.as_secs_f64());
    }

    /// What the session has counted since `before`.
    pub(super) fn session(&self, before: session::Counts, now: session::Counts) {
        self.calls.inc_by(now.calls - before.calls);
        self.hedges_won.inc_by(now.hedges_won - before.hedges_won);
        for (reason, by) in [
            ("hedge", now.hedges - before.hedges),
            ("retry", now.retries - before.retries),
            ("resent", now.resent - before.resent),
            ("probe", now.probes - before.probes),
        ] {
            if by > 0 {
                self.extra.get_or_create(&Reason { reason: reason.to_owned() }).inc_by(by);
            }
        }
    }

    pub(super) fn backlog(&self, outcome: &str, rate: u64) {
        self.backlog.get_or_create(&Reason { reason: outcome.to_owned() }).inc();
        self.backlog_rate.set(rate.try_into().unwrap_or(i64::MAX));
    }

    pub(super) fn split(&self, parts: &Parts) {
        let Parts { network, pool, combine, reserve } = *parts;
        for (part, time) in [("network", network), ("pool", pool), ("combine", combine), ("reserve", reserve)]
        {
            self.split.get_or_create(&Part { part: part.to_owned() }).set(time.as_secs_f64());
        }
    }

    pub(super) fn unsendable(&self) {
        self.unsendable.inc();
    }
}

fn of_line(pool: &str, transport: Transport) -> OfLine {
    OfLine { pool: pool.to_owned(), transport: transport.as_str().to_owned() }
}
