//! One direction of a bad line, in time that is handed in: what becomes of each packet, and when it arrives.
//!
//! ```text
//! push ──> queue (bytes, bounded) ──rate──> lost? ──> delay, jitter, overtaken? ──> pop
//! ```
//!
//! It reads no clock and does no IO: times are durations since some start, chance comes from a seed. So a weather is
//! replayed by its seed, and its rules are tested in virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How packets get lost on their way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    #[default]
    None,
    /// Each by itself, with this probability.
    Random(f64),
    /// This share of all, always `length` in a row.
    Bursts { share: f64, length: u32 },
    /// Gilbert and Elliott: a good and a bad state, with the chances per packet to change between them and to lose one
    /// in each.
    States { to_bad: f64, to_good: f64, lost_in_good: f64, lost_in_bad: f64 },
}

/// What one direction does to packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    pub loss: Loss,
    /// One way.
    pub delay: Duration,
    /// Up to this much more, drawn for each packet; order is kept.
    pub jitter: Duration,
    /// Share of packets that are held back and overtaken.
    pub reorder: f64,
    /// How long those are held, at most.
    pub held: Duration,
    /// Bits a second; none: no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for the rate; what comes on top is dropped.
    pub queue: usize,
    /// Nothing passes and nobody is told.
    pub is_cut: bool,
    pub blocks_udp: bool,
}

impl Default for Weather {
    /// A perfect line.
    fn default() -> Self {
        Self {
            loss: Loss::None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: 0.0,
            held: Duration::from_millis(10),
            rate: None,
            queue: 100 << 10,
            is_cut: false,
            blocks_udp: false,
        }
    }
}

/// What a packet is to the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Udp,
    Other,
    /// A piece of a byte stream, in a relay that cannot lose any: neither lost, nor overtaken, nor dropped.
    Stream,
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub pushed: u64,
    pub pushed_bytes: u64,
    pub passed: u64,
    pub passed_bytes: u64,
    pub lost: u64,
    /// The queue was full.
    pub overflowed: u64,
    pub cut: u64,
    pub blocked: u64,
    pub overtaken: u64,
}

