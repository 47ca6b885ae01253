//! A world for the session in virtual time: addresses that are cut, break, are slow or full, and a shell that does what it
//! is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;

/// What a world is drawn from.
pub(super) struct Random(fastrand::Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound)
    }

    pub(super) fn ms(&mut self, from: u64, to: u64) -> Duration {
        MS * (from + self.below(to - from + 1)) as u32
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How an address goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing passes and nobody is told; a line dies of it after two seconds.
    Silent,
    /// Lines are reset, dials refused.
    Reset,
}

/// One address over time.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// There and back.
    pub(super) trip: Duration,
    pub(super) computing: Duration,
    /// Percent of calls that take ten times as long.
    pub(super) slow: u64,
    pub(super) full: u64,
    /// From, until, how; in order.
    pub(super) troubles: Vec<(Duration, Duration, Trouble)>,
}

impl Place {
    pub(super) fn trouble(&self, at: Duration) -> Option<(Duration, Duration, Trouble)> {
        self.troubles.iter().find(|(from, until, _)| (*from..*until).contains(&at)).copied()
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Admit(u64),
    Trouble(usize),
    Dialled(usize, bool),
    Replied(u64, u64, u8),
    Heard(u64),
    Lost(u64),
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) answered: u64,
    pub(super) failed: BTreeMap<&'static str, u64>,
    pub(super) refused: u64,
    pub(super) counts: Counts,
    /// From the end of a trouble to a line: the longest by which the bound was passed.
    pub(super) dials: u64,
}

pub(super) struct World {
    pub(super) places: Vec<Place>,
    pub(super) length: Duration,
    pub(super) every: (u64, u64),
    pub(super) deadline: (u64, u64),
    pub(super) random: Random,
}

