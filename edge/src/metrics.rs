//! What `/metrics` shows: what is counted here of decisions and of the uplink, and the counts of other rooms. Names get the
//! prefix `millgate_`, counters the suffix `_total`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use millgate_shared::decision::Decision;
use millgate_shared::door;
use millgate_shared::metrics::{self as shared, Format};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::agent::Agent;
use crate::identity::Identity;
use crate::recent::Recent;
use crate::spool::SpoolMetrics;
use crate::uplink::ledger::{Ledger, Traffic};
use crate::uplink::session::LinkState;
use crate::uplink::upload::Form;
use crate::{epochs, journal, labels, outbox, sink, source};

mod decided;

use decided::Decisions;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    /// live, backlog or bulk.
    traffic: String,
    /// The most telling form in it: raw, tensor or features.
    form: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWindow {
    /// hour or day.
    window: String,
}

/// All of them, and the registry that renders them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `decisions_total{source,product,label,disposition,state,degraded,place}`: decisions made, from folders and over gRPC.
    decisions: Decisions,
    /// `decide_seconds`: from accepting a sample to its decision.
    decide_seconds: Histogram,
    /// `errors_total{code}`: samples that could not be decided.
    errors: Family<Code, Counter>,
    /// `uplink_bytes_total{traffic,form}`: bytes sent to the pool for decisions, framing included.
    uplink_bytes: Family<Sent, Counter>,
    /// `uplink_refused_total{reason}`: calls that stayed here for the sake of bytes: price, spent, metered, unsaved.
    uplink_refused: Family<Reason, Counter>,
    /// `uplink_budget_bytes{window}`: the limit, where there is one.
    budget: Family<OfWindow, Gauge>,
    /// `uplink_budget_left_bytes{window}`: what may still go.
    budget_left: Family<OfWindow, Gauge>,
    /// `uplink_price`: what a live call must be worth, as the risk of the local answer, 0 to 1.
    price: Gauge<f64, AtomicU64>,
    /// `uplink_metered`: 1 while the line is taken to cost by the byte.
    metered: Gauge,
    /// `in_flight`: files taken and not yet acknowledged by every sink.
    pub in_flight: Gauge,
    /// `queued`: samples that wait for a model thread.
    queued: Gauge,
    /// `link_up`: 1 if the pool can be asked, 0 if not, -1 if none is configured.
    link_up: Gauge,
    /// What is counted of each source.
    pub sources: source::Counts,
    /// What is counted of each sink.
    pub sinks: sink::Counts,
    pub(crate) spool: SpoolMetrics,
    pub(crate) outbox: outbox::Counts,
    pub(crate) journal: journal::Counts,
    pub(crate) epochs: epochs::Counts,
    pub(crate) labels: labels::Counts,
    /// What was decided lately.
    pub(crate) recent: Recent,
    /// What is counted of connections to the agent's ports.
    pub(crate) doors: Arc<door::counts::Counts>,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = shared::registry();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The agent's version", build);
        let this = Self {
            decisions: Decisions::default(),
            decide_seconds: shared::latency_histogram(),
            errors: Family::default(),
            uplink_bytes: Family::default(),
            uplink_refused: Family::default(),
            budget: Family::default(),
            budget_left: Family::default(),
            price: Gauge::default(),
            metered: Gauge::default(),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            link_up: Gauge::<i64, AtomicI64>::default(),
            sources: source::Counts::default(),
            sinks: sink::Counts::default(),
            spool: SpoolMetrics::default(),
            outbox: outbox::Counts::default(),
            journal: journal::Counts::default(),
            epochs: epochs::Counts::default(),
            labels: labels::Counts::default(),
            recent: Recent::default(),
            doors: Arc::default(),
            registry: Registry::default(),
        };
        registry.register("decisions", "Decisions made", this.decisions.family.clone());
        let text = "From accepting a sample to its decision, seconds";
        registry.register("decide_seconds", text, this.decide_seconds.clone());
        registry.register("errors", "Samples that could not be decided", this.errors.clone());
        registry.register("uplink_bytes", "Bytes sent to the pool for decisions", this.uplink_bytes.clone());
        let text = "Calls that stayed here for the sake of bytes";
        registry.register("uplink_refused", text, this.uplink_refused.clone());
        let text = "Bytes that may go up within a window";
        registry.register("uplink_budget_bytes", text, this.budget.clone());
        let text = "Bytes that may still go up within a window";
        registry.register("uplink_budget_left_bytes", text, this.budget_left.clone());
        let text = "What a live call must be worth, as the risk of the local answer";
        registry.register("uplink_price", text, this.price.clone());
        let text = "1 while the line is taken to cost by the byte";
        registry.register("uplink_metered", text, this.metered.clone());
        let text = "Files taken and not yet acknowledged by every sink";
        registry.register("in_flight", text, this.in_flight.clone());
        registry.register("queued", "Samples that wait for a model thread", this.queued.clone());
        let text = "1 if the pool can be asked, 0 if not, -1 if none is configured";
        registry.register("link_up", text, this.link_up.clone());
        this.sources.register(&mut registry);
        this.sinks.register(&mut registry);
        this.spool.register(&mut registry);
        this.outbox.register(&mut registry);
        this.journal.register(&mut registry);
        this.epochs.register(&mut registry);
        this.labels.register(&mut registry);
        this.doors.register(&mut registry);
        Self { registry, ..this }
    }

    /// Makes them, with what is counted of the device's certificate and of the agent's uplink.
    pub fn of(identity: &Identity, agent: &Agent) -> Self {
        let mut this = Self::new();
        agent.epoch().sources().for_each(|source| this.decisions.expect(source));
        identity.register(&mut this.registry);
        if let Some(counts) = agent.uplink_counts() {
            counts.register(&mut this.registry);
        }
        this
    }

    pub fn decided(&self, decision: &Decision) {
        self.decisions.count(decision);
        self.decide_seconds.observe(decision.timings_us.total as f64 / 1e6);
        self.recent.decided(decision);
    }

    /// A decision of the past has been amended: it was not made anew, and took no sample's time.
    pub fn amended(&self, decision: &Decision) {
        self.decisions.count(decision);
        self.recent.amended(decision);
    }

    pub fn undecided(&self, code: &str) {
        self.errors.get_or_create(&Code { code: code.to_owned() }).inc();
        self.recent.undecided();
    }

    /// The text of `/metrics`.
    pub fn render(&self, agent: &Agent, format: Format) -> String {
        self.queued.set(agent.queued() as i64);
        self.link_up.set(match agent.link() {
            LinkState::Up => 1,
            LinkState::Unconfigured => -1,
            LinkState::Unknown | LinkState::Down { .. } => 0,
        });
        self.bytes(agent.ledger());
        shared::render(format, &self.registry, None)
    }

    fn bytes(&self, ledger: &Ledger) {
        let counts = ledger.counts();
        for traffic in Traffic::ALL {
            for form in Form::ALL {
                let bytes = counts.sent(traffic, form).load(Ordering::Relaxed);
                let labels = Sent { traffic: traffic.as_str().to_owned(), form: form.as_str().to_owned() };
                self.uplink_bytes.get_or_create(&labels).inner().store(bytes, Ordering::Relaxed);
            }
        }
        for (reason, calls) in counts.refused() {
            let labels = Reason { reason: reason.to_owned() };
            self.uplink_refused.get_or_create(&labels).inner().store(calls, Ordering::Relaxed);
        }
        let now = ledger.snapshot();
        let limits = [now.limits.per_hour, now.limits.per_day];
        for ((window, limit), left) in ["hour", "day"].into_iter().zip(limits).zip(now.left) {
            let Some(left) = left else { continue };
            let labels = OfWindow { window: window.to_owned() };
            let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            self.budget.get_or_create(&labels).set(whole(limit));
            self.budget_left.get_or_create(&labels).set(whole(left));
        }
        self.price.set(now.price);
        self.metered.set(now.is_metered.into());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
