//! Who was given how much of the compute, by tenant. Labels are the configured tenants, and `other` for everybody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::pool::Pool;
use crate::principal::Tenant;
use crate::scheduling::Tally;

/// Whoever belongs to no tenant that the configuration names.
const OTHER: &str = "other";

/// For a registry whose prefix is `millgate`.
#[derive(Debug)]
pub(super) struct Tenants {
    pub(super) pool: Arc<Pool>,
}

type Sums<'a> = BTreeMap<&'a str, (usize, Tally)>;

impl Collector for Tenants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let to = &mut encoder;
        let configured = self.pool.tenants().iter().map(String::as_str);
        let mut sums: Sums<'_> = configured.chain([OTHER]).map(|name| (name, Default::default())).collect();
        for (tenant, waiting, tally) in self.pool.serving().pressure().tenants {
            let name = match &tenant {
                Some(Tenant::Named(name)) => self.pool.tenants().iter().find(|it| ***it == **name),
                Some(Tenant::Local | Tenant::Unnamed) | None => None,
            };
            let (all, sum) = sums.entry(name.map_or(OTHER, String::as_str)).or_default();
            *all += waiting;
            sum.add(&tally);
        }
        let help = "Compute that a tenant's rows and pictures were given";
        let mut family = to.encode_descriptor("tenant_compute_seconds", help, None, MetricType::Counter)?;
        for (tenant, (_, tally)) in &sums {
            let labels = [("tenant", *tenant)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, f64, f64>(&tally.compute.as_secs_f64(), None)?;
        }
        let help = "A tenant's requests, or parts of large ones, that wait";
        let mut family = to.encode_descriptor("tenant_pending_entries", help, None, MetricType::Gauge)?;
        for (tenant, (waiting, _)) in &sums {
            family.encode_family(&[("tenant", *tenant)])?.encode_gauge(&(*waiting as u64))?;
        }
        let help = "Requests, or parts of large ones, that were computed";
        count(to, &sums, ("tenant_served", help), |tally| tally.served)?;
        let help = "Requests, or parts of large ones, that were not let in for now";
        count(to, &sums, ("tenant_refused", help), |tally| tally.refused)?;
        let help = "Requests, or parts of large ones, that made room for what is within its share";
        count(to, &sums, ("tenant_shed", help), |tally| tally.shed)?;
        let help = "Requests, or parts of large ones, that were dropped since they could not be in time";
        count(to, &sums, ("tenant_expired", help), |tally| tally.expired)?;
        let help = "Requests that asked for a better rank than they have a right to";
        count(to, &sums, ("tenant_priority_denied", help), |tally| tally.outranked)
    }
}

fn count(
    to: &mut DescriptorEncoder<'_>,
    sums: &Sums<'_>,
    (name, help): (&str, &str),
    value: impl Fn(&Tally) -> u64,
) -> std::fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (tenant, (_, tally)) in sums {
        let labels = [("tenant", *tenant)];
        let mut metric = family.encode_family(&labels)?;
        metric.encode_counter::<NoLabelSet, u64, f64>(&value(tally), None)?;
    }
    Ok(())
}
