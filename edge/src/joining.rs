//! Joins parts that arrive apart, each of one modality, into samples. Pure: no clock, no IO.
//!
//! ```text
//! add(part) ──> a sample that waits ──has all it needs──> handed out, whole
//!                  │        │
//!                  │        └─ its time is over (`late`), another needed its place (`full`), the source ends (`ended`):
//!                  │           handed out with what came, and with the reason for each modality that did not
//!                  └─ refused by name: not wanted, no part id, twice, its sample is gone
//! ```
//!
//! Parts belong together by the id of the part that they show, or by their own times: then all parts of a sample lie within
//! one span. As long as the time and the room that samples have suffice, the order in which parts arrive changes nothing;
//! by time that holds where parts of different events lie at least two spans apart.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// What belongs together, and how long it is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) by: By,
    /// The modalities of a whole sample, each once.
    pub(crate) needs: Vec<String>,
    /// How long a sample waits for its parts, from its first one on.
    pub(crate) wait: Duration,
    /// Samples that wait, at most, and those that are remembered once they are gone.
    pub(crate) most: usize,
}

/// What makes parts belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    PartId,
    /// Their own times, which lie within `span` of each other.
    Time {
        span: Duration,
    },
}

/// A part that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<T> {
    pub(crate) modality: String,
    /// The id of what it shows; not looked at where parts are joined by time.
    pub(crate) part_id: Option<String>,
    /// The part's own time, in milliseconds since 1970; not looked at where parts are joined by part id.
    pub(crate) at: i64,
    /// The part's bytes, or whatever stands for them.
    pub(crate) body: T,
}

/// A sample that waits no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined<T> {
    /// What came, in the order of [`Rules::needs`].
    pub(crate) parts: Vec<Part<T>>,
    /// What did not come, and why it is not waited for.
    pub(crate) missing: Vec<(String, Missing)>,
}

/// Why a modality is missing from a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// Nothing of it came in time.
    Late,
    /// Too many samples waited, and this was the oldest.
    Full,
    /// No more parts come.
    Ended,
}

impl Missing {
    /// A name for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Full => "full",
            Self::Ended => "ended",
        }
    }
}

/// A part that belongs to no sample, with why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused<T> {
    pub(crate) part: Part<T>,
    pub(crate) why: Refusal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no sample needs its modality")]
    Unwanted,
    #[error("has no part id")]
    NoPartId,
    #[error("its sample has a part of this modality already")]
    Twice,
    #[error("its sample has been handed out already")]
    Gone,
}

impl Refusal {
    /// A name for programs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unwanted => "unwanted_part",
            Self::NoPartId => "no_part_id",
            Self::Twice => "double_part",
            Self::Gone => "late_part",
        }
    }
}

/// What the parts of a sample have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tie {
    Id(String),
    /// The times of its earliest and its latest part.
    Times(i64, i64),
}

#[derive(Debug)]
struct Waiting<T> {
    tie: Tie,
    until: Instant,
    parts: Vec<Part<T>>,
}

/// Samples that wait for their parts.
#[derive(Debug)]
pub(crate) struct Joining<T> {
    rules: Rules,
    /// Samples by the order of their first parts, which is that of their ends too.
    waiting: BTreeMap<u64, Waiting<T>>,
    next: u64,
    /// Handed out; of more than [`Rules::most`] the oldest are forgotten.
    gone: VecDeque<Tie>,
}

