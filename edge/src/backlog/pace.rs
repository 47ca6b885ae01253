//! How many back-log calls may be out, and when the next may go. Pure, in milliseconds.
//!
//! As a TCP window: one more for each round without trouble, half of them after trouble, none for a while after the pool
//! has refused or the line was lost. Live traffic goes first: while a live call is out, or was within [`QUIET`], at most one
//! back-log call is, and after it the line is left alone for as long as it took.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::spool::Millis;

#[cfg(test)]
mod tests;

/// The line belongs to live calls this long after the last of them.
pub(crate) const QUIET: Millis = 200;
/// Pauses after trouble.
pub(crate) const PAUSES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
/// An answer that takes longer than this many times the quickest of late says that the line or the pool is full.
const CROWDED: f64 = 4.0;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Answered,
    /// The request did not go out, which says nothing of line and pool.
    StayedHere,
    /// Refused, late or lost: the pool or the line is the reason, not the entry.
    Trouble,
}

#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    window: f64,
    out: usize,
    pause: Duration,
    not_before: Millis,
    /// The quickest answer of late; it drifts up, so that a line that became slow is believed in the end.
    quickest: Option<f64>,
    last_live: Option<Millis>,
}

impl Pace {
    /// At most `most` calls out.
    pub(crate) fn new(most: usize) -> Self {
        let (window, out, pause, not_before) = (1.0, 0, Duration::ZERO, Millis::MIN);
        Self { most: most.max(1), window, out, pause, not_before, quickest: None, last_live: None }
    }

    /// Live calls are out right now.
    pub(crate) fn live(&mut self, now: Millis) {
        self.last_live = Some(now);
    }

    /// May one more go? If not now, then when at the earliest, as far as time alone decides.
    pub(crate) fn may_send(&self, now: Millis) -> Result<(), Option<Millis>> {
        if now < self.not_before {
            return Err(Some(self.not_before));
        }
        let room = match self.last_live {
            Some(live) if now < live + QUIET => 1,
            _ => (self.window as usize).clamp(1, self.most),
        };
        if self.out < room { Ok(()) } else { Err(None) }
    }

    pub(crate) fn sent(&mut self) {
        self.out += 1;
    }

    /// A call has ended after `took`.
    pub(crate) fn ended(&mut self, end: End, took: Millis, now: Millis) {
        self.out = self.out.saturating_sub(1);
        match end {
            End::StayedHere => {}
            End::Answered => {
                self.pause = Duration::ZERO;
                let took = took.max(1) as f64;
                let quickest = self.quickest.map_or(took, |quickest| (quickest * 1.01).min(took));
                self.quickest = Some(quickest);
                if took > quickest * CROWDED {
                    self.window = (self.window / 2.0).max(1.0);
                } else {
                    self.window = (self.window + 1.0 / self.window).min(self.most as f64);
                }
                if self.last_live.is_some_and(|live| now < live + QUIET) {
                    self.not_before = now + (took as Millis).min(QUIET);
                }
            }
            End::Trouble => {
                self.window = (self.window / 2.0).max(1.0);
                // Many that were out together are one trouble.
                if now >= self.not_before {
                    self.pause = PAUSES.after(self.pause);
                    self.not_before = now + self.pause.as_millis() as Millis;
                }
            }
        }
    }

    /// The line is back: no reason to wait any longer.
    pub(crate) fn reset(&mut self) {
        (self.window, self.pause, self.not_before) = (1.0, Duration::ZERO, Millis::MIN);
    }

    #[cfg(test)]
    pub(crate) fn window(&self) -> usize {
        self.window as usize
    }
}
