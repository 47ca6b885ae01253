//! What a run comes to, event by event. Pure: it reads no clock.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use millgate_shared::decision::{Decision, Missing, State, UNKNOWN};

use crate::replay::{Event, Measured};

#[cfg(test)]
mod tests;

/// Counts and times of a run so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Samples given to the agent.
    pub samples: usize,
    /// Samples that the agent answered; the others are lost.
    pub decided: usize,
    /// Answers beyond one a sample: a path or a decision's id that came before.
    pub duplicates: usize,
    /// Decisions of the mixture by which the sample is unknown: they name no label, and count in no score of it.
    pub unknown: usize,
    /// Score of the edge experts alone, over the samples that each of the three answered.
    pub edge_only: Score,
    pub mixture: Score,
    pub cloud_only: Score,
    pub up: Phase,
    pub outage: Phase,
    /// Bytes sent to the pool, by what the decisions say.
    pub uplink_bytes: u64,
    /// Bytes that sending every sample's files would have taken.
    pub all_cloud_bytes: u64,
    /// Bytes on the wire as the link counted them; `None` until the run is over.
    pub wire_bytes: Option<u64>,
    /// Broken files, and those of them that got a verdict.
    pub poisoned: usize,
    pub swallowed: usize,
    /// The longest time from a restored cable to a line.
    pub recovered_after: Option<Duration>,
    cut_at: Option<Instant>,
    cut_before: Duration,
    paths: HashSet<String>,
    ids: HashSet<String>,
}

/// Right answers against the published labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    pub right: usize,
    pub answered: usize,
}

impl Score {
    fn add(&mut self, is_right: bool) {
        self.answered += 1;
        self.right += usize::from(is_right);
    }

    /// 0 to 1; `None` before the first answer.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.right, self.answered)
    }
}

/// The decisions made while the cable was whole, or cut.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    pub mixture: Score,
    pub provisional: usize,
    /// Decisions in which an expert of the pool had a say.
    pub from_cloud: usize,
    /// Decisions that waited for the pool until their deadline, in vain.
    pub ran_into_deadline: usize,
    /// Microseconds, in order of time.
    pub latencies: Vec<u64>,
}

impl Phase {
    pub fn decided(&self) -> usize {
        self.latencies.len()
    }

    pub fn cloud_share(&self) -> Option<f64> {
        share(self.from_cloud, self.decided())
    }

    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        quantile_of(self.latencies.clone(), quantile)
    }

    fn add(&mut self, decision: &Decision, latency: Duration, is_right: Option<bool>) {
        is_right.into_iter().for_each(|is_right| self.mixture.add(is_right));
        self.provisional += usize::from(decision.state == State::Provisional);
        self.from_cloud += usize::from(is_from_cloud(decision));
        let missing = decision.degraded.iter().flat_map(|degraded| &degraded.missing);
        let is_late = missing.into_iter().any(|missing| missing.reason == Missing::Deadline);
        self.ran_into_deadline += usize::from(is_late);
        self.latencies.push(latency.as_micros() as u64);
    }
}

impl Tally {
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Measured(measured) => self.measured(measured),
            Event::Poisoned { answer, .. } => {
                self.poisoned += 1;
                self.swallowed += usize::from(answer.as_ref().is_ok_and(|label| label != UNKNOWN));
            }
            Event::Cut { at } => self.cut_at = Some(*at),
            Event::Restored { at } => {
                self.cut_before = self.outage_lasted(*at);
                self.cut_at = None;
            }
            Event::Recovered { after } => self.recovered_after = self.recovered_after.max(Some(*after)),
            Event::Finished { wire_bytes } => self.wire_bytes = Some(*wire_bytes),
            Event::Paused(_) => {}
        }
    }

    fn measured(&mut self, measured: &Measured) {
        self.samples += 1;
        self.all_cloud_bytes += measured.cloud_only.bytes;
        for (score, verdict) in
            [(&mut self.edge_only, &measured.edge_only), (&mut self.cloud_only, &measured.cloud_only.verdict)]
        {
            if let Ok(label) = verdict
                && label != UNKNOWN
            {
                score.add(*label == measured.truth);
            }
        }
        let Ok(decision) = &measured.decision else { return };
        let is_new = self.paths.insert(measured.path.clone()) && self.ids.insert(decision.id.clone());
        if !is_new {
            self.duplicates += 1;
            return;
        }
        self.decided += 1;
        self.uplink_bytes += decision.uplink_bytes;
        let label = &decision.verdict.label;
        let is_right = (label != UNKNOWN).then(|| *label == measured.truth);
        match is_right {
            Some(is_right) => self.mixture.add(is_right),
            None => self.unknown += 1,
        }
        let phase = if measured.in_outage { &mut self.outage } else { &mut self.up };
        phase.add(decision, measured.latency, is_right);
    }

    pub fn lost(&self) -> usize {
        self.samples - self.decided
    }

    pub fn provisional(&self) -> usize {
        self.up.provisional + self.outage.provisional
    }

    /// Over all decisions, those of an outage included.
    pub fn cloud_share(&self) -> Option<f64> {
        share(self.up.from_cloud + self.outage.from_cloud, self.decided)
    }

    /// Over all decisions.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        quantile_of([&self.up.latencies[..], &self.outage.latencies[..]].concat(), quantile)
    }

    /// All outages together.
    pub fn outage_lasted(&self, now: Instant) -> Duration {
        self.cut_before + self.cut_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

pub fn is_from_cloud(decision: &Decision) -> bool {
    decision.experts.iter().any(|expert| expert.place.starts_with("cloud:"))
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Exact, by nearest rank: the smallest value that at least `quantile` of all do not exceed.
fn quantile_of(mut micros: Vec<u64>, quantile: f64) -> Option<Duration> {
    micros.sort_unstable();
    let rank = (quantile * micros.len() as f64).ceil() as usize;
    micros.get(rank.saturating_sub(1)).copied().map(Duration::from_micros)
}