impl World {
    /// Runs it, and holds the laws that hold in every world.
    pub(super) fn run(mut self) -> Outcome {
        let start = Instant::now();
        let (mut session, _) = {
            let config =
                Config { breaker: breaker::Config::default(), upgrade: false, seed: self.random.next() };
            (Session::new(config, self.places.len(), start), ())
        };
        let mut queue: BinaryHeap<Reverse<(Duration, u64, Event)>> = BinaryHeap::new();
        let mut order = 0;
        let mut push = |queue: &mut BinaryHeap<_>, at: Duration, event: Event| {
            order += 1;
            queue.push(Reverse((at, order, event)));
        };
        let mut at = self.random.ms(0, 500);
        let mut number = 0;
        while at < self.length {
            push(&mut queue, at, Event::Admit(number));
            number += 1;
            at += self.random.ms(self.every.0, self.every.1);
        }
        for (address, place) in self.places.iter().enumerate() {
            place.troubles.iter().for_each(|(from, ..)| push(&mut queue, *from, Event::Trouble(address)));
        }
        // Lines by number: address and whether they live.
        let mut lines: BTreeMap<u64, (usize, bool)> = BTreeMap::new();
        let mut next_line = 1;
        // Calls that are out, with their deadlines; sends by call.
        let mut out: BTreeMap<u64, Duration> = BTreeMap::new();
        let mut sends: BTreeMap<u64, u32> = BTreeMap::new();
        let mut outcome = Outcome::default();
        let mut clock = Duration::ZERO;
        let mut idle_turns = 0;
        // When each address was last opened.
        let mut opened: Vec<Option<Duration>> = vec![None; self.places.len()];
        loop {
            let now = start + clock;
            session.tick(now);
            let mut did = false;
            while let Some(action) = session.poll_action() {
                did = true;
                match action {
                    Action::Dial { address } => {
                        outcome.dials += 1;
                        let place = &self.places[address];
                        let (takes, works) = match place.trouble(clock) {
                            None => (place.trip * 3, true),
                            Some((.., Trouble::Reset)) => (place.trip, false),
                            Some((.., Trouble::Silent)) => (MS * 1000, false),
                        };
                        push(&mut queue, clock + takes, Event::Dialled(address, works));
                    }
                    Action::Upgrade { .. } => {}
                    Action::Ping { line } => {
                        let (address, lives) = lines[&line];
                        let place = &self.places[address];
                        if lives {
                            push(&mut queue, clock + place.trip, Event::Heard(line));
                        }
                    }
                    Action::Send { line, attempt, call } => {
                        let count = sends.entry(call).or_default();
                        *count += 1;
                        assert!(
                            *count <= MAX_ATTEMPTS + self.places.len() as u32,
                            "call {call} went out {count} times"
                        );
                        assert!(out.contains_key(&call), "sent for nobody");
                        let (address, lives) = lines[&line];
                        assert!(lives, "sent on a line that was closed");
                        let place = &self.places[address];
                        let factor = if self.random.chance(place.slow) { 10 } else { 1 };
                        let kind = u8::from(self.random.chance(place.full));
                        let takes =
                            place.trip + if kind == 0 { place.computing * factor } else { Duration::ZERO };
                        push(&mut queue, clock + takes, Event::Replied(line, attempt, kind));
                    }
                    Action::Fail { call, reason } => {
                        let deadline = out.remove(&call).expect("a call ends once");
                        assert!(clock <= deadline, "{:?} too late", clock - deadline);
                        *outcome.failed.entry(reason.as_str()).or_default() += 1;
                    }
                    Action::Close { line, .. } => {
                        lines.get_mut(&line).expect("known").1 = false;
                    }
                }
            }
            let wake = session.next_event(now).map(|at| at.saturating_duration_since(start));
            let event = queue.peek().map(|Reverse((at, ..))| *at);
            let Some(next) = [wake, event].into_iter().flatten().min() else { break };
            if event.is_none() && out.is_empty() {
                break;
            }
            idle_turns =
                if next <= clock && !did && event.is_none_or(|at| at > clock) { idle_turns + 1 } else { 0 };
            assert!(idle_turns < 3, "the session asks to be woken for nothing at {clock:?}: {session:?}");
            clock = clock.max(next);
            let now = start + clock;
            if event.is_none_or(|at| at > clock) {
                continue;
            }
            let Some(Reverse((_, _, event))) = queue.pop() else { continue };
            match event {
                Event::Admit(_) => {
                    let deadline = clock + self.random.ms(self.deadline.0, self.deadline.1);
                    match session.admit(start + deadline, now) {
                        Ok(call) => assert_eq!(out.insert(call, deadline), None),
                        Err(_) => outcome.refused += 1,
                    }
                }
                Event::Trouble(address) => {
                    let Some((_, until, how)) = self.places[address].trouble(clock) else { continue };
                    for (line, (of, lives)) in &lines {
                        if *of != address || !lives {
                            continue;
                        }
                        match how {
                            Trouble::Reset => push(&mut queue, clock, Event::Lost(*line)),
                            Trouble::Silent if until - clock > MS * 2000 => {
                                push(&mut queue, clock + MS * 2000, Event::Lost(*line));
                            }
                            Trouble::Silent => {}
                        }
                    }
                }
                Event::Dialled(address, works) => {
                    if works && self.places[address].trouble(clock).is_none() {
                        lines.insert(next_line, (address, true));
                        let answered_in = self.places[address].trip;
                        session.dialled(
                            address,
                            NewLine { line: next_line, is_best: true, answered_in },
                            now,
                        );
                        opened[address] = Some(clock);
                        next_line += 1;
                    } else {
                        session.dial_failed(address, now);
                    }
                }
                Event::Replied(line, attempt, kind) => {
                    let (address, lives) = lines[&line];
                    if !lives {
                        continue;
                    }
                    if let Some((_, until, _)) = self.places[address].trouble(clock) {
                        // Sent again by the transport, some time after the line is back.
                        push(&mut queue, until + self.random.ms(1, 300), Event::Replied(line, attempt, kind));
                        continue;
                    }
                    let pool = self.places[address].computing;
                    let replied = if kind == 0 {
                        Replied::Answer { pool }
                    } else {
                        Replied::Shed { retry_after: None }
                    };
                    if let Some(call) = session.replied(line, attempt, replied, now) {
                        let deadline = out.remove(&call).expect("a call ends once");
                        assert!(clock <= deadline, "answered {:?} too late", clock - deadline);
                        outcome.answered += 1;
                    }
                }
                Event::Heard(line) => {
                    let (address, lives) = lines[&line];
                    match self.places[address].trouble(clock) {
                        _ if !lives => {}
                        Some((_, until, _)) => {
                            push(&mut queue, until + self.random.ms(1, 300), Event::Heard(line))
                        }
                        None => session.heard(line, now),
                    }
                }
                Event::Lost(line) => {
                    if std::mem::replace(&mut lines.get_mut(&line).expect("known").1, false) {
                        session.lost(line, now);
                    }
                }
            }
            self.line_is_used(&session, &opened, clock, start);
        }
        assert!(out.is_empty(), "never ended: {out:?}");
        assert_eq!(session.in_flight(), 0);
        outcome.counts = session.counts();
        outcome
    }

    /// A place that is back has a line soon: after the pause between rounds, the handshake, and one handshake's end that
    /// was waited for in vain.
    fn line_is_used(&self, session: &Session, opened: &[Option<Duration>], clock: Duration, start: Instant) {
        for (address, place) in self.places.iter().enumerate() {
            let before = place.troubles.iter().rev().find(|(_, until, _)| *until <= clock);
            let (Some((from, until, _)), None) = (before, place.trouble(clock)) else { continue };
            let gone = *until - *from;
            let pause = (gone / 64).max(MS * 250).min(MS * 1000);
            // A short silence may have gone unnoticed: the old line goes on.
            if clock > *until + pause + place.trip * 3 + MS * 50 && gone > MS * 2500 {
                let link = session.link_of(address, start + clock);
                assert!(
                    session.line_of(address).is_some() || opened[address].is_some_and(|at| at > *until),
                    "address {address} is back since {:?} and {link:?}; {clock:?} {place:?} {session:?}",
                    clock - *until
                );
            }
        }
    }
}
