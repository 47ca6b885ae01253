//! The object of `--output json`. Shares and accuracies are 0 to 1, times milliseconds as named; `null` where nothing
//! was there to measure.

use std::time::Duration;

use serde::Serialize;

use super::{End, Ended};
use crate::tally::Phase;

#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    samples: usize,
    decided: usize,
    lost: usize,
    duplicates: usize,
    /// Decisions by which the sample is unknown; in no accuracy.
    unknown: usize,
    /// Decisions in which an expert of the pool had a say, over all, those of the outage included.
    cloud_share: Option<f64>,
    accuracy: Accuracy,
    uplink_bytes: u64,
    uplink_bytes_all_cloud: u64,
    /// On the wire, HTTP/2 and keep-alives included.
    uplink_wire_bytes: Option<u64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    up: PhaseReport,
    outage: PhaseReport,
    outage_s: f64,
    /// From the restored cable to the agent's line.
    recovered_ms: Option<f64>,
    bundle: &'a str,
    risk: f64,
    deadline_ms: u64,
    started_ms: Option<f64>,
    lasted_s: f64,
    complete: bool,
}

#[derive(Debug, Serialize)]
struct Accuracy {
    edge_only: Option<f64>,
    mixture: Option<f64>,
    cloud_only: Option<f64>,
}

#[derive(Debug, Serialize)]
struct PhaseReport {
    decided: usize,
    provisional: usize,
    ran_into_deadline: usize,
    cloud_share: Option<f64>,
    accuracy: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl<'a> Report<'a> {
    pub(super) fn of(ended: &'a Ended) -> Self {
        let (tally, facts) = (&ended.tally, &ended.facts);
        Self {
            samples: tally.samples,
            decided: tally.decided,
            lost: tally.lost(),
            duplicates: tally.duplicates,
            unknown: tally.unknown,
            cloud_share: tally.cloud_share().map(rounded),
            accuracy: Accuracy {
                edge_only: tally.edge_only.accuracy().map(rounded),
                mixture: tally.mixture.accuracy().map(rounded),
                cloud_only: tally.cloud_only.accuracy().map(rounded),
            },
            uplink_bytes: tally.uplink_bytes,
            uplink_bytes_all_cloud: tally.all_cloud_bytes,
            uplink_wire_bytes: tally.wire_bytes,
            p50_ms: millis(tally.quantile(0.5)),
            p99_ms: millis(tally.quantile(0.99)),
            up: PhaseReport::of(&tally.up),
            outage: PhaseReport::of(&tally.outage),
            outage_s: rounded(ended.outage_lasted.as_secs_f64()),
            recovered_ms: millis(tally.recovered_after),
            bundle: &facts.bundle,
            risk: facts.risk,
            deadline_ms: facts.deadline_ms,
            started_ms: millis(Some(facts.started_in)),
            lasted_s: rounded(ended.lasted.as_secs_f64()),
            complete: ended.end == End::Complete,
        }
    }
}

impl PhaseReport {
    fn of(phase: &Phase) -> Self {
        Self {
            decided: phase.decided(),
            provisional: phase.provisional,
            ran_into_deadline: phase.ran_into_deadline,
            cloud_share: phase.cloud_share().map(rounded),
            accuracy: phase.mixture.accuracy().map(rounded),
            p50_ms: millis(phase.quantile(0.5)),
            p99_ms: millis(phase.quantile(0.99)),
        }
    }
}

fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| rounded(time.as_secs_f64() * 1e3))
}

/// Four decimals: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Facts;
    use crate::tally::Tally;

    #[test]
    fn the_promised_keys_are_there() {
        let facts = Facts {
            bundle: "factory 1.1.0".to_owned(),
            risk: 0.02,
            deadline_ms: 250,
            planned: 0,
            started_in: Duration::ZERO,
        };
        let (lasted, outage_lasted) = (Duration::ZERO, Duration::ZERO);
        let ended = Ended { facts, tally: Tally::default(), end: End::Complete, lasted, outage_lasted };
        let json = serde_json::to_value(Report::of(&ended)).unwrap();
        for key in [
            "/samples",
            "/decided",
            "/lost",
            "/cloud_share",
            "/accuracy/edge_only",
            "/accuracy/mixture",
            "/accuracy/cloud_only",
            "/uplink_bytes",
            "/uplink_bytes_all_cloud",
            "/p50_ms",
            "/p99_ms",
            "/outage/decided",
            "/outage/provisional",
            "/outage/p99_ms",
        ] {
            assert!(json.pointer(key).is_some(), "{key}");
        }
    }
}
