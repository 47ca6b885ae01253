//! A line in virtual time, and senders on it that send, pace, notice losses and probe as quinn does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::link::Link;

const PACKET: u64 = 1200;
const ACK_DELAY: u64 = 5_000;
/// Longest time, in microseconds, that a burst of losses lasts: idle periods do not extend it.
const BURST: u64 = 50_000;

/// What a line is drawn from: the same numbers for the same seed. xorshift64*, written out here, since the bounds of the laws
/// were found in its worlds.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from `low` to `high`, spread evenly over the powers of ten.
    pub(super) fn spread(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.share())
    }
}

/// What a line does to packets. Times are in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Rate, in bytes a second.
    pub(super) rate: f64,
    /// Round trip with an empty queue.
    pub(super) round_trip: u64,
    /// Bytes that may wait in the queue.
    pub(super) queue: f64,
    /// Share of packets that are lost, each way, in runs of `burst` that last no longer than [`BURST`].
    pub(super) loss: f64,
    pub(super) burst: u32,
    /// Times between which nothing passes.
    pub(super) cut: (u64, u64),
    /// Largest additional delay; it comes and goes.
    pub(super) jitter: u64,
    /// A time from which on the line has another rate and another round trip.
    pub(super) later: Option<(u64, f64, u64)>,
}

impl Shape {
    pub(super) fn new(mbits: f64, round_trip_ms: f64) -> Self {
        let (rate, round_trip) = (mbits * 125_000.0, (round_trip_ms * 1000.0) as u64);
        Self { rate, round_trip, queue: 250_000.0, loss: 0.0, burst: 1, cut: (0, 0), jitter: 0, later: None }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The sender's pacer, its timer, or its start.
    Wake,
    /// A call has something to send. Flows without calls always have.
    Call,
    Arrive(u64),
    AckDue(u64),
    /// Acknowledges this many of the packets that have arrived.
    Ack(usize),
}

/// One sender and its receiver.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) link: Link,
    /// Packets under way: when they were sent.
    sent: BTreeMap<u64, u64>,
    next: u64,
    largest: Option<u64>,
    smoothed: f64,
    variance: f64,
    probes: u32,
    last_sent: u64,
    tokens: f64,
    tokens_at: u64,
    wake: u64,
    /// Packets in order of arrival; the first `told` of them are acknowledged.
    arrived: Vec<u64>,
    told: usize,
    unacknowledged: u32,
    ack_number: u64,
    /// Packets that wait to be sent, by the time of their call. `None` for bulk, which has more than can be sent.
    calls: Option<VecDeque<u64>>,
    every: u64,
    /// How long packets waited to be sent, in microseconds.
    pub(super) held: Vec<u64>,
    /// Bytes delivered in each tenth of a second.
    pub(super) delivered: Vec<u64>,
}

/// Everything on one line.
#[derive(Debug)]
pub(super) struct Line {
    shape: Shape,
    random: Random,
    now: u64,
    base: Instant,
    free: f64,
    last_arrival: u64,
    /// Packets that are still to be lost, and until when, each way.
    bursts: [(u32, u64); 2],
    events: BinaryHeap<Reverse<(u64, u64, usize, Event)>>,
    order: u64,
    pub(super) flows: Vec<Flow>,
    /// How long packets waited, and when.
    pub(super) waits: Vec<(u64, u64)>,
}

impl Line {
    /// One sender for each start, in microseconds.
    pub(super) fn new(shape: Shape, seed: u64, starts: &[u64]) -> Self {
        let base = Instant::now();
        let flows = starts.iter().map(|start| Flow {
            link: Link::new(base + Duration::from_micros(*start), PACKET as u16),
            sent: BTreeMap::new(),
            next: 0,
            largest: None,
            smoothed: 100_000.0,
            variance: 50_000.0,
            probes: 0,
            last_sent: 0,
            tokens: 10.0 * PACKET as f64,
            tokens_at: *start,
            wake: *start,
            arrived: Vec::new(),
            told: 0,
            unacknowledged: 0,
            ack_number: 0,
            calls: None,
            every: 0,
            held: Vec::new(),
            delivered: Vec::new(),
        });
        let mut line = Self {
            shape,
            random: Random::new(seed),
            now: 0,
            base,
            free: 0.0,
            last_arrival: 0,
            bursts: [(0, 0); 2],
            events: BinaryHeap::new(),
            order: 0,
            flows: flows.collect(),
            waits: Vec::new(),
        };
        for (flow, start) in starts.iter().enumerate() {
            line.at(*start, flow, Event::Wake);
        }
        line
    }

