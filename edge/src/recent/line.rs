//! The state of one line: pure, with the time given from outside.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use millgate_shared::decision::{Decision, State, UNKNOWN};
use millgate_shared::recipe::Disposition;
use serde::Serialize;

/// Decisions that can be looked at.
const KEPT: usize = 200;
/// Decisions that a screen shows at a time.
const LISTED: usize = 20;
/// Seconds that the rate is taken over.
const WINDOW: u64 = 60;
/// Labels that are counted apart, and how many of them are shown; whatever else comes is counted under [`OTHER`].
const MOST_LABELS: usize = 256;
const TOP: usize = 8;
const OTHER: &str = "other";

/// One decision, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) decision: Arc<Decision>,
    pub(crate) at: Timestamp,
    /// What a person said last.
    pub(crate) label: Option<String>,
}

/// Decisions by what is done with the part; each counts once, as it stands now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) accept: u64,
    pub(crate) reject: u64,
    pub(crate) review: u64,
    /// Decisions without a recipe.
    pub(crate) none: u64,
    /// Unknown ones, which are in one of the counts above too.
    pub(crate) unknown: u64,
    /// Provisional ones, which are in one of the counts above too.
    pub(crate) provisional: u64,
    /// Samples that could not be decided; they are in none of the other counts.
    pub(crate) undecided: u64,
}

/// A decision in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) version: u32,
    /// Time of the decision, RFC 3339.
    pub(crate) at: String,
    pub(crate) source: String,
    pub(crate) part: String,
    pub(crate) label: String,
    pub(crate) probability: Option<f64>,
    pub(crate) disposition: Option<Disposition>,
    pub(crate) state: State,
    /// What a person said of it.
    pub(crate) said: Option<String>,
}

/// How the line stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Shown {
    /// Time of the start that everything is counted from, RFC 3339.
    pub(crate) since: String,
    pub(crate) tally: Tally,
    /// Decisions within the last minute.
    pub(crate) per_minute: u64,
    /// Labels of parts that were not accepted, the most frequent first.
    pub(crate) pareto: Vec<(String, u64)>,
    /// The last decisions, the newest first.
    pub(crate) last: Vec<Listed>,
}

/// Everything that is remembered of a line.
#[derive(Debug)]
pub(super) struct Line {
    since: Timestamp,
    /// The oldest first.
    entries: VecDeque<Entry>,
    tally: Tally,
    labels: BTreeMap<String, u64>,
    /// Decisions of each of the last seconds, by the second modulo the window, with the second that they are of.
    seconds: [(u64, u64); WINDOW as usize],
}

impl Line {
    pub(super) fn new(since: Timestamp) -> Self {
        Self {
            since,
            entries: VecDeque::new(),
            tally: Tally::default(),
            labels: BTreeMap::new(),
            seconds: [(0, 0); WINDOW as usize],
        }
    }

    /// A decision was made at a time, in this second since the start.
    pub(super) fn decided(&mut self, decision: Arc<Decision>, at: Timestamp, second: u64) {
        self.count(&decision);
        let place = &mut self.seconds[(second % WINDOW) as usize];
        *place = if place.0 == second { (second, place.1 + 1) } else { (second, 1) };
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { decision, at, label: None });
    }

    /// A decision has become another. One that is not remembered any more stays counted as it was.
    pub(super) fn amended(&mut self, decision: Arc<Decision>) {
        let Some(at) = self.place(&decision.id) else { return };
        let before = std::mem::replace(&mut self.entries[at].decision, Arc::clone(&decision));
        self.uncount(&before);
        self.count(&decision);
    }

    pub(super) fn undecided(&mut self) {
        self.tally.undecided += 1;
    }

    pub(super) fn labelled(&mut self, id: &str, label: &str) {
        if let Some(at) = self.place(id) {
            self.entries[at].label = Some(label.to_owned());
        }
    }

    pub(super) fn entry(&self, id: &str) -> Option<&Entry> {
        self.place(id).map(|at| &self.entries[at])
    }

    pub(super) fn shown(&self, second: u64) -> Shown {
        let is_recent = |(of, _): &&(u64, u64)| of + WINDOW > second;
        let mut pareto: Vec<(String, u64)> = self
            .labels
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(label, count)| (label.clone(), *count))
            .collect();
        pareto.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        pareto.truncate(TOP);
        Shown {
            since: self.since.to_string(),
            tally: self.tally,
            per_minute: self.seconds.iter().filter(is_recent).map(|(_, count)| count).sum(),
            pareto,
            last: self.entries.iter().rev().take(LISTED).map(listed).collect(),
        }
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry.decision.id == id)
    }

    fn count(&mut self, decision: &Decision) {
        let [of, unknown, provisional] = self.counters(decision);
        *of += 1;
        *unknown += u64::from(decision.verdict.label == UNKNOWN);
        *provisional += u64::from(decision.state == State::Provisional);
        if is_accepted(decision) {
            return;
        }
        let label = &decision.verdict.label;
        if let Some(count) = self.labels.get_mut(label) {
            *count += 1;
        } else if self.labels.len() < MOST_LABELS {
            self.labels.insert(label.clone(), 1);
        } else {
            *self.labels.entry(OTHER.to_owned()).or_default() += 1;
        }
    }

    fn uncount(&mut self, decision: &Decision) {
        let [of, unknown, provisional] = self.counters(decision);
        *of = of.saturating_sub(1);
        *unknown = unknown.saturating_sub(u64::from(decision.verdict.label == UNKNOWN));
        *provisional = provisional.saturating_sub(u64::from(decision.state == State::Provisional));
        if !is_accepted(decision) {
            let name = if self.labels.contains_key(&decision.verdict.label) {
                &decision.verdict.label
            } else {
                OTHER
            };
            if let Some(count) = self.labels.get_mut(name) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Where a decision counts by what is done with the part; then the counts of unknown and of provisional ones.
    fn counters(&mut self, decision: &Decision) -> [&mut u64; 3] {
        let Tally { accept, reject, review, none, unknown, provisional, undecided: _ } = &mut self.tally;
        let of = match decision.disposition {
            Some(Disposition::Accept) => accept,
            Some(Disposition::Reject) => reject,
            Some(Disposition::Review) => review,
            None => none,
        };
        [of, unknown, provisional]
    }
}

fn is_accepted(decision: &Decision) -> bool {
    decision.disposition == Some(Disposition::Accept)
}

fn listed(entry: &Entry) -> Listed {
    let Entry { decision, at, label } = entry;
    let sample = &decision.sample;
    Listed {
        id: decision.id.clone(),
        version: decision.version,
        at: at.to_string(),
        source: sample.source.clone().unwrap_or_default(),
        part: sample.part_id.clone().unwrap_or_else(|| last_name(&sample.path).to_owned()),
        label: decision.verdict.label.clone(),
        probability: decision.verdict.probability,
        disposition: decision.disposition,
        state: decision.state,
        said: label.clone(),
    }
}

/// The file's name, of a path.
fn last_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
