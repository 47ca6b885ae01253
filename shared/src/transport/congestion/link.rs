//! The control itself: samples and losses in, a window out. Pure.
//!
//! ```text
//! Start   doubles every round until the line delivers no more, its queue grows, or a fifth is lost
//! Steady  window = gain x what the line delivers x its shortest round trip + a little
//! Drain   now and then half of that for two rounds, to see the round trip of an empty queue
//! ```
//! The little is what makes two such senders share a line: who has less grows by more, in proportion.

use std::time::{Duration, Instant};

use super::filter::MaxFilter;
use super::rate::{Rate, Sample};

/// Over what the line holds, so that it never runs dry and more is noticed when there is more: in a round the window
/// can grow by a quarter.
const GAIN: f64 = 1.25;
const DRAIN_GAIN: f64 = 0.5;
/// Packets that come on top.
const EXTRA_PACKETS: f64 = 4.0;
/// A sender always may have so many packets under way.
const LEAST_PACKETS: u64 = 5;
/// And so many at first, and while no queue says that it is too much.
const FIRST_PACKETS: u64 = 10;
/// A window larger than any line needs.
const MOST: u64 = 64 << 20;
/// What was delivered longer ago than this many rounds says nothing.
const RATE_ROUNDS: u64 = 8;
/// The shortest round trip is looked for again after so long.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(10);
const DRAIN_ROUNDS: u32 = 2;
/// This share of losses, over at least [`LOSS_PACKETS`], is a queue that overflows.
const LOSS_SHARE: f64 = 0.2;
/// A burst in a small window is no such share yet.
const LOSS_PACKETS: f64 = 100.0;
/// What is left of the rate then.
const LOSS_BACKOFF: f64 = 0.75;
/// Start ends after so many rounds without a quarter more.
const FLAT_ROUNDS: u32 = 3;
const GROWTH: f64 = 1.25;
/// With a queue that should not be: what is left of the gain after a round, and at least.
const TRIM: f64 = 0.8;
const LEAST_TRIM: f64 = 0.5;
/// So many rounds of that, and the queue is none: the line has become longer.
const TRIM_ROUNDS: u32 = 4;
/// After so many of them it shows whose queue it is: one of others, or of a busy machine, stays, and less is delivered.
const TELLING_ROUNDS: u32 = 3;
const TELLING_SHARE: f64 = 0.8;
/// What is left of such a delay after a round without it.
const FOREIGN_DECAY: f64 = 0.9;
/// So many late packets in a row, and Start has filled the line: a round is long where its queue grows.
const LATE_PACKETS: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Steady,
    /// Rounds that are left, and the shortest round trip since.
    Drain(u32, Option<Duration>),
}

/// What a round has shown so far.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    number: u64,
    /// It is over when a packet is acknowledged that was sent after so much was delivered.
    ends: u64,
    shortest: Option<Duration>,
    fastest: f64,
    /// At times there was nothing to send.
    is_idle: bool,
}

/// See the module's head.
#[derive(Debug, Clone)]
pub(super) struct Link {
    phase: Phase,
    mtu: u64,
    window: u64,
    rate: Rate,
    fastest: MaxFilter,
    shortest: Option<(Duration, Instant)>,
    round: Round,
    /// Bytes of the acknowledgements at hand.
    fresh: u64,
    /// In Start: the fastest rate when it last grew, and the rounds since.
    grown: f64,
    flat_rounds: u32,
    /// And packets in a row that came late.
    late: u32,
    /// Bytes, those of long ago counted less.
    delivered: f64,
    lost: f64,
    backed_off: Option<u64>,
    /// Below 1 while there is a queue that should not be.
    trim: f64,
    trimmed_rounds: u32,
    /// The fastest rate when trimming began.
    untrimmed: f64,
    /// Delay that is not of our making.
    foreign: Duration,
}

