//! What is counted of labels, audits and drift.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::drift::{Drift, Kind, interval};

/// Probability that the true error is outside of the interval shown, on either side.
const MISS: f64 = 0.025;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labelled {
    source: String,
    /// Whether the verdict was the same: yes or no.
    agreed: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStream {
    source: String,
    kind: &'static str,
}

/// What came of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audited {
    Agreed,
    Disagreed,
    /// The pool did not answer, or not in time.
    Unanswered,
    /// The byte budget has no room, or the policy keeps it here.
    Withheld,
    /// Too many audits wait.
    Skipped,
}

impl Audited {
    const ALL: [Self; 5] = [Self::Agreed, Self::Disagreed, Self::Unanswered, Self::Withheld, Self::Skipped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Disagreed => "disagreed",
            Self::Unanswered => "unanswered",
            Self::Withheld => "withheld",
            Self::Skipped => "skipped",
        }
    }
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// `labels_total{source,agreed}`: what people said of decisions.
    labels: Family<Labelled, Counter>,
    /// `audits_total{result}`: local decisions that the pool was asked about as well.
    audits: Family<Outcome, Counter>,
    /// `local_error_estimate{source}`: share of local answers that are wrong, by audits and labels of those drawn.
    error: Family<OfSource, Gauge<f64, AtomicU64>>,
    /// `local_error_lower{source}` and `local_error_upper{source}`: its interval at 95 %.
    lower: Family<OfSource, Gauge<f64, AtomicU64>>,
    upper: Family<OfSource, Gauge<f64, AtomicU64>>,
    /// `drift_evidence{source,kind}`: decimal logarithm of the evidence; 2 is an alarm.
    evidence: Family<OfStream, Gauge<f64, AtomicU64>>,
    /// `alarm{source,kind}`: 1 from an alarm on until its stream begins anew.
    alarm: Family<OfStream, Gauge>,
    /// `labels_picture_bytes`: of pictures that are kept.
    pub(super) picture_bytes: Gauge,
    /// `labels_left_out_total`: notes or pictures that were left out because too much waited for the disk.
    pub(super) left_out: Counter,
    /// The alarms, in words.
    alarms: Arc<Mutex<Vec<String>>>,
}

impl Counts {
    pub(super) fn labelled(&self, source: &str, agreed: bool) {
        let labels = Labelled { source: source.to_owned(), agreed: if agreed { "yes" } else { "no" } };
        self.labels.get_or_create(&labels).inc();
    }

    pub(crate) fn audited(&self, audited: Audited) {
        self.audits.get_or_create(&Outcome { result: audited.as_str() }).inc();
    }

    /// Shows how the tests stand.
    pub(super) fn show(&self, drift: &Drift) {
        for family in [&self.error, &self.lower, &self.upper] {
            family.clear();
        }
        self.evidence.clear();
        self.alarm.clear();
        let mut alarms = Vec::new();
        for (source, kind, stream) in drift.streams() {
            if kind == Kind::Error {
                let of = OfSource { source: source.to_owned() };
                let (hits, seen) = (stream.hits, stream.seen);
                self.error.get_or_create(&of).set(hits as f64 / seen.max(1) as f64);
                self.lower.get_or_create(&of).set(interval::lower(hits, seen, MISS));
                self.upper.get_or_create(&of).set(interval::upper(hits, seen, MISS));
            }
            let of = OfStream { source: source.to_owned(), kind: kind.as_str() };
            self.evidence.get_or_create(&of).set(stream.evidence.log() / std::f64::consts::LN_10);
            let is_alarmed = stream.evidence.is_alarmed();
            self.alarm.get_or_create(&of).set(i64::from(is_alarmed));
            if is_alarmed {
                alarms.push(format!("alarm: {} of source {source}", kind.as_str()));
            }
        }
        *self.alarms.lock().unwrap_or_else(PoisonError::into_inner) = alarms;
    }

    /// The alarms that stand, a line for each.
    pub(crate) fn alarms(&self) -> Vec<String> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        for audited in Audited::ALL {
            let none = self.audits.get_or_create(&Outcome { result: audited.as_str() });
            drop(none);
        }
        registry.register("labels", "What people said of decisions", self.labels.clone());
        let text = "Local decisions that the pool was asked about as well";
        registry.register("audits", text, self.audits.clone());
        let text = "Share of local answers that are wrong, by audits and labels of those drawn";
        registry.register("local_error_estimate", text, self.error.clone());
        let text = "Lower limit of the share of local answers that are wrong, at 95 %";
        registry.register("local_error_lower", text, self.lower.clone());
        let text = "Upper limit of the share of local answers that are wrong, at 95 %";
        registry.register("local_error_upper", text, self.upper.clone());
        let text = "Decimal logarithm of the evidence that a rate is over what it should be; 2 is an alarm";
        registry.register("drift_evidence", text, self.evidence.clone());
        registry.register("alarm", "1 from an alarm on until its test begins anew", self.alarm.clone());
        let text = "Bytes of pictures that are kept to be labelled";
        registry.register("labels_picture_bytes", text, self.picture_bytes.clone());
        let text = "Notes or pictures of decisions that were left out because too much waited for the disk";
        registry.register("labels_left_out", text, self.left_out.clone());
    }
}