    /// A flow sends a call of four packets every so often, and nothing else.
    pub(super) fn call(&mut self, flow: usize, every: u64) {
        self.flows[flow].calls = Some(VecDeque::new());
        self.flows[flow].every = every;
        self.at(0, flow, Event::Call);
    }

    pub(super) fn run(&mut self, until: u64) {
        while let Some(Reverse((at, _, flow, event))) = self.events.pop() {
            if at > until {
                self.at(at, flow, event);
                break;
            }
            self.now = at;
            self.happen(flow, event);
        }
    }

    /// Bytes a second that a flow delivered between two times.
    pub(super) fn rate(&self, flow: usize, from: u64, to: u64) -> f64 {
        let slots = (from / 100_000) as usize..(to / 100_000) as usize;
        let bytes: u64 = slots.filter_map(|slot| self.flows[flow].delivered.get(slot)).sum();
        bytes as f64 * 1e6 / (to - from) as f64
    }

    /// The wait, in microseconds, that this share of packets did not exceed after a time.
    pub(super) fn wait(&self, share: f64, after: u64) -> u64 {
        let mut waits: Vec<u64> =
            self.waits.iter().filter(|(at, _)| *at > after).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        waits.get((share * waits.len().saturating_sub(1) as f64) as usize).copied().unwrap_or(0)
    }

