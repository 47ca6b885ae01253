//! Whether this pool wants work: yes from the start (a pool that is not proved does not get this far), no while work waits
//! and none gets finished, no for good from the moment it drains. Load never changes it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Looks that lie farther apart show that this process stood still, which no work is to blame for.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// Whether new work is wanted. Clones are cheap, and agree.
#[derive(Debug, Clone)]
pub struct Readiness {
    draining: CancellationToken,
    stalled: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { draining: CancellationToken::new(), stalled: watch::Sender::new(false) }
    }
}

/// Why no work is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    Draining,
    /// Work waits, and none gets finished.
    Stalled,
}

impl Unready {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Stalled => "stalled: work waits, and none gets finished",
        }
    }
}

impl Readiness {
    pub fn is_ready(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why no work is wanted, if none is.
    pub fn why_not(&self) -> Option<Unready> {
        if self.draining.is_cancelled() {
            return Some(Unready::Draining);
        }
        (*self.stalled.borrow()).then_some(Unready::Stalled)
    }

    /// Says, for good, that no new work is wanted.
    pub fn withdraw(&self) {
        self.draining.cancel();
    }

    /// Says whether work waits and none gets finished.
    pub(crate) fn set_stalled(&self, is_stalled: bool) {
        let changed =
            self.stalled.send_if_modified(|stalled| std::mem::replace(stalled, is_stalled) != is_stalled);
        match (changed, is_stalled) {
            (false, _) => {}
            (true, true) => tracing::error!("work waits and none gets finished: no more is taken"),
            (true, false) => tracing::info!("work gets finished again"),
        }
    }

    /// Waits until readiness is no longer `was`; gives what it is then.
    pub(crate) async fn changed(&self, was: bool) -> bool {
        let mut stalled = self.stalled.subscribe();
        loop {
            let is = self.is_ready();
            if is != was {
                return is;
            }
            tokio::select! {
                () = self.draining.cancelled(), if !self.draining.is_cancelled() => {}
                changed = stalled.changed() => if changed.is_err() {
                    return is;
                }
            }
        }
    }

    /// Returns once it is withdrawn.
    pub async fn withdrawn(self) {
        self.draining.cancelled_owned().await;
    }
}

/// The rule by which work is seen to wait while none gets finished. Pure: it takes `now`.
#[derive(Debug)]
pub(crate) struct Stall {
    patience: Duration,
    /// Since when work has waited, and how much was done by then.
    since: Option<(Instant, u64)>,
    looked: Option<Instant>,
    is_stalled: bool,
}

impl Stall {
    /// A rule that lets work wait for so long; for ever where that is zero.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: None, looked: None, is_stalled: false }
    }

    /// Says whether work stands still: some has waited for too long while no other was `done`. That is over when some is
    /// done, or when nothing waits and nothing runs.
    pub(crate) fn look(&mut self, now: Instant, waiting: usize, running: usize, done: u64) -> bool {
        let slept =
            self.looked.replace(now).is_some_and(|at| now.saturating_duration_since(at) > STOOD_STILL);
        let is_idle = waiting == 0 && (running == 0 || !self.is_stalled);
        let (since, before) = *self.since.get_or_insert((now, done));
        if is_idle || before != done {
            self.since = (!is_idle).then_some((now, done));
            self.is_stalled = false;
        } else if slept {
            self.since = Some((now, done));
        } else if !self.patience.is_zero() && now.saturating_duration_since(since) >= self.patience {
            self.is_stalled = true;
        }
        self.is_stalled
    }

    /// Nothing runs, and nobody looks for a while.
    pub(crate) fn rest(&mut self) {
        (self.since, self.looked, self.is_stalled) = (None, None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Looks once a second; each step is (waiting, running, done).
    fn looks(steps: impl IntoIterator<Item = (usize, usize, u64)>) -> Vec<bool> {
        let (start, mut stall) = (Instant::now(), Stall::new(PATIENCE));
        let look = |(at, (waiting, running, done)): (usize, (usize, usize, u64))| {
            stall.look(start + Duration::from_secs(at as u64), waiting, running, done)
        };
        steps.into_iter().enumerate().map(look).collect()
    }

    #[test]
    fn work_that_waits_while_none_is_done_is_a_stall_until_some_is() {
        let stuck = vec![(3, 2, 7); 12];
        let seen = looks(stuck.iter().copied().chain([(0, 2, 7), (1, 2, 7), (1, 2, 8), (3, 2, 8)]));
        assert_eq!(seen.iter().position(|stalled| *stalled), Some(10));
        // That the callers have given up is no progress while the same runs go on.
        assert_eq!(&seen[10..], [true, true, true, true, false, false]);
    }

    #[test]
    fn neither_load_nor_one_long_run_nor_waiting_for_nothing_is_a_stall() {
        assert!(
            looks((0..100).map(|at| (256, 2, at / 9))).iter().all(|stalled| !stalled),
            "slow, and going on"
        );
        assert!(looks(vec![(0, 1, 7); 100]).iter().all(|stalled| !stalled), "nothing waits for it");
    }

    #[test]
    fn it_is_over_when_nothing_is_left() {
        let seen = looks(vec![(1, 1, 0); 12].into_iter().chain([(0, 0, 0), (1, 1, 0)]));
        assert_eq!(&seen[10..], [true, true, false, false]);
    }

    #[test]
    fn a_machine_that_slept_has_not_stalled() {
        let (start, mut stall) = (Instant::now(), Stall::new(PATIENCE));
        assert!(!stall.look(start, 1, 1, 0));
        assert!(!stall.look(start + PATIENCE * 100, 1, 1, 0));
        assert!(!stall.look(start + PATIENCE * 100 + Duration::from_secs(1), 1, 1, 0));
        let mut never = Stall::new(Duration::ZERO);
        assert!((0..100).all(|at| !never.look(start + Duration::from_secs(at), 1, 1, 0)));
    }

    #[tokio::test]
    async fn who_waits_for_a_change_hears_of_both_ways() {
        let readiness = Readiness::default();
        readiness.set_stalled(true);
        assert_eq!((readiness.changed(true).await, readiness.why_not()), (false, Some(Unready::Stalled)));
        readiness.set_stalled(false);
        assert!(readiness.changed(false).await);
        readiness.withdraw();
        assert_eq!((readiness.changed(true).await, readiness.why_not()), (false, Some(Unready::Draining)));
    }
}
