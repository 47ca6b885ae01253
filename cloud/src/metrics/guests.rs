//! Worker processes: how many there are, and how they ended; and models that are set aside for that. `docs/serving.md` lists
//! them.

use std::sync::Arc;

use millgate_shared::engine::Cause;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::pool::Pool;

/// For a registry whose prefix is `millgate`.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) pool: Arc<Pool>,
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let to = &mut encoder;
        let serving = self.pool.serving();
        let counts = serving.engines().guests().counts();
        let help = "Worker processes that models run in";
        let mut family = to.encode_descriptor("workers", help, None, MetricType::Gauge)?;
        for (name, count) in &counts {
            family.encode_family(&[("worker", name.as_str())])?.encode_gauge(&count.running)?;
        }
        let help = "Worker processes that were started";
        let mut family = to.encode_descriptor("workers_started", help, None, MetricType::Counter)?;
        for (name, count) in &counts {
            let labels = [("worker", name.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count.started, None)?;
        }
        let help = "Worker processes that ended while they were needed, by reason";
        let mut family = to.encode_descriptor("workers_ended", help, None, MetricType::Counter)?;
        for (name, count) in &counts {
            for reason in Cause::NAMES {
                let ended = count.ended.get(reason).copied().unwrap_or_default();
                let labels = [("worker", name.as_str()), ("reason", reason)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&ended, None)?;
            }
        }
        let help = "1 for a model that is set aside, since it has ended its workers too often";
        let mut family = to.encode_descriptor("model_set_aside", help, None, MetricType::Gauge)?;
        for listed in serving.index().iter().filter(|listed| listed.is_set_aside) {
            let labels = [("model", listed.name.as_str()), ("version", listed.version.as_str())];
            family.encode_family(&labels)?.encode_gauge(&1_u64)?;
        }
        Ok(())
    }
}
