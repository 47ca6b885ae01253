//! The control itself: it takes delivery samples and losses, and gives the window, the number of bytes that may be
//! under way. It is pure.
//!
//! ```text
//! Start   the window doubles every round until the delivery rate stops growing, the queue grows, or a fifth is lost
//! Steady  window = gain x delivery rate x shortest round trip + a constant
//! Drain   now and then half of that for two rounds, to see the round trip of an empty queue
//! ```
//! The constant makes two such senders share a line fairly: for the sender with the smaller window it is the larger
//! share of growth. A round is the time in which one window of bytes is sent and acknowledged.

use std::time::{Duration, Instant};

use super::filter::MaxFilter;
use super::rate::{Rate, Sample};

/// Factor on the bytes that the line holds. Above 1, so that the line never runs dry and a faster line is noticed: in
/// one round the window can grow by a quarter.
const GAIN: f64 = 1.25;
/// Factor on the same in Drain.
const DRAIN_GAIN: f64 = 0.5;
/// The constant that is added to the window, in packets.
const EXTRA_PACKETS: f64 = 4.0;
/// Smallest window, in packets, while a queue or losses call for restraint.
const LEAST_PACKETS: u64 = 5;
/// Initial window, in packets, and the smallest one while no queue has been seen.
const FIRST_PACKETS: u64 = 10;
/// Largest window, in bytes: more than any line needs.
const MOST: u64 = 64 << 20;
/// Number of rounds over which the fastest delivery rate is remembered.
const RATE_ROUNDS: u64 = 8;
/// Age at which the shortest round trip is measured again.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(10);
/// Number of rounds that Drain lasts.
const DRAIN_ROUNDS: u32 = 2;
/// A larger share of lost packets, over at least [`LOSS_PACKETS`], is taken for a queue that overflows.
const LOSS_SHARE: f64 = 0.2;
/// Below this many packets a burst of losses is no evidence of an overflow.
const LOSS_PACKETS: f64 = 100.0;
/// Factor on the fastest delivery rate after an overflow.
const LOSS_BACKOFF: f64 = 0.75;
/// Start ends after this many rounds in which the delivery rate did not grow by [`GROWTH`].
const FLAT_ROUNDS: u32 = 3;
/// Growth of the delivery rate in one round that counts as growth.
const GROWTH: f64 = 1.25;
/// Factor on the gain after each round with a standing queue.
const TRIM: f64 = 0.8;
/// Smallest product of these factors.
const LEAST_TRIM: f64 = 0.5;
/// After this many trimmed rounds without effect the extra delay is taken for a longer path, and Drain measures it.
const TRIM_ROUNDS: u32 = 4;
/// After this many trimmed rounds it is decided whose queue it is: where the delay stays and our delivery rate falls
/// below [`TELLING_SHARE`] of what it was, the queue belongs to other traffic or to a busy machine.
const TELLING_ROUNDS: u32 = 3;
/// Share of the earlier delivery rate that separates our own queue from a foreign one.
const TELLING_SHARE: f64 = 0.8;
/// Factor on the foreign delay after each round without a queue.
const FOREIGN_DECAY: f64 = 0.9;
/// Start ends after this many late packets in a row, without waiting for the round to end, because a round becomes
/// long when the queue grows.
const LATE_PACKETS: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Steady,
    /// The number of rounds that are left, and the shortest round trip since Drain began.
    Drain(u32, Option<Duration>),
}

/// What the current round has shown so far.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    number: u64,
    /// The round ends when a packet is acknowledged that was sent after this many bytes had been delivered.
    ends: u64,
    shortest: Option<Duration>,
    fastest: f64,
    /// Whether there was nothing to send at some time in the round.
    is_idle: bool,
}

/// The congestion control of one path; the module's head describes its phases.
#[derive(Debug, Clone)]
pub(super) struct Link {
    phase: Phase,
    mtu: u64,
    window: u64,
    rate: Rate,
    fastest: MaxFilter,
    shortest: Option<(Duration, Instant)>,
    round: Round,
    /// Bytes acknowledged since the last [`Link::settle`].
    fresh: u64,
    /// The delivery rate, in bytes a second, when it last grew in Start.
    grown: f64,
    /// Rounds since then.
    flat_rounds: u32,
    /// Packets in a row that came late.
    late: u32,
    /// Bytes delivered, those of long ago counted less.
    delivered: f64,
    /// Bytes lost, those of long ago counted less.
    lost: f64,
    /// The round in which the rate was last lowered for losses.
    backed_off: Option<u64>,
    /// Factor on the gain; below 1 while a queue stands.
    trim: f64,
    trimmed_rounds: u32,
    /// The delivery rate, in bytes a second, when trimming began.
    untrimmed: f64,
    /// Delay that other traffic or a busy machine causes.
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

    /// The window: bytes that may be under way.
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

    /// Takes note that a packet of `bytes`, sent at `sent`, was acknowledged at `now`.
    pub(super) fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.rate.acknowledged(now, sent, bytes);
        self.delivered += bytes as f64;
        self.fresh += bytes;
    }

    /// Ends a group of acknowledgements that came together, and sets the window anew. `in_flight` is the number of bytes
    /// still under way; `is_idle` says that everything there was to send has been sent.
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

    /// Takes note that packets of `bytes` in all are lost. `has_died` says that nothing has arrived for several round
    /// trips.
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
        // A sender with little to send learns only that the line bears at least that much.
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

    /// Shortens a queue that stands for a whole round. If that does not help, the delay is either a longer path or the
    /// queue of other traffic.
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

    /// Measures the shortest round trip again when it is old, since the path may have changed. A sender with little to
    /// send has no queue to drain and takes the round's shortest trip at once.
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

    /// How much longer than the shortest a round trip may be before that counts as a queue. The time that a few packets
    /// take on a slow line is no queue.
    fn allowed_queue(&self) -> Duration {
        let (Some((shortest, _)), Some(fastest)) = (self.shortest, self.fastest.max()) else {
            return Duration::MAX;
        };
        let packets = ((LEAST_PACKETS + 2) * self.mtu) as f64 / fastest.max(1.0);
        shortest.mul_f64(0.6).max(Duration::from_millis(10)) + Duration::from_secs_f64(packets.min(10.0))
    }

    /// Lowers the weight of what was delivered and lost long ago.
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