impl Link {
    pub(super) fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            phase: Phase::Start,
            mtu,
            window: FIRST_PACKETS * mtu,
            rate: Rate::new(now),
            fastest: MaxFilter::new(RATE_ROUNDS),
            shortest: None,
            round: Round::default(),
            fresh: 0,
            grown: 0.0,
            flat_rounds: 0,
            late: 0,
            delivered: 0.0,
            lost: 0.0,
            backed_off: None,
            trim: 1.0,
            trimmed_rounds: 0,
            untrimmed: 0.0,
            foreign: Duration::ZERO,
        }
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn first_window(&self) -> u64 {
        FIRST_PACKETS * self.mtu
    }

    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.window.max(self.least());
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.rate.sent(now);
    }

    /// A packet that was sent at `sent` has arrived.
    pub(super) fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.rate.acknowledged(now, sent, bytes);
        self.delivered += bytes as f64;
        self.fresh += bytes;
    }

    /// The acknowledgements that came together are told. `is_idle`: what could be sent has been.
    pub(super) fn settle(&mut self, now: Instant, in_flight: u64, is_idle: bool) {
        let fresh = std::mem::take(&mut self.fresh);
        let Some(sample) = self.rate.sample(now, in_flight, is_idle) else { return };
        self.take(now, sample);
        if sample.delivered_before >= self.round.ends {
            self.end_round(now);
        }
        self.window = match self.phase {
            // A window that is not used has not been tried.
            Phase::Start if is_idle && (in_flight + fresh) * 2 < self.window => self.window,
            Phase::Start => (self.window + fresh).min(MOST),
            Phase::Steady => self.target(GAIN * self.trim),
            Phase::Drain(..) => self.target(DRAIN_GAIN),
        };
    }

    /// Packets are lost. `has_died`: nothing has arrived for several round trips.
    pub(super) fn lost(&mut self, has_died: bool, bytes: u64) {
        self.lost += bytes as f64;
        if has_died && self.phase == Phase::Start {
            self.window = (LEAST_PACKETS * self.mtu).max(self.window / 2);
        }
        let packets = (self.delivered + self.lost) / self.mtu as f64;
        let share = self.lost / (self.delivered + self.lost).max(1.0);
        if packets < LOSS_PACKETS || share <= LOSS_SHARE || self.backed_off == Some(self.round.number) {
            return;
        }
        self.backed_off = Some(self.round.number);
        let fastest = self.fastest.max().unwrap_or(0.0);
        self.fastest.cap(self.round.number, fastest * LOSS_BACKOFF);
        if self.phase == Phase::Start {
            self.phase = Phase::Steady;
        }
        self.window = self.window.min(self.target(1.0));
    }

    fn take(&mut self, now: Instant, sample: Sample) {
        let trip = sample.round_trip;
        let shorter = |than: Option<Duration>| than.map_or(trip, |than| than.min(trip));
        self.round.shortest = Some(shorter(self.round.shortest));
        self.round.is_idle |= sample.is_idle;
        if let Phase::Drain(_, found) = &mut self.phase {
            *found = Some(shorter(*found));
        }
        let limit = self
            .shortest
            .map_or(Duration::MAX, |(shortest, _)| shortest.saturating_add(self.allowed_queue()));
        self.late = if trip > limit { self.late + 1 } else { 0 };
        if self.phase == Phase::Start && self.late >= LATE_PACKETS && !sample.is_idle {
            self.phase = Phase::Steady;
        }
        if self.shortest.is_none_or(|(shortest, _)| trip <= shortest) {
            self.shortest = Some((trip, now));
        }
        // Who sends little learns only that the line bears as much.
        if !sample.is_idle || self.fastest.max().is_none_or(|fastest| sample.rate > fastest) {
            self.fastest.push(self.round.number, sample.rate);
            self.round.fastest = self.round.fastest.max(sample.rate);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let was_busy = !self.round.is_idle;
        let has_queue = was_busy && self.queue() > self.allowed_queue();
        match self.phase {
            Phase::Start if was_busy => self.judge_start(has_queue),
            Phase::Start => {}
            Phase::Steady => {
                self.judge_queue(has_queue);
                self.renew(now, was_busy);
            }
            Phase::Drain(1, found) => {
                self.phase = Phase::Steady;
                self.shortest = found.map(|found| (found, now)).or(self.shortest);
            }
            Phase::Drain(left, found) => self.phase = Phase::Drain(left - 1, found),
        }
        if was_busy {
            self.fastest.forget(self.round.number);
        }
        self.forgive();
        self.round = Round { number: self.round.number + 1, ends: self.rate.delivered(), ..Round::default() };
    }

    fn judge_start(&mut self, has_queue: bool) {
        if self.round.fastest >= self.grown * GROWTH {
            self.grown = self.round.fastest;
            self.flat_rounds = 0;
        } else {
            self.flat_rounds += 1;
        }
        if self.flat_rounds >= FLAT_ROUNDS || has_queue {
            self.phase = Phase::Steady;
        }
    }

    /// A queue that stands for a whole round is ours to shorten; if that does not help, it is none, or not ours.
    fn judge_queue(&mut self, has_queue: bool) {
        if !has_queue {
            self.trim = (self.trim + 0.1).min(1.0);
            self.trimmed_rounds = 0;
            self.foreign = self.foreign.mul_f64(FOREIGN_DECAY);
            return;
        }
        if self.trimmed_rounds == 0 {
            self.untrimmed = self.round.fastest;
        }
        self.trimmed_rounds += 1;
        if self.trimmed_rounds == TELLING_ROUNDS && self.round.fastest < TELLING_SHARE * self.untrimmed {
            let shortest = self.shortest.map_or(Duration::ZERO, |(shortest, _)| shortest);
            let most = shortest.max(Duration::from_millis(20));
            self.foreign = (self.foreign + self.queue()).min(most);
            self.trim = 1.0;
            self.trimmed_rounds = 0;
            self.fastest.push(self.round.number, self.untrimmed);
            return;
        }
        if self.round.fastest > 0.0 {
            self.fastest.cap(self.round.number, self.round.fastest);
        }
        self.trim = (self.trim * TRIM).max(LEAST_TRIM);
        if self.trimmed_rounds >= TRIM_ROUNDS {
            self.trimmed_rounds = 0;
            self.phase = Phase::Drain(DRAIN_ROUNDS, None);
        }
    }

    /// An old shortest round trip may be another line's. Who sends little has no queue to drain.
    fn renew(&mut self, now: Instant, was_busy: bool) {
        let Some((_, at)) = self.shortest else { return };
        if now.saturating_duration_since(at) <= ROUND_TRIP_AGE || self.phase != Phase::Steady {
            return;
        }
        match was_busy {
            true => self.phase = Phase::Drain(DRAIN_ROUNDS, None),
            false => self.shortest = self.round.shortest.map(|shortest| (shortest, now)).or(self.shortest),
        }
    }

    fn queue(&self) -> Duration {
        match (self.round.shortest, self.shortest) {
            (Some(round), Some((shortest, _))) => round.saturating_sub(shortest + self.foreign),
            _ => Duration::ZERO,
        }
    }

    /// What a round trip may be longer than the shortest. What a few packets take on a slow line is no queue.
    fn allowed_queue(&self) -> Duration {
        let (Some((shortest, _)), Some(fastest)) = (self.shortest, self.fastest.max()) else {
            return Duration::MAX;
        };
        let packets = ((LEAST_PACKETS + 2) * self.mtu) as f64 / fastest.max(1.0);
        shortest.mul_f64(0.6).max(Duration::from_millis(10)) + Duration::from_secs_f64(packets.min(10.0))
    }

    /// Losses of long ago count less.
    fn forgive(&mut self) {
        let (all, memory) = (self.delivered + self.lost, LOSS_PACKETS * self.mtu as f64);
        if all > memory {
            let keep = (memory / all).max(0.5);
            self.delivered *= keep;
            self.lost *= keep;
        }
    }

    fn least(&self) -> u64 {
        let has_room = self.trim >= 1.0 && self.backed_off != Some(self.round.number);
        self.mtu * if has_room { FIRST_PACKETS } else { LEAST_PACKETS }
    }

    fn target(&self, gain: f64) -> u64 {
        let (Some(fastest), Some((shortest, _))) = (self.fastest.max(), self.shortest) else {
            return self.window.max(self.least());
        };
        let trip = (shortest + self.foreign).as_secs_f64();
        let window = gain * fastest * trip + EXTRA_PACKETS * self.mtu as f64;
        (window as u64).clamp(self.least(), MOST)
    }
}
