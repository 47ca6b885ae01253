//! What a run came to, and what was missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millgate_shared::bundle::manifest::{Manifest, Tier};
use millgate_shared::deciding::Mode;
use millgate_shared::decision::{Decision, State, UNKNOWN};

use crate::record::Undecided;

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Summary {
    finals: usize,
    provisional: usize,
    /// Provisional ones by the reason of the first expert that is missing.
    reasons: BTreeMap<&'static str, usize>,
    /// Decisions that wanted the pool and do not have its answer.
    without_cloud: usize,
    /// Verdicts `unknown`.
    unknown: usize,
    /// What is done with the parts, by disposition; empty without a recipe.
    dispositions: BTreeMap<&'static str, usize>,
    /// What could not be decided, by code.
    undecided: BTreeMap<&'static str, usize>,
}

impl Summary {
    pub(super) fn take(&mut self, result: &Result<Decision, Undecided>, mode: &Mode, manifest: &Manifest) {
        let decision = match result {
            Ok(decision) => decision,
            Err(error) => return *self.undecided.entry(error.code).or_default() += 1,
        };
        match decision.state {
            State::Final | State::Amended => self.finals += 1,
            State::Provisional => self.provisional += 1,
        }
        self.unknown += usize::from(decision.verdict.label == UNKNOWN);
        if let Some(disposition) = decision.disposition {
            *self.dispositions.entry(disposition.as_str()).or_default() += 1;
        }
        if let Some(degraded) = &decision.degraded {
            *self.reasons.entry(degraded.reason.as_str()).or_default() += 1;
        }
        self.without_cloud += usize::from(lacks_cloud(decision, mode, manifest));
    }

    pub(super) fn inputs(&self) -> usize {
        self.finals + self.provisional + self.undecided()
    }

    pub(super) fn undecided(&self) -> usize {
        self.undecided.values().sum()
    }

    /// Decisions that wanted the pool and did not get its answer.
    pub(super) fn without_cloud(&self) -> usize {
        self.without_cloud
    }

    /// Nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.provisional == 0 && self.undecided.is_empty() && self.without_cloud == 0
    }

    /// Lines for people, without the last line feed.
    pub(super) fn text(&self) -> String {
        let decided = self.finals + self.provisional;
        let mut text = format!("{decided} decided, {} not", self.undecided());
        // Writing to a String cannot fail.
        let mut line = |words: String| _ = write!(text, "\n  {words}");
        if decided > 0 {
            line(format!("{} final, {} provisional{}", self.finals, self.provisional, listed(&self.reasons)));
        }
        if self.unknown > 0 {
            line(format!("{} unknown", self.unknown));
        }
        if !self.dispositions.is_empty() {
            line(format!("dispositions{}", listed(&self.dispositions)));
        }
        if self.without_cloud > 0 {
            line(format!("{} wanted the pool and did not get its answer", self.without_cloud));
        }
        if !self.undecided.is_empty() {
            line(format!("not decided{}", listed(&self.undecided)));
        }
        text
    }
}

/// `: 817 offline, 2 deadline`, the most frequent first.
fn listed(counts: &BTreeMap<&'static str, usize>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let mut counts: Vec<(&str, usize)> = counts.iter().map(|(name, count)| (*name, *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!(": {}", each.join(", "))
}

/// The pool was wanted, by the mode or by the risk of the local answer, and an answer of it is missing.
pub(super) fn lacks_cloud(decision: &Decision, mode: &Mode, manifest: &Manifest) -> bool {
    let is_cloud = |name: &str| {
        let index = manifest.expert_index(name);
        index.is_some_and(|index| manifest.experts[index].tier == Tier::Cloud)
    };
    let missing = decision.degraded.iter().flat_map(|degraded| &degraded.missing);
    if missing.map(|missing| &*missing.name).any(is_cloud) {
        return true;
    }
    // Also where no expert of the pool could be asked: what it needs is not there, or may not leave the device.
    let why = &decision.why;
    let is_wanted = match mode {
        Mode::Always => true,
        // The pool knows no more of a picture that shows nothing.
        Mode::Confidence if !decision.checks.is_empty() => false,
        Mode::Confidence => match (why.local_risk, why.threshold) {
            (Some(risk), Some(threshold)) => risk > threshold,
            _ => true,
        },
        Mode::Never | Mode::Gate | Mode::Pinned(_) => false,
    };
    is_wanted && !decision.experts.iter().any(|expert| expert.place.starts_with("cloud:"))
}

#[cfg(test)]
mod tests {
    use millgate_shared::decision::{
        BundleInfo, Degraded, ExpertShare, FailedCheck, Missing, MissingExpert, SampleInfo, Timings, Verdict,
        Why,
    };

    use millgate_shared::recipe::Disposition;

    use super::*;

    fn manifest() -> Manifest {
        Manifest::parse(&std::fs::read_to_string("../models/factory/bundle.toml").unwrap()).unwrap()
    }

