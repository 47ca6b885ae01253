//! Whether what was certified still holds: how often local answers are wrong, and how often samples are unlike the known
//! ones, by source. Pure.
//!
//! Each stream is tested after every observation, for as long as it runs, with a false-alarm probability of at most
//! [`ALPHA`] over its whole life (`evidence`). What is tested:
//!
//! * `error`: of local answers that were drawn at random, whatever they say, no larger share is wrong than the risk that the
//!   bundle certified. The truth is the pool's answer, or a person's word if that came first.
//! * `novelty`: no larger share of samples is at or under the bound of novelty than known samples are. The bank is held
//!   against a finite number of calibration samples, so the tested share is the upper limit of what that bound can come to
//!   with them, at half of the false-alarm probability.
//!
//! A stream begins anew with another bundle, another risk or bound, or when an operator resets it; an alarm stays until then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) mod evidence;
pub(crate) mod interval;

use evidence::Evidence;

/// Probability, at most, that a stream whose rate is as it should be ever raises an alarm.
pub(crate) const ALPHA: f64 = 0.01;
/// Sources with streams of their own; all further ones share one, so that no caller can make up more.
const MOST_SOURCES: usize = 64;
/// The name that further sources share.
const OTHERS: &str = "other";
/// The least rate that can be tested.
const LEAST_RATE: f64 = 1e-6;

/// What a stream tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Error,
    Novelty,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Novelty => "novelty",
        }
    }
}

/// One stream of observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Digest of the bundle that the observations are about.
    pub(crate) bundle: String,
    /// What was asked for: the risk, or the bound of novelty.
    pub(crate) asked: f64,
    pub(crate) evidence: Evidence,
    /// Observations that count for the estimate, and those of them that were hits; a person's word may change the second.
    pub(crate) seen: u64,
    pub(crate) hits: u64,
}

/// All streams, by source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drift {
    sources: BTreeMap<String, BTreeMap<Kind, Stream>>,
}

/// What is observed, and what it is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed<'a> {
    pub(crate) source: &'a str,
    pub(crate) bundle: &'a str,
    /// The risk, or the bound of novelty.
    pub(crate) asked: f64,
    /// The largest rate that is as it should be.
    pub(crate) rate: f64,
    pub(crate) is_hit: bool,
}

impl Drift {
    /// Takes an observation in; true if it raises an alarm that was not raised before.
    pub(crate) fn observe(&mut self, kind: Kind, observed: Observed<'_>) -> bool {
        let Observed { source, bundle, asked, rate, is_hit } = observed;
        let name = self.name(source).to_owned();
        let streams = self.sources.entry(name).or_default();
        let anew = || Stream {
            bundle: bundle.to_owned(),
            asked,
            evidence: Evidence::of(rate.clamp(LEAST_RATE, 0.999)),
            seen: 0,
            hits: 0,
        };
        let stream = streams.entry(kind).or_insert_with(anew);
        if stream.bundle != bundle || stream.asked != asked {
            *stream = anew();
        }
        stream.seen += 1;
        stream.hits += u64::from(is_hit);
        stream.evidence.observe(is_hit)
    }

    /// What was taken for an error is none, or the other way round: a person has said so. It changes the estimate, and not the
    /// evidence, which rests on what was known at its time.
    pub(crate) fn correct(&mut self, source: &str, bundle: &str, is_hit: bool) {
        let name = self.name(source).to_owned();
        let stream = self.sources.get_mut(&name).and_then(|streams| streams.get_mut(&Kind::Error));
        if let Some(stream) = stream.filter(|stream| stream.bundle == bundle) {
            stream.hits = match is_hit {
                true => (stream.hits + 1).min(stream.seen),
                false => stream.hits.saturating_sub(1),
            };
        }
    }

    /// Begins the streams of a source anew; of all sources if none is named. Gives how many there were.
    pub(crate) fn reset(&mut self, source: Option<&str>) -> usize {
        let before = self.sources.len();
        match source {
            Some(source) => self.sources.retain(|name, _| name != source),
            None => self.sources.clear(),
        }
        before - self.sources.len()
    }

