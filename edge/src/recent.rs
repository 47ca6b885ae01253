//! What was decided lately, for whoever looks on: the last decisions, counts since the start, and the rate.
//!
//! Bounded in every direction, and kept in memory alone: what has to last is in the journal, the sinks and the labels.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millgate_shared::decision::Decision;
use tokio::sync::watch;

mod line;

pub(crate) use line::{Entry, Shown};

use line::Line;

/// Handle to what was decided lately. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Mutex<Line>,
    started: Instant,
    /// How often something has changed.
    changes: watch::Sender<u64>,
}

impl Default for Recent {
    fn default() -> Self {
        let line = Mutex::new(Line::new(jiff::Timestamp::now()));
        Self(Arc::new(Inner { line, started: Instant::now(), changes: watch::Sender::new(0) }))
    }
}

impl Recent {
    /// A decision was made.
    pub(crate) fn decided(&self, decision: &Decision) {
        let (decision, second) = (Arc::new(decision.clone()), self.second());
        self.line().decided(decision, jiff::Timestamp::now(), second);
        self.changed();
    }

    /// A decision of the past has become another.
    pub(crate) fn amended(&self, decision: &Decision) {
        self.line().amended(Arc::new(decision.clone()));
        self.changed();
    }

    /// A sample could not be decided.
    pub(crate) fn undecided(&self) {
        self.line().undecided();
        self.changed();
    }

    /// Somebody has said what a part really was.
    pub(crate) fn labelled(&self, id: &str, label: &str) {
        self.line().labelled(id, label);
        self.changed();
    }

    /// How the line stands now.
    pub(crate) fn shown(&self) -> Shown {
        let second = self.second();
        self.line().shown(second)
    }

    /// One of the last decisions.
    pub(crate) fn entry(&self, id: &str) -> Option<Entry> {
        self.line().entry(id).cloned()
    }

    /// Tells of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    fn second(&self) -> u64 {
        self.0.started.elapsed().as_secs()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
