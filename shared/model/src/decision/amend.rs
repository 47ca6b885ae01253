//! A record made anew once late answers have come.

use std::collections::BTreeMap;

use millgate_sample::index::ExpertIx;

use super::record::{probabilities, shares, verdict};
use super::{Decision, Historical, Outcome, Run};
use crate::manifest::Manifest;

/// Late answers, with what they came to.
#[derive(Debug)]
pub struct Late {
    pub outcome: Outcome,
    /// Runs of the experts that answered late.
    pub runs: BTreeMap<ExpertIx, Run>,
    /// Bytes that were sent for them.
    pub uplink_bytes: u64,
    /// Time at which the sample was first decided, RFC 3339.
    pub decided_at: String,
    /// Time at which the late answer was worked in, RFC 3339.
    pub amended_at: String,
}

impl Decision {
    /// The next version: the same id and sample, the new verdict, and a mark that it speaks of the past. Timings stay
    /// those of the first decision. `None` if its task is none of the manifest's.
    pub fn amend(self, manifest: &Manifest, late: Late) -> Option<Self> {
        let Late { outcome, mut runs, uplink_bytes, decided_at, amended_at } = late;
        let task = manifest.task(&self.task)?;
        let known = |expert: ExpertIx| {
            let name = &manifest.experts[expert].name;
            self.experts.iter().find(|share| share.name == *name).map(|share| Run {
                place: share.place.clone(),
                latency_us: share.latency_us,
                engine: share.engine.clone(),
                batch: share.batch,
            })
        };
        let experts = shares(manifest, &outcome.answers, &outcome.mixed.weights, |expert| {
            runs.remove(&expert).or_else(|| known(expert))
        });
        let is_unknown = outcome.is_unknown();
        Some(Self {
            version: self.version + 1,
            state: outcome.state,
            verdict: verdict(task, &outcome.mixed, is_unknown),
            probabilities: probabilities(task, &outcome.mixed),
            experts,
            disposition: outcome.disposition,
            novelty: outcome.novelty,
            checks: outcome.checks,
            degraded: outcome.degraded,
            uplink_bytes: self.uplink_bytes + uplink_bytes,
            historical: Some(Historical { decided_at, amended_at, replaces: self.version }),
            ..self
        })
    }
}
