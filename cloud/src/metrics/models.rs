//! Served models under our own names: base units, one family a question. `docs/serving.md` lists them.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::snapshot::Snapshot;
use crate::pool::Pool;
use crate::serving::statistics::Outcome;

/// For a registry whose prefix is `millgate`.
#[derive(Debug)]
pub(super) struct Models {
    pub(super) pool: Arc<Pool>,
}

impl Collector for Models {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let to = &mut encoder;
        let all = Snapshot::of(&self.pool);
        requests(to, &all)?;
        all.counter(to, ("inference_rows", "Rows computed and answered"), |model| model.counts.rows)?;
        all.counter(to, ("inference_batches", "Batches computed"), |model| model.counts.batches)?;
        let request = ("inference_request_seconds", "From a request's arrival to its answer");
        all.histogram(to, request, |model| &model.counts.request_seconds)?;
        let queue = ("inference_queue_seconds", "From arrival until a batch was taken");
        all.histogram(to, queue, |model| &model.counts.queue_seconds)?;
        let compute = ("inference_compute_seconds", "In the engine, a batch");
        all.histogram(to, compute, |model| &model.counts.compute_seconds)?;
        let rows = ("inference_batch_rows", "Rows computed together");
        all.histogram(to, rows, |model| &model.counts.batch_rows)?;
        let pending = ("inference_pending_entries", "Requests, or parts of large ones, that wait");
        all.plain(to, pending, MetricType::Gauge, |model| model.pending as u64)?;
        let unproven =
            ("model_unproven", "1 where no input that a trial made up fits, so that it is never batched");
        all.plain(to, unproven, MetricType::Gauge, |model| u64::from(model.is_unproven))?;
        let help = "Compute that waits, by estimate, for one thread's share";
        to.encode_descriptor("inference_backlog_seconds", help, None, MetricType::Gauge)?
            .encode_gauge(&all.backlog.as_secs_f64())?;
        let Some(cache) = self.pool.serving().cache_usage() else { return Ok(()) };
        let hits = ("cache_hits", "Requests answered from the response cache");
        all.counter(to, hits, |model| model.counts.cache_hit.count)?;
        let misses = ("cache_misses", "Requests looked for in the response cache and computed");
        all.counter(to, misses, |model| model.counts.cache_miss.count)?;
        for (name, help, value) in [
            ("cache_bytes", "Memory that kept answers take, about", cache.bytes),
            ("cache_capacity_bytes", "Memory that kept answers may take", cache.capacity),
            ("cache_entries", "Answers kept", cache.entries),
        ] {
            to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&(value as u64))?;
        }
        to.encode_descriptor("cache_evictions", "Answers that made room", None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&cache.evictions, None)
    }
}

fn requests(to: &mut DescriptorEncoder<'_>, all: &Snapshot) -> std::fmt::Result {
    let help = "Requests for a served model, by what came of them";
    let mut family = to.encode_descriptor("inference_requests", help, None, MetricType::Counter)?;
    for model in &all.models {
        for outcome in Outcome::ALL {
            let (name, version) = (model.name.as_str(), model.version.as_str());
            let labels = [("model", name), ("version", version), ("result", outcome.as_str())];
            let count = model.counts.of(outcome);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
    }
    Ok(())
}
