//! How many worker processes there are and were, and how they ended, by household.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use millgate_shared::engine::Cause;

/// The processes of one household.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) running: u64,
    pub(crate) started: u64,
    /// Deaths by the name of their cause, as [`Cause::name`] has it. One that ended because nobody needed it any more is
    /// not among them.
    pub(crate) ended: BTreeMap<&'static str, u64>,
}

/// Counts of all households, by their names. A pool has as many as it has ever served models.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<String, Count>>);

impl Counts {
    fn with(&self, name: &str, change: impl FnOnce(&mut Count)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(name.to_owned()).or_default());
    }

    pub(super) fn started(&self, name: &str) {
        self.with(name, |count| {
            count.running += 1;
            count.started += 1;
        });
    }

    /// `cause`: of a death; `None` where it was to end.
    pub(super) fn ended(&self, name: &str, cause: Option<&Cause>) {
        self.with(name, |count| {
            count.running = count.running.saturating_sub(1);
            if let Some(cause) = cause {
                *count.ended.entry(cause.name()).or_default() += 1;
            }
        });
    }

    pub(super) fn all(&self) -> BTreeMap<String, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_counted_by_cause_and_dismissals_are_none() {
        let counts = Counts::default();
        for cause in [Some(Cause::Signal(8)), Some(Cause::Signal(11)), None] {
            counts.started("pcb");
            counts.ended("pcb", cause.as_ref());
        }
        counts.started("pcb");
        let ended = BTreeMap::from([("signal", 2)]);
        assert_eq!(counts.all()["pcb"], Count { running: 1, started: 4, ended });
    }
}
