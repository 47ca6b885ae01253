//! A circuit breaker as a state machine: when to stop asking a peer that does not answer, and when to try again.
//!
//! Closed, calls go through. After [`Config::failures`] failures in a row it opens: calls are refused at once, so that an
//! outage costs next to nothing per sample. After a pause one probe is let through; if it succeeds the breaker closes, if
//! not the pause doubles, up to a bound. It reads no clock.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Pauses before a probe.
    pub pauses: Backoff,
}

impl Default for Config {
    fn default() -> Self {
        Self { failures: 2, pauses: Backoff::new(Duration::from_millis(250), Duration::from_secs(5)) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One probe is out; another is let through only after `until`, lest a lost probe shut the line for good.
    Probing {
        until: Instant,
        pause: Duration,
    },
}

#[derive(Debug, Clone)]
pub struct Breaker {
    config: Config,
    state: State,
}

impl Breaker {
    pub fn new(config: Config) -> Self {
        Self { config, state: State::Closed { failures: 0 } }
    }

    /// May a call go out now? A `true` while not closed is the probe.
    pub fn allow(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, pause } | State::Probing { until, pause } if now >= until => {
                self.state = State::Probing { until: now + pause, pause };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// When the next probe may go out; `None` while closed.
    pub fn opens_at(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until, .. } | State::Probing { until, .. } => Some(until),
        }
    }

    /// Opens at once: the peer is known to be gone.
    pub fn trip(&mut self, now: Instant) {
        if self.is_closed() {
            self.state =
                State::Open { until: now + self.config.pauses.first, pause: self.config.pauses.first };
        } else {
            self.failed(now);
        }
    }

    /// The peer has shown itself: the first probe need not wait for its pause. Once a probe has failed that is no news any more.
    pub fn hope(&mut self, now: Instant) {
        if let State::Open { until, pause } = self.state
            && pause == self.config.pauses.first
        {
            self.state = State::Open { until: until.min(now), pause };
        }
    }

    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    pub fn failed(&mut self, now: Instant) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.config.failures => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => {
                State::Open { until: now + self.config.pauses.first, pause: self.config.pauses.first }
            }
            State::Probing { pause, .. } => {
                let pause = self.config.pauses.after(pause);
                State::Open { until: now + pause, pause }
            }
            // A call that went out before it opened.
            open @ State::Open { .. } => open,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(Config::default()), Instant::now())
    }

    const STEP: Duration = Duration::from_millis(1);

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (mut breaker, now) = breaker();
        breaker.failed(now);
        breaker.succeeded();
        breaker.failed(now);
        assert!(breaker.allow(now));
        breaker.failed(now);
        assert!(!breaker.allow(now));
    }

    #[test]
    fn one_probe_after_the_pause_and_success_closes_it() {
        let (mut breaker, now) = breaker();
        breaker.failed(now);
        breaker.failed(now);
        let later = now + Config::default().pauses.first;
        assert!(!breaker.allow(later - STEP));
        assert!(breaker.allow(later));
        assert!(!breaker.allow(later));
        breaker.succeeded();
        assert!(breaker.is_closed());
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let (mut breaker, mut now) = breaker();
        breaker.failed(now);
        breaker.failed(now);
        for expected in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            let pause = Duration::from_millis(expected);
            assert!(!breaker.allow(now + pause - STEP));
            now += pause;
            assert!(breaker.allow(now));
            breaker.failed(now);
        }
    }

    #[test]
    fn hope_brings_the_first_probe_forward_and_no_later_one() {
        let (mut breaker, now) = breaker();
        breaker.failed(now);
        breaker.failed(now);
        assert!(!breaker.allow(now));
        breaker.hope(now);
        assert!(breaker.allow(now));
        breaker.hope(now);
        assert!(!breaker.allow(now));
        breaker.failed(now);
        breaker.hope(now);
        assert!(!breaker.allow(now + Config::default().pauses.first));
        assert!(breaker.allow(now + Config::default().pauses.first * 2));
    }

    #[test]
    fn a_probe_that_never_returns_does_not_shut_the_line() {
        let (mut breaker, now) = breaker();
        breaker.failed(now);
        breaker.failed(now);
        let pause = Config::default().pauses.first;
        assert!(breaker.allow(now + pause));
        assert!(breaker.allow(now + pause * 2));
    }
}
