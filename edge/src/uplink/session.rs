//! The state of the line to the pool: which calls are out, whether the line is up, when to dial. It takes events and
//! `now`, and says what to do; it reads no clock and touches no socket.
//!
//! A sample never pays for finding out that the pool is gone: while the line is down calls are refused at once, and the
//! shell dials in the background. Only before the first dial has ended do calls wait for it, by their own deadlines.

use std::collections::BTreeMap;
use std::time::Instant;

use millgate_shared::breaker::{self, Breaker};

#[cfg(test)]
mod tests;

/// Calls in flight at the most; one more is refused as shed.
pub const MAX_IN_FLIGHT: usize = 1024;

/// The line as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// No pool is configured.
    Unconfigured,
    /// The first dial has not ended.
    Unknown,
    Up,
    Down {
        since: Instant,
    },
}

/// What becomes of a new call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send it under this id.
    Send(u64),
    /// Keep it under this id until the first dial has ended.
    Queue(u64),
    Offline,
    /// Too many are out.
    Shed,
}

/// A line and the calls on it.
#[derive(Debug)]
pub struct Session {
    link: LinkState,
    breaker: Breaker,
    /// Deadlines, by call.
    in_flight: BTreeMap<u64, Instant>,
    next_id: u64,
}

impl Session {
    pub fn new(config: breaker::Config) -> Self {
        Self {
            link: LinkState::Unknown,
            breaker: Breaker::new(config),
            in_flight: BTreeMap::new(),
            next_id: 1,
        }
    }

    pub fn link(&self) -> LinkState {
        self.link
    }

    /// A sample wants to ask the pool and will wait until `deadline`.
    pub fn admit(&mut self, deadline: Instant) -> Admission {
        if matches!(self.link, LinkState::Down { .. }) {
            return Admission::Offline;
        }
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return Admission::Shed;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight.insert(id, deadline);
        match self.link {
            LinkState::Up => Admission::Send(id),
            _ => Admission::Queue(id),
        }
    }

    /// The pool answered a call; false if nobody waits for it any more.
    pub fn answered(&mut self, id: u64) -> bool {
        self.breaker.succeeded();
        self.in_flight.remove(&id).is_some()
    }

    /// A caller has gone.
    pub fn cancelled(&mut self, id: u64) {
        self.in_flight.remove(&id);
    }

    /// Calls whose deadline has passed; `true` if the line has to be given up with them.
    pub fn expire(&mut self, now: Instant) -> (Vec<u64>, bool) {
        let expired: Vec<u64> =
            self.in_flight.iter().filter(|(_, deadline)| **deadline <= now).map(|(id, _)| *id).collect();
        for id in &expired {
            self.in_flight.remove(id);
        }
        if self.link != LinkState::Up {
            return (expired, false);
        }
        for _ in &expired {
            self.breaker.failed(now);
        }
        (expired, !self.breaker.is_closed())
    }

    /// May the shell dial now?
    pub fn may_dial(&mut self, now: Instant) -> bool {
        self.link != LinkState::Up && self.breaker.allow(now)
    }

    /// A dial succeeded; gives the calls that waited for it.
    pub fn dialled(&mut self) -> Vec<u64> {
        self.breaker.succeeded();
        self.link = LinkState::Up;
        self.in_flight.keys().copied().collect()
    }

    /// A dial failed, or the line broke; gives the calls that are lost with it.
    pub fn lost(&mut self, now: Instant) -> Vec<u64> {
        self.breaker.trip(now);
        if !matches!(self.link, LinkState::Down { .. }) {
            self.link = LinkState::Down { since: now };
        }
        std::mem::take(&mut self.in_flight).into_keys().collect()
    }

    /// When something happens by itself: a deadline, or the next dial.
    pub fn next_event(&self) -> Option<Instant> {
        let deadline = self.in_flight.values().min().copied();
        let dial = if self.link == LinkState::Up { None } else { self.breaker.opens_at() };
        deadline.into_iter().chain(dial).min()
    }
}