    fn decision(place: &str, missing: Option<(&str, Missing)>, threshold: Option<f64>) -> Decision {
        let name = if place == "edge" { "pcb-s" } else { "pcb-l" };
        Decision {
            id: String::new(),
            version: 1,
            state: if missing.is_some() { State::Provisional } else { State::Final },
            task: "inspect".to_owned(),
            sample: SampleInfo {
                path: String::new(),
                source: None,
                part_id: None,
                captured_at: None,
                sha256: String::new(),
                modalities: Vec::new(),
                notes: Vec::new(),
                region: None,
                regions: None,
            },
            verdict: Verdict { label: "deeppcb/normal".to_owned(), probability: Some(1.0) },
            probabilities: BTreeMap::new(),
            experts: vec![ExpertShare {
                name: name.to_owned(),
                place: place.to_owned(),
                weight: 1.0,
                competence: 1.0,
                latency_us: 0,
                engine: String::new(),
                batch: 1,
            }],
            degraded: missing.map(|(name, reason)| Degraded {
                reason,
                missing: vec![MissingExpert { name: name.to_owned(), reason }],
                weight_mass: 0.5,
                later: None,
            }),
            why: Why {
                rule: String::new(),
                gate: BTreeMap::new(),
                price: BTreeMap::new(),
                masked: BTreeMap::new(),
                local_risk: Some(0.1),
                threshold,
            },
            uplink_bytes: 0,
            bundle: BundleInfo { name: String::new(), version: String::new(), digest: String::new() },
            timings_us: Timings::default(),
            disposition: None,
            novelty: None,
            checks: Vec::new(),
            historical: None,
        }
    }

    #[test]
    fn a_decision_lacks_the_pool_where_it_wanted_it() {
        let manifest = manifest();
        let lacks = |decision: &Decision, mode: Mode| lacks_cloud(decision, &mode, &manifest);
        let offline = decision("edge", Some(("pcb-l", Missing::Offline)), Some(0.01));
        for mode in [Mode::Always, Mode::Gate, Mode::Confidence] {
            assert!(lacks(&offline, mode));
        }
        // A local expert that failed is no answer of the pool.
        let local = decision("edge", Some(("pcb-s", Missing::Failed)), Some(0.5));
        assert!(!lacks(&local, Mode::Confidence));
        assert!(!lacks(&decision("cloud:node-1", None, Some(0.01)), Mode::Always));
        // Nobody could be asked.
        assert!(lacks(&decision("edge", None, Some(0.01)), Mode::Confidence));
        assert!(lacks(&decision("edge", None, None), Mode::Confidence));
        assert!(lacks(&decision("edge", None, Some(0.5)), Mode::Always));
        assert!(!lacks(&decision("edge", None, Some(0.5)), Mode::Confidence));
        assert!(!lacks(&decision("edge", None, Some(0.01)), Mode::Never));
        // The pool is not asked about a picture that shows nothing.
        let mut blank = decision("edge", None, None);
        let modality = "image".to_owned();
        blank.checks =
            vec![FailedCheck { modality, check: "blank".to_owned(), value: 0.0, bounds: [8.0, 90.0] }];
        assert!(!lacks(&blank, Mode::Confidence));
    }

    #[test]
    fn what_is_unknown_and_what_is_done_with_parts_is_counted() {
        let (mut summary, manifest) = (Summary::default(), manifest());
        let disposed = [Disposition::Accept, Disposition::Review, Disposition::Accept];
        for (at, disposition) in disposed.into_iter().enumerate() {
            let mut decision = decision("edge", None, Some(0.5));
            decision.disposition = Some(disposition);
            if at == 1 {
                decision.verdict = Verdict { label: UNKNOWN.to_owned(), probability: None };
            }
            summary.take(&Ok(decision), &Mode::Never, &manifest);
        }
        let expected =
            "3 decided, 0 not\n  3 final, 0 provisional\n  1 unknown\n  dispositions: 2 accept, 1 review";
        assert_eq!(summary.text(), expected);
    }

    #[test]
    fn what_is_missing_is_counted_by_reason() {
        let (mut summary, manifest) = (Summary::default(), manifest());
        let mut take = |result: Result<Decision, Undecided>| summary.take(&result, &Mode::Always, &manifest);
        take(Ok(decision("cloud:node-1", None, None)));
        take(Ok(decision("edge", Some(("pcb-l", Missing::Deadline)), None)));
        for _ in 0..2 {
            take(Ok(decision("edge", Some(("pcb-l", Missing::Offline)), None)));
        }
        take(Err(Undecided { path: "a".to_owned(), code: "not_an_image", message: String::new() }));
        assert_eq!((summary.inputs(), summary.undecided(), summary.without_cloud()), (5, 1, 3));
        assert!(!summary.is_whole());
        let expected = "4 decided, 1 not\n  1 final, 3 provisional: 2 offline, 1 deadline\n  \
                        3 wanted the pool and did not get its answer\n  not decided: 1 not_an_image";
        assert_eq!(summary.text(), expected);
    }
}
