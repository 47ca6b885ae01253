//! One pool address: its line, its breaker, how long its calls take.

use std::time::{Duration, Instant};

use super::pace::Pace;
use super::{LinkState, NewLine, RECONNECT_GRACE};
use crate::backoff::Backoff;
use crate::uplink::breaker::{self, Breaker};
use crate::uplink::estimate::{Quantiles, Times};

/// A line on which calls wait is asked for a sign of life after this many times its p95, within these bounds.
const SILENCE_TIMES: u32 = 3;
const SHORTEST_SILENCE: Duration = Duration::from_millis(250);
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
const UNKNOWN_SILENCE: Duration = Duration::from_millis(500);
/// The sign of life gets two round trips, within these bounds.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(30);
const LONGEST_PATIENCE: Duration = Duration::from_secs(1);
const UNKNOWN_PATIENCE: Duration = Duration::from_millis(200);
/// The better transport is tried again this long after another one had to be taken, then at twice the pause each time.
const UPGRADE: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(600));

/// A line that shows an old certificate is made anew at once, and where that fails again after this time, then after twice
/// that each time.
const RENEWAL: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The first dial has not ended.
    New,
    Up {
        line: u64,
        /// Whether the line uses the transport that is preferred.
        is_best: bool,
    },
    /// The line broke a moment ago: calls wait for the next one until then.
    Reconnecting {
        since: Instant,
        until: Instant,
    },
    Down {
        since: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Address {
    pub(super) line: Line,
    breaker: Breaker,
    /// When the breaker opened.
    opened: Option<Instant>,
    pub(super) pace: Pace,
    pub(super) times: Times,
    /// Lines that a newer one has taken over from, and when they are closed at the latest.
    pub(super) retired: Vec<(u64, Instant)>,
    /// When the current line last gave a sign of life.
    heard: Instant,
    /// Since when it is doubted.
    suspected: Option<Instant>,
    /// What was out on it has been sent elsewhere too.
    given_away: bool,
    /// The current line works, and is to be replaced.
    is_outdated: bool,
    renew_at: Instant,
    renew_pause: Duration,
    upgrade_at: Option<Instant>,
    upgrade_pause: Duration,
    /// How long the pool took to answer when the line was opened, for as long as no call has told more.
    first_trip: Option<Duration>,
}

impl Address {
    pub(super) fn new(config: breaker::Config, now: Instant) -> Self {
        Self {
            line: Line::New,
            breaker: Breaker::new(config),
            opened: None,
            pace: Pace::new(now),
            times: Times::default(),
            retired: Vec::new(),
            heard: now,
            suspected: None,
            given_away: false,
            is_outdated: false,
            renew_at: now,
            renew_pause: RENEWAL.first,
            upgrade_at: None,
            upgrade_pause: UPGRADE.first,
            first_trip: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.line, Line::Up { .. })
    }

    pub(super) fn is_best(&self) -> bool {
        matches!(self.line, Line::Up { is_best: true, .. })
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.is_up() && self.breaker.is_closed()
    }

    /// Up, and the breaker lets a call through.
    pub(super) fn takes_calls(&self, now: Instant) -> bool {
        self.is_up() && self.breaker.opens_at().is_none_or(|at| at <= now)
    }

    /// A new line: whether calls are answered again is found out at once.
    pub(super) fn hope(&mut self, now: Instant) {
        self.breaker.hope(now);
    }

    /// Takes the breaker's one probe if it is open.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        self.is_up() && self.breaker.allow(now)
    }

    /// Calls may hope for a line soon.
    pub(super) fn is_waited_for(&self, now: Instant) -> bool {
        match self.line {
            Line::New => true,
            Line::Reconnecting { until, .. } => until > now,
            Line::Up { .. } | Line::Down { .. } => false,
        }
    }

    pub(super) fn link(&self, now: Instant) -> LinkState {
        match self.line {
            Line::New => LinkState::Unknown,
            Line::Up { .. } if self.takes_calls(now) => LinkState::Up,
            Line::Up { .. } => LinkState::Down { since: self.opened.unwrap_or(now) },
            Line::Reconnecting { until, .. } if until > now => LinkState::Up,
            Line::Reconnecting { since, .. } | Line::Down { since } => LinkState::Down { since },
        }
    }

    pub(super) fn current(&self) -> Option<u64> {
        match self.line {
            Line::Up { line, .. } => Some(line),
            _ => None,
        }
    }

    pub(super) fn has(&self, line: u64) -> bool {
        self.current() == Some(line) || self.retired.iter().any(|(retired, _)| *retired == line)
    }

    /// A new line; gives the one that it takes over from.
    pub(super) fn open(&mut self, new: NewLine, upgrade: bool, now: Instant) -> Option<u64> {
        let NewLine { line, is_best, answered_in } = new;
        let old = self.current();
        self.line = Line::Up { line, is_best };
        self.heard = now;
        self.suspected = None;
        self.is_outdated = false;
        self.first_trip = Some(answered_in);
        self.upgrade_at = (upgrade && !is_best).then(|| now + self.upgrade_pause);
        old
    }

    /// A line is no more.
    pub(super) fn closed(&mut self, line: u64, now: Instant) {
        self.retired.retain(|(retired, _)| *retired != line);
        if self.current() == Some(line) {
            self.line = Line::Reconnecting { since: now, until: now + RECONNECT_GRACE };
            self.suspected = None;
            self.is_outdated = false;
            self.upgrade_at = None;
            self.pace.restart(now);
        }
    }

    /// There is no line to hope for.
    pub(super) fn went_down(&mut self, now: Instant) {
        self.line = match self.line {
            Line::New => Line::Down { since: now },
            Line::Reconnecting { since, .. } => Line::Down { since },
            line @ (Line::Up { .. } | Line::Down { .. }) => line,
        };
    }

    pub(super) fn grace_over(&mut self, now: Instant) {
        if let Line::Reconnecting { until, .. } = self.line
            && until <= now
        {
            self.went_down(now);
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.suspected = None;
    }

    /// An answer came in time.
    pub(super) fn succeeded(&mut self) {
        self.breaker.succeeded();
        self.opened = None;
    }

    /// A call sent at `sent` was not answered in time; true if the line has to be looked at for that.
    pub(super) fn failed(&mut self, sent: Instant, now: Instant) -> bool {
        let out = now.saturating_duration_since(sent);
        // One that was sent too late to be answered says nothing about the pool.
        if self.times.estimate().total.is_some_and(|total| out < total.p50) {
            return false;
        }
        self.breaker.failed(now);
        if !self.breaker.is_closed() {
            self.opened.get_or_insert(now);
        }
        !self.breaker.is_closed() && self.is_up() && self.heard <= sent
    }

    /// True if it was not before.
    pub(super) fn suspect(&mut self, now: Instant) -> bool {
        let is_new = self.suspected.is_none();
        self.suspected.get_or_insert(now);
        self.given_away &= !is_new;
        is_new
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspected.is_some()
    }

    /// Whether the pool was asked for a sign of life and gave none.
    pub(super) fn is_deaf(&self, now: Instant) -> bool {
        self.suspected.is_some_and(|since| since + self.patience() <= now)
    }

    /// True once for each doubt: calls that are out on it are to be sent elsewhere too.
    pub(super) fn give_away(&mut self, now: Instant) -> bool {
        self.is_deaf(now) && !std::mem::replace(&mut self.given_away, true)
    }

    /// Nothing is heard although a call has been out since `oldest`.
    pub(super) fn is_silent(&self, oldest: Instant, now: Instant) -> bool {
        now >= self.silent_at(oldest)
    }

    fn silent_at(&self, oldest: Instant) -> Instant {
        let silence = self.total().map_or(UNKNOWN_SILENCE, |total| {
            (total.p95 * SILENCE_TIMES).clamp(SHORTEST_SILENCE, LONGEST_SILENCE)
        });
        oldest.max(self.heard)
            + silence.max(self.trip().unwrap_or_default() * SILENCE_TIMES).min(LONGEST_SILENCE)
    }

    fn patience(&self) -> Duration {
        self.trip().map_or(UNKNOWN_PATIENCE, |trip| (trip * 2).clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE))
    }

    /// On the line alone, there and back.
    pub(super) fn trip(&self) -> Option<Duration> {
        self.times.estimate().network.map(|network| network.p50).or(self.first_trip)
    }

    pub(super) fn total(&self) -> Option<Quantiles> {
        self.times.estimate().total
    }

    pub(super) fn wants_dial(&self, now: Instant) -> bool {
        !self.is_up() || self.is_deaf(now)
    }

    pub(super) fn start_dial(&mut self, now: Instant) {
        self.pace.dialled(now, self.trip());
    }

    /// The pool does not know the device on the current line.
    pub(super) fn outdate(&mut self, now: Instant) {
        // The last one is long past, and told nothing of this one.
        if !self.is_outdated && self.renew_at + RENEWAL.longest <= now {
            self.renew_pause = RENEWAL.first;
        }
        self.is_outdated = self.is_up();
    }

    /// There is a new certificate: earlier failures tell nothing of it.
    pub(super) fn renew(&mut self, now: Instant) {
        (self.renew_at, self.renew_pause) = (now, RENEWAL.first);
        self.pace.restart(now);
        self.is_outdated = self.is_up();
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Takes the try if it is time for one.
    pub(super) fn renewal_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_outdated && self.renew_at <= now;
        if is_due {
            self.renew_at = now + self.renew_pause;
            self.renew_pause = RENEWAL.after(self.renew_pause);
        }
        is_due
    }

    /// Takes the try if it is time for one.
    pub(super) fn upgrade_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_up() && self.upgrade_at.is_some_and(|at| at <= now);
        if is_due {
            self.upgrade_pause = UPGRADE.after(self.upgrade_pause);
            self.upgrade_at = Some(now + self.upgrade_pause);
        }
        is_due
    }

    /// When something happens by itself. `oldest` call on the current line.
    pub(super) fn next_event(&self, oldest: Option<Instant>, now: Instant) -> Option<Instant> {
        let grace = match self.line {
            Line::Reconnecting { until, .. } => Some(until),
            _ => None,
        };
        let dial = self.wants_dial(now).then(|| self.pace.next());
        let deaf = self.suspected.map(|since| since + self.patience()).filter(|at| *at > now);
        let silent = oldest.filter(|_| self.suspected.is_none()).map(|oldest| self.silent_at(oldest));
        let probe = self.breaker.opens_at().filter(|at| *at > now);
        let retired = self.retired.iter().map(|(_, until)| *until).min();
        let upgrade = self.upgrade_at.filter(|_| self.is_up());
        let renewal = self.is_outdated.then_some(self.renew_at);
        [grace, dial, deaf, silent, probe, retired, upgrade, renewal].into_iter().flatten().min()
    }
}