impl<T> Joining<T> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, waiting: BTreeMap::new(), next: 0, gone: VecDeque::new() }
    }

    /// Takes a part in; gives the samples that wait no longer because of it, one that made room and one that is whole.
    /// [`Joining::due`] is to be asked before, lest a part is joined to a sample whose time is over.
    pub(crate) fn add(&mut self, part: Part<T>, now: Instant) -> Result<Vec<Joined<T>>, Refused<T>> {
        let tie = match self.tie(&part) {
            Ok(tie) => tie,
            Err(why) => return Err(Refused { part, why }),
        };
        let mut out = Vec::new();
        let number = match self.find(&tie) {
            Some(number) => number,
            None if self.gone.iter().any(|gone| self.joined(gone, &tie).is_some()) => {
                return Err(Refused { part, why: Refusal::Gone });
            }
            None => {
                if self.waiting.len() >= self.rules.most.max(1)
                    && let Some((_, oldest)) = self.waiting.pop_first()
                {
                    out.push(self.hand_out(oldest, Missing::Full));
                }
                self.next += 1;
                let until = now + self.rules.wait;
                self.waiting.insert(self.next, Waiting { tie: tie.clone(), until, parts: Vec::new() });
                self.next
            }
        };
        let Some(waiting) = self.waiting.get_mut(&number) else { return Ok(out) };
        if waiting.parts.iter().any(|other| other.modality == part.modality) {
            return Err(Refused { part, why: Refusal::Twice });
        }
        if let Some(joined) = joined(self.rules.by, &waiting.tie, &tie) {
            waiting.tie = joined;
        }
        waiting.parts.push(part);
        if waiting.parts.len() == self.rules.needs.len()
            && let Some(whole) = self.waiting.remove(&number)
        {
            out.push(self.hand_out(whole, Missing::Late));
        }
        Ok(out)
    }

    /// Gives the samples whose time is over.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Joined<T>> {
        let mut out = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            let Some((_, waiting)) = self.waiting.pop_first() else { break };
            out.push(self.hand_out(waiting, Missing::Late));
        }
        out
    }

    /// When [`Joining::due`] has something; `None` while nothing waits.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.until)
    }

    /// Gives all that wait: no more parts come.
    pub(crate) fn end(&mut self) -> Vec<Joined<T>> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().map(|waiting| self.hand_out(waiting, Missing::Ended)).collect()
    }

    fn tie(&self, part: &Part<T>) -> Result<Tie, Refusal> {
        if !self.rules.needs.contains(&part.modality) {
            return Err(Refusal::Unwanted);
        }
        match (self.rules.by, &part.part_id) {
            (By::Time { .. }, _) => Ok(Tie::Times(part.at, part.at)),
            (By::PartId, Some(id)) if !id.is_empty() => Ok(Tie::Id(id.clone())),
            (By::PartId, _) => Err(Refusal::NoPartId),
        }
    }

    /// The sample that a part belongs to: by time the one that it stretches least.
    fn find(&self, tie: &Tie) -> Option<u64> {
        let fits = |(number, waiting): (&u64, &Waiting<T>)| {
            Some((stretch(&waiting.tie, &self.joined(&waiting.tie, tie)?), *number))
        };
        self.waiting.iter().filter_map(fits).min().map(|(_, number)| number)
    }

    fn joined(&self, one: &Tie, other: &Tie) -> Option<Tie> {
        joined(self.rules.by, one, other)
    }

    fn hand_out(&mut self, waiting: Waiting<T>, why: Missing) -> Joined<T> {
        let Waiting { tie, mut parts, .. } = waiting;
        self.gone.push_back(tie);
        if self.gone.len() > self.rules.most.max(1) {
            self.gone.pop_front();
        }
        let needs = &self.rules.needs;
        parts.sort_by_key(|part| needs.iter().position(|need| *need == part.modality));
        let is_missing = |need: &&String| !parts.iter().any(|part| part.modality == **need);
        let missing = needs.iter().filter(is_missing).map(|need| (need.clone(), why)).collect();
        Joined { parts, missing }
    }
}

/// What two have in common together; `None` if they do not belong together.
fn joined(by: By, one: &Tie, other: &Tie) -> Option<Tie> {
    match (one, other) {
        (Tie::Id(one), Tie::Id(other)) => (one == other).then(|| Tie::Id(one.clone())),
        (Tie::Times(from, to), Tie::Times(other_from, other_to)) => {
            let By::Time { span } = by else { return None };
            let (from, to) = (*from.min(other_from), *to.max(other_to));
            (u128::from(to.abs_diff(from)) <= span.as_millis()).then_some(Tie::Times(from, to))
        }
        _ => None,
    }
}

/// Milliseconds by which a sample grows.
fn stretch(before: &Tie, after: &Tie) -> u64 {
    match (before, after) {
        (Tie::Times(from, to), Tie::Times(now_from, now_to)) => {
            now_to.abs_diff(*now_from).saturating_sub(to.abs_diff(*from))
        }
        _ => 0,
    }
}
