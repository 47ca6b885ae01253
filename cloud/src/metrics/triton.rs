//! The metrics once more under the names that Triton's dashboards ask for.
//!
//! Triton calls most of these counters, and its counters do not end in `_total`. In OpenMetrics a counter must; so they are
//! of type `unknown` here. Queries see names and values only, and `rate` works on both. The classic format, which is
//! Triton's, has them as counters.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::snapshot::{OfModel, Snapshot};
use crate::pool::Pool;
use crate::serving::statistics::{Counts, Outcome, Total};

/// For a registry without a prefix.
#[derive(Debug)]
pub(super) struct Triton {
    pub(super) pool: Arc<Pool>,
}

/// A family, or a part of its name; its help; its value.
type Family<T> = (&'static str, &'static str, fn(&Counts) -> T);

const COUNTS: [Family<u64>; 3] = [
    ("nv_inference_request_success", "Requests answered, cached ones too", |counts| counts.success.count),
    ("nv_inference_count", "Rows computed and answered, without cached ones", |counts| counts.rows),
    ("nv_inference_exec_count", "Batches computed", |counts| counts.batches),
];

/// In Triton's words: what the whole took, and its parts. Every request of a batch counts the batch's time.
const DURATIONS: [Family<Duration>; 5] = [
    ("nv_inference_request_duration_us", "From arrival to answer", |counts| counts.success.time),
    ("nv_inference_queue_duration_us", "From arrival until a batch was taken", |counts| counts.queue.time),
    ("nv_inference_compute_input_duration_us", "Joining a batch's inputs", |counts| counts.join.time),
    ("nv_inference_compute_infer_duration_us", "In the engine", |counts| counts.compute.time),
    ("nv_inference_compute_output_duration_us", "Cutting a batch's outputs apart", |counts| {
        counts.split.time
    }),
];

const CACHE: [Family<Total>; 2] =
    [("hit", "a cache hit", |counts| counts.cache_hit), ("miss", "a cache miss", |counts| counts.cache_miss)];

impl Collector for Triton {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let to = &mut encoder;
        let all = Snapshot::of(&self.pool);
        for (name, help, value) in COUNTS {
            all.plain(to, (name, help), MetricType::Unknown, |model| value(&model.counts))?;
        }
        failures(to, &all)?;
        let pending = ("nv_inference_pending_request_count", "Requests, or parts of large ones, that wait");
        all.plain(to, pending, MetricType::Gauge, |model| model.pending as u64)?;
        for (name, help, value) in DURATIONS {
            all.plain(to, (name, help), MetricType::Unknown, |model| micros(value(&model.counts)))?;
        }
        let first = ("nv_inference_first_response_histogram_ms", "From arrival to the first answer");
        all.histogram(to, first, |model| &model.counts.first_response_ms)?;
        if self.pool.serving().cache_usage().is_none() {
            return Ok(());
        }
        for (kind, of, value) in CACHE {
            let plural = if kind == "hit" { "hits" } else { "misses" };
            let (name, help) = (format!("nv_cache_num_{plural}_per_model"), format!("Requests with {of}"));
            let count = |model: &OfModel| value(&model.counts).count;
            all.plain(to, (&name, &help), MetricType::Unknown, count)?;
            let (name, help) =
                (format!("nv_cache_{kind}_duration_per_model"), format!("Microseconds of {of}"));
            let time = |model: &OfModel| micros(value(&model.counts).time);
            all.plain(to, (&name, &help), MetricType::Unknown, time)?;
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

fn failures(to: &mut DescriptorEncoder<'_>, all: &Snapshot) -> std::fmt::Result {
    let (name, help) = ("nv_inference_request_failure", "Requests that failed, by reason");
    let mut family = to.encode_descriptor(name, help, None, MetricType::Unknown)?;
    for model in &all.models {
        let sum =
            |outcomes: &[Outcome]| outcomes.iter().map(|outcome| model.counts.of(*outcome)).sum::<u64>();
        for (reason, count) in [
            // What expires in Triton's queue is rejected by the queue's policy.
            ("REJECTED", sum(&[Outcome::Refused, Outcome::Expired])),
            ("CANCELED", sum(&[Outcome::Cancelled])),
            ("BACKEND", sum(&[Outcome::Failed])),
            ("OTHER", sum(&[Outcome::Invalid])),
        ] {
            let (name, version) = (model.name.as_str(), model.version.as_str());
            let labels = [("model", name), ("reason", reason), ("version", version)];
            family.encode_family(&labels)?.encode_gauge(&count)?;
        }
    }
    Ok(())
}
