//! When files that may end the agent are taken: once every folder has been listed, nothing else is ready or at work in any
//! of them, and the agent has run for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// What all sources say of themselves; there is one for all.
#[derive(Debug)]
pub struct Calm {
    not_before: Instant,
    sources: Box<[Source]>,
}

#[derive(Debug, Default)]
struct Source {
    busy: AtomicUsize,
    is_listed: AtomicBool,
}

/// A source's own view of it.
#[derive(Debug, Clone)]
pub struct Turn {
    calm: Arc<Calm>,
    source: usize,
}

impl Calm {
    /// Makes one for so many sources.
    pub fn new(sources: usize, not_before: Instant) -> Arc<Self> {
        Arc::new(Self { not_before, sources: (0..sources).map(|_| Source::default()).collect() })
    }

    /// Gives the view of the source of this number.
    pub fn turn(self: &Arc<Self>, source: usize) -> Turn {
        Turn { calm: Arc::clone(self), source }
    }
}

impl Turn {
    /// Takes note that the folder has been listed, or cannot be.
    pub fn listed(&self) {
        self.calm.sources[self.source].is_listed.store(true, Ordering::Relaxed);
    }

    /// Says how many of its files are ready or at work, those left out that are a risk; true if one of these may go.
    pub fn may_risk(&self, busy: usize, now: Instant) -> bool {
        self.calm.sources[self.source].busy.store(busy, Ordering::Relaxed);
        let is_quiet = |source: &Source| {
            source.is_listed.load(Ordering::Relaxed) && source.busy.load(Ordering::Relaxed) == 0
        };
        now >= self.calm.not_before && self.calm.sources.iter().all(is_quiet)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_risk_waits_for_every_folder_and_for_its_time() {
        let start = Instant::now();
        let calm = Calm::new(2, start + Duration::from_secs(1));
        let (one, two) = (calm.turn(0), calm.turn(1));
        let late = start + Duration::from_secs(2);
        assert!(!one.may_risk(0, late), "nobody has listed");
        one.listed();
        assert!(!one.may_risk(0, late), "the other has not");
        two.listed();
        assert!(one.may_risk(0, late));
        assert!(!one.may_risk(0, start), "it is too early");
        assert!(!two.may_risk(3, late) && !one.may_risk(0, late), "the other is busy");
        assert!(two.may_risk(0, late) && one.may_risk(0, late));
    }
}