/// One direction.
#[derive(Debug)]
pub struct Way<T> {
    weather: Weather,
    chance: fastrand::Rng,
    queue: VecDeque<Packet<T>>,
    queued_bytes: usize,
    /// When the first in the queue has been sent.
    sent_at: Option<Duration>,
    flying: BinaryHeap<Reverse<Flying<T>>>,
    /// Latest arrival among those that keep their order.
    latest: Duration,
    /// Packets still to be lost of the burst that is under way.
    to_lose: u32,
    is_bad: bool,
    number: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Packet<T> {
    what: T,
    bytes: usize,
    kind: Kind,
}

#[derive(Debug)]
struct Flying<T> {
    at: Duration,
    number: u64,
    packet: Packet<T>,
}

impl<T> Way<T> {
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            chance: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent_at: None,
            flying: BinaryHeap::new(),
            latest: Duration::ZERO,
            to_lose: 0,
            is_bad: false,
            number: 0,
            counts: Counts::default(),
        }
    }

    pub fn weather(&self) -> Weather {
        self.weather
    }

    /// What is flying already arrives; what waits in the queue goes by the new rules.
    pub fn set(&mut self, now: Duration, weather: Weather) {
        self.send_until(now);
        self.weather = weather;
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that the queue would still take.
    pub fn room(&mut self, now: Duration) -> usize {
        self.send_until(now);
        self.weather.queue.saturating_sub(self.queued_bytes)
    }

    /// A packet comes to the line.
    pub fn push(&mut self, now: Duration, what: T, bytes: usize, kind: Kind) {
        self.send_until(now);
        self.counts.pushed += 1;
        self.counts.pushed_bytes += bytes as u64;
        if kind == Kind::Udp && self.weather.blocks_udp {
            self.counts.blocked += 1;
            return;
        }
        // One that is larger than the whole queue passes an empty one.
        let is_full = !self.queue.is_empty() && self.queued_bytes + bytes > self.weather.queue;
        if is_full && kind != Kind::Stream {
            self.counts.overflowed += 1;
            return;
        }
        self.queue.push_back(Packet { what, bytes, kind });
        self.queued_bytes += bytes;
        if self.sent_at.is_none() {
            self.sent_at = Some(now + self.sending(bytes));
        }
        self.send_until(now);
    }

    /// When there is something to do next.
    pub fn next(&self) -> Option<Duration> {
        let arrives = self.flying.peek().map(|Reverse(first)| first.at);
        match (arrives, self.sent_at) {
            (Some(arrives), Some(sent)) => Some(arrives.min(sent)),
            (arrives, sent) => arrives.or(sent),
        }
    }

    /// The next that has arrived by now.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        self.send_until(now);
        if self.flying.peek().is_none_or(|Reverse(first)| first.at > now) {
            return None;
        }
        let Reverse(Flying { packet, .. }) = self.flying.pop()?;
        self.counts.passed += 1;
        self.counts.passed_bytes += packet.bytes as u64;
        Some(packet.what)
    }

    fn sending(&self, bytes: usize) -> Duration {
        match self.weather.rate {
            Some(rate) => Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / rate.max(1)),
            None => Duration::ZERO,
        }
    }

    /// Everything that has left the queue by now.
    fn send_until(&mut self, now: Duration) {
        while let Some(at) = self.sent_at.filter(|at| *at <= now) {
            let Some(packet) = self.queue.pop_front() else { break };
            self.queued_bytes -= packet.bytes;
            self.sent_at = self.queue.front().map(|next| at + self.sending(next.bytes));
            self.launch(at, packet);
        }
    }

    fn launch(&mut self, at: Duration, packet: Packet<T>) {
        let is_stream = packet.kind == Kind::Stream;
        if self.weather.is_cut && !is_stream {
            self.counts.cut += 1;
            return;
        }
        if !is_stream && self.is_lost() {
            self.counts.lost += 1;
            return;
        }
        let jitter = self.weather.jitter.mul_f64(self.chance.f64());
        let mut arrives = at + self.weather.delay + jitter;
        if !is_stream && self.weather.reorder > 0.0 && self.chance.f64() < self.weather.reorder {
            self.counts.overtaken += 1;
            arrives = arrives.max(self.latest) + self.weather.held.mul_f64(self.chance.f64());
        } else {
            arrives = arrives.max(self.latest);
            self.latest = arrives;
        }
        self.number += 1;
        self.flying.push(Reverse(Flying { at: arrives, number: self.number, packet }));
    }

    fn is_lost(&mut self) -> bool {
        match self.weather.loss {
            Loss::None => false,
            Loss::Random(share) => self.chance.f64() < share,
            Loss::Bursts { share, length } => {
                if self.to_lose == 0 && self.chance.f64() < burst_begins(share, length) {
                    self.to_lose = length;
                }
                let is_lost = self.to_lose > 0;
                self.to_lose = self.to_lose.saturating_sub(1);
                is_lost
            }
            Loss::States { to_bad, to_good, lost_in_good, lost_in_bad } => {
                let changes = self.chance.f64() < if self.is_bad { to_good } else { to_bad };
                self.is_bad ^= changes;
                self.chance.f64() < if self.is_bad { lost_in_bad } else { lost_in_good }
            }
        }
    }
}

/// The chance of a packet outside of a burst to be the first of one, so that `share` of all are lost.
fn burst_begins(share: f64, length: u32) -> f64 {
    let length = f64::from(length.max(1));
    if share <= 0.0 { 0.0 } else { share / (share + length * (1.0 - share)) }
}

impl<T> PartialEq for Flying<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Flying<T> {}

impl<T> PartialOrd for Flying<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flying<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
