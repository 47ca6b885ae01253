//! What is read once a scrape: every loaded model's counts, and what waits. Its methods write one family each.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::pool::Pool;
use crate::serving::buckets::Buckets;
use crate::serving::run::Deployed;
use crate::serving::statistics::Counts;

pub(super) struct OfModel {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) counts: Counts,
    /// Entries that wait.
    pub(super) pending: usize,
    pub(super) is_unproven: bool,
}

/// Only models that are loaded: labels are bounded, and one that is unloaded leaves the page. One that is loaded again
/// starts from nothing, which a scraper takes for the restart that it is.
pub(super) struct Snapshot {
    pub(super) models: Vec<OfModel>,
    pub(super) backlog: std::time::Duration,
}

impl Snapshot {
    pub(super) fn of(pool: &Pool) -> Self {
        let serving = pool.serving();
        let pressure = serving.pressure();
        // Models of one name count together, whichever bundle brought them.
        let before = pool.before();
        let before = before.iter().flat_map(|before| before.hosted.models());
        let waits = |deployed: &Deployed| deployed.id().and_then(|id| pressure.pending.get(&id)).copied();
        let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
        for model in before.filter(|model| serving.is_fixed(&model.name)) {
            *kept.entry(&model.name).or_default() += waits(model).unwrap_or(0);
        }
        let of_model = |served: Arc<Deployed>| OfModel {
            name: served.name.clone(),
            version: served.version.to_string(),
            counts: served.statistics.read(),
            pending: waits(&served).unwrap_or(0) + kept.get(served.name.as_str()).copied().unwrap_or(0),
            is_unproven: served.unproven.is_some(),
        };
        let models = serving.all().into_iter().map(of_model).collect();
        Self { models, backlog: pressure.backlog }
    }

    pub(super) fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        value: impl Fn(&OfModel) -> u64,
    ) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for model in &self.models {
            let labels = [("model", model.name.as_str()), ("version", model.version.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value(model), None)?;
        }
        Ok(())
    }

    /// A value whose sample has the family's own name.
    pub(super) fn plain(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        kind: MetricType,
        value: impl Fn(&OfModel) -> u64,
    ) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for model in &self.models {
            let labels = [("model", model.name.as_str()), ("version", model.version.as_str())];
            family.encode_family(&labels)?.encode_gauge(&value(model))?;
        }
        Ok(())
    }

    pub(super) fn histogram(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        value: impl Fn(&OfModel) -> &Buckets,
    ) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for model in &self.models {
            let labels = [("model", model.name.as_str()), ("version", model.version.as_str())];
            value(model).encode(&mut family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