    /// Every stream, by source and kind.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&str, Kind, &Stream)> {
        self.sources
            .iter()
            .flat_map(|(source, streams)| streams.iter().map(|(kind, stream)| (&**source, *kind, stream)))
    }

    /// Under which name a source is watched.
    pub(crate) fn name<'a>(&self, source: &'a str) -> &'a str {
        let has_room = self.sources.len() < MOST_SOURCES || self.sources.contains_key(source);
        if has_room { source } else { OTHERS }
    }
}

/// The largest share of known samples that a bound of novelty can come to, with so many calibration samples and detectors,
/// but for half of the false-alarm probability.
pub(crate) fn novelty_rate(bound: f64, calibration_samples: u64, detectors: usize) -> f64 {
    let detectors = detectors.max(1) as f64;
    let below = (bound / detectors * (calibration_samples + 1) as f64 + 1e-9).floor() as u64;
    if below == 0 {
        return LEAST_RATE;
    }
    let each = interval::upper(below - 1, calibration_samples, ALPHA / 2.0 / detectors);
    (each * detectors).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(source: &str, bundle: &'static str, is_hit: bool) -> Observed<'static> {
        let source: &'static str = Box::leak(source.to_owned().into_boxed_str());
        Observed { source, bundle, asked: 0.01, rate: 0.01, is_hit }
    }

    #[test]
    fn a_stream_begins_anew_with_another_bundle_and_by_a_reset() {
        let mut drift = Drift::default();
        let mut alarms = 0;
        for _ in 0..40 {
            alarms += usize::from(drift.observe(Kind::Error, seen("cam1", "a", true)));
        }
        assert_eq!(alarms, 1, "an alarm is raised once, and stays");
        let stream = drift.streams().next().unwrap().2.clone();
        assert!(stream.evidence.is_alarmed() && (stream.seen, stream.hits) == (40, 40));
        drift.observe(Kind::Error, seen("cam1", "b", false));
        let stream = drift.streams().next().unwrap().2;
        assert!(!stream.evidence.is_alarmed() && (stream.seen, stream.hits) == (1, 0));
        assert_eq!((drift.reset(Some("cam2")), drift.reset(None), drift.reset(None)), (0, 1, 0));
    }

    #[test]
    fn a_correction_moves_the_estimate_and_not_the_evidence() {
        let mut drift = Drift::default();
        drift.observe(Kind::Error, seen("cam1", "a", true));
        let before = drift.streams().next().unwrap().2.evidence.clone();
        drift.correct("cam1", "a", false);
        drift.correct("cam1", "b", true);
        let after = drift.streams().next().unwrap().2;
        assert_eq!((after.hits, &after.evidence), (0, &before));
    }

    #[test]
    fn sources_without_end_share_a_stream() {
        let mut drift = Drift::default();
        for number in 0..1000 {
            drift.observe(Kind::Novelty, seen(&format!("s{number}"), "a", false));
        }
        assert_eq!(drift.streams().count(), MOST_SOURCES + 1);
        assert_eq!(drift.name("s999"), OTHERS);
    }

    #[test]
    fn few_calibration_samples_leave_much_room() {
        let rate = |samples| novelty_rate(0.02, samples, 1);
        assert!(rate(100) > 0.06 && rate(100) < 0.12, "{}", rate(100));
        assert!(rate(10_000) > 0.02 && rate(10_000) < 0.025, "{}", rate(10_000));
        assert_eq!(rate(10), LEAST_RATE, "with so few nothing is ever unknown");
        assert!(novelty_rate(0.02, 10_000, 3) > rate(10_000));
    }

    #[test]
    fn it_is_the_same_after_a_restart() {
        let mut drift = Drift::default();
        for number in 0..50 {
            drift.observe(Kind::Error, seen("cam1", "a", number % 9 == 0));
        }
        let text = serde_json::to_string(&drift).unwrap();
        assert_eq!(serde_json::from_str::<Drift>(&text).unwrap(), drift);
    }
}