    fn at(&mut self, at: u64, flow: usize, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, flow, event)));
    }

    fn instant(&self, at: u64) -> Instant {
        self.base + Duration::from_micros(at)
    }

    fn shape_now(&self) -> (f64, u64) {
        match self.shape.later {
            Some((at, rate, round_trip)) if self.now >= at => (rate, round_trip),
            _ => (self.shape.rate, self.shape.round_trip),
        }
    }

    fn loses(&mut self, way: usize) -> bool {
        if (self.shape.cut.0..self.shape.cut.1).contains(&self.now) {
            return true;
        }
        if self.bursts[way].0 > 0 && self.now < self.bursts[way].1 {
            self.bursts[way].0 -= 1;
            return true;
        }
        let lost = self.random.share() < self.shape.loss / f64::from(self.shape.burst);
        if lost {
            self.bursts[way] = (self.shape.burst - 1, self.now + BURST);
        }
        lost
    }

    fn happen(&mut self, flow: usize, event: Event) {
        match event {
            Event::Wake => self.wake(flow),
            Event::Call => {
                let now = self.now;
                let caller = &mut self.flows[flow];
                let next = now + caller.every;
                let calls = caller.calls.get_or_insert_default();
                calls.extend(std::iter::repeat_n(now, 4));
                self.at(next, flow, Event::Call);
                self.send(flow);
            }
            Event::Arrive(packet) => self.arrive(flow, packet),
            Event::AckDue(number) if number == self.flows[flow].ack_number => self.acknowledge(flow),
            Event::AckDue(_) => {}
            Event::Ack(count) => self.hear(flow, count),
        }
    }

    fn wake(&mut self, at: usize) {
        let now = self.now;
        let flow = &mut self.flows[at];
        if now != flow.wake {
            return;
        }
        flow.wake = u64::MAX;
        self.detect(at);
        let flow = &mut self.flows[at];
        if !flow.sent.is_empty() && now >= flow.last_sent + flow.probe_after() {
            flow.probes += 1;
            self.transmit(at);
            self.transmit(at);
        }
        self.send(at);
    }

    /// Sends as much as window and pacer allow.
    fn send(&mut self, at: usize) {
        let now = self.now;
        let mut paced = u64::MAX;
        loop {
            let flow = &mut self.flows[at];
            let window = flow.link.window();
            let pace = window as f64 * 1.25 / flow.smoothed;
            let capacity =
                (window as f64 * 2000.0 / flow.smoothed).clamp(10.0 * PACKET as f64, 256.0 * PACKET as f64);
            flow.tokens = (flow.tokens + pace * (now - flow.tokens_at) as f64).min(capacity);
            flow.tokens_at = now;
            if flow.calls.as_ref().is_some_and(VecDeque::is_empty) {
                break;
            }
            if (flow.sent.len() as u64 + 1) * PACKET >= window {
                break;
            }
            if flow.tokens < PACKET as f64 {
                paced = now + ((capacity - flow.tokens) / pace).ceil().max(1.0) as u64;
                break;
            }
            flow.tokens -= PACKET as f64;
            self.transmit(at);
        }
        let flow = &mut self.flows[at];
        let probe = if flow.sent.is_empty() { u64::MAX } else { flow.last_sent + flow.probe_after() };
        let wake = paced.min(probe.max(now + 1));
        if wake < flow.wake {
            flow.wake = wake;
            self.at(wake, at, Event::Wake);
        }
    }

    fn transmit(&mut self, at: usize) {
        let (now, (rate, round_trip)) = (self.now, self.shape_now());
        let instant = self.instant(now);
        let flow = &mut self.flows[at];
        if let Some(since) = flow.calls.as_mut().and_then(VecDeque::pop_front) {
            flow.held.push(now - since);
        }
        let packet = flow.next;
        flow.next += 1;
        flow.sent.insert(packet, now);
        flow.last_sent = now;
        flow.link.sent(instant);
        let wait = (self.free - now as f64).max(0.0);
        if wait * rate / 1e6 + PACKET as f64 > self.shape.queue.max(2.0 * PACKET as f64) {
            return;
        }
        self.waits.push((now, wait as u64));
        self.free = now as f64 + wait + PACKET as f64 / rate * 1e6;
        if !self.loses(0) {
            // The same for all packets of a while, and nobody overtakes.
            let more = Random::new(now / 150_000).share() * self.shape.jitter as f64;
            self.last_arrival = self.last_arrival.max((self.free + more) as u64 + round_trip / 2);
            self.at(self.last_arrival, at, Event::Arrive(packet));
        }
    }

    fn arrive(&mut self, at: usize, packet: u64) {
        let slot = (self.now / 100_000) as usize;
        let flow = &mut self.flows[at];
        if flow.delivered.len() <= slot {
            flow.delivered.resize(slot + 1, 0);
        }
        flow.delivered[slot] += PACKET;
        let is_next = flow.arrived.last().is_none_or(|last| packet == last + 1);
        flow.arrived.push(packet);
        flow.unacknowledged += 1;
        if flow.unacknowledged >= 2 || !is_next {
            self.acknowledge(at);
        } else {
            let (due, number) = (self.now + ACK_DELAY, flow.ack_number);
            self.at(due, at, Event::AckDue(number));
        }
    }

    fn acknowledge(&mut self, at: usize) {
        let (_, round_trip) = self.shape_now();
        let flow = &mut self.flows[at];
        flow.unacknowledged = 0;
        flow.ack_number += 1;
        let count = flow.arrived.len();
        if !self.loses(1) {
            self.at(self.now + round_trip / 2, at, Event::Ack(count));
        }
    }

    fn hear(&mut self, at: usize, count: usize) {
        let now = self.now;
        let instant = self.instant(now);
        let base = self.base;
        let flow = &mut self.flows[at];
        let told = flow.told;
        flow.told = told.max(count);
        let heard: Vec<u64> = flow.arrived.get(told..count).unwrap_or_default().to_vec();
        for packet in heard {
            // Lost too early: arrived nevertheless.
            let Some(sent) = flow.sent.remove(&packet) else { continue };
            flow.link.acknowledged(instant, base + Duration::from_micros(sent), PACKET);
            if flow.largest.is_none_or(|largest| packet > largest) {
                flow.largest = Some(packet);
                let trip = (now - sent) as f64;
                if flow.probes == 0 && flow.smoothed == 100_000.0 {
                    (flow.smoothed, flow.variance) = (trip, trip / 2.0);
                }
                flow.variance = 0.75 * flow.variance + 0.25 * (flow.smoothed - trip).abs();
                flow.smoothed = 0.875 * flow.smoothed + 0.125 * trip;
            }
            flow.probes = 0;
        }
        let under_way = flow.sent.len() as u64 * PACKET;
        let is_idle = flow.calls.as_ref().is_some_and(VecDeque::is_empty);
        flow.link.settle(instant, under_way, is_idle);
        self.detect(at);
        self.send(at);
    }

    /// Declares packets lost: three later ones have arrived, or one has and the packet is old.
    fn detect(&mut self, at: usize) {
        let now = self.now;
        let flow = &mut self.flows[at];
        let Some(largest) = flow.largest else { return };
        let late = (flow.smoothed * 9.0 / 8.0) as u64;
        let mut lost = Vec::new();
        for (packet, sent) in flow.sent.range(..largest) {
            if largest >= packet + 3 || now >= sent + late {
                lost.push((*packet, *sent));
            }
        }
        let (Some(first), Some(last)) = (lost.first(), lost.last()) else { return };
        let has_died = last.1 - first.1 > 3 * flow.probe_base();
        for (packet, _) in &lost {
            flow.sent.remove(packet);
            if let Some(calls) = &mut flow.calls {
                calls.push_front(now);
            }
        }
        flow.link.lost(has_died, lost.len() as u64 * PACKET);
    }
}

impl Flow {
    fn probe_base(&self) -> u64 {
        (self.smoothed + 4.0 * self.variance) as u64 + ACK_DELAY
    }

    fn probe_after(&self) -> u64 {
        self.probe_base() << self.probes.min(10)
    }
}
