//! The lines to the pools as a state machine: which calls are out where, what is sent again, when to dial. It takes events
//! and `now`, and says what to do; it reads no clock and touches no socket.
//!
//! ```text
//! admit ──> Send on the first address whose line is up ──> replied ──> Answer
//!             ├ later than its p95 ──> Send on the second address too; the first answer counts
//!             ├ refused (full, leaving) ──> Send elsewhere, or again once the pool said so
//!             └ the line broke ──> Send on the next line, while the deadline allows
//! ```
//!
//! A sample never pays for finding out that a pool is gone: while no line is up calls are refused at once, and the shell
//! dials in the background. Calls wait only before the first dial has ended, and for a moment after a line broke.
//!
//! An address has two judges. Its *line* is up, or down and dialled (`pace` says how often). Its *breaker* opens when
//! calls pass their deadline unanswered; it closes with an answer to a call, not with a handshake, since a pool that shakes
//! hands may still be too slow: a new line only brings the first probe forward. A line on which nothing is heard at all is
//! closed with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use millgate_shared::decision::Missing;

mod address;
mod bucket;
mod call;
mod ending;
mod pace;
mod retry;
#[cfg(test)]
mod tests;
mod watching;

use super::breaker;
use super::estimate::Estimate;
use address::Address;
use bucket::Bucket;
use call::{Attempt, Call, Gone};

/// Calls in flight at the most; one more is refused as shed.
pub const MAX_IN_FLIGHT: usize = 1024;
/// Attempts of one call, over all lines.
pub const MAX_ATTEMPTS: u32 = 4;
/// Share of the calls that hedges may add.
pub const HEDGE_SHARE: f64 = 0.05;
const HEDGE_BURST: f64 = 3.0;
/// Share of the calls that retries after a refusal may add.
pub const RETRY_SHARE: f64 = 0.1;
const RETRY_BURST: f64 = 10.0;
/// A call whose line broke waits so long for another.
pub const HOLD: Duration = Duration::from_secs(1);
/// After a line broke new calls wait for the next one so long; then they are refused at once.
pub const RECONNECT_GRACE: Duration = Duration::from_millis(300);
/// A retired line is closed after this time, whatever is still out on it.
const RETIRED_LIFE: Duration = Duration::from_secs(5);
/// Attempts whose caller has gone, remembered so that their answers still teach how slow the pool is.
const REMEMBERED: usize = 256;

/// State of the line as others see it.
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

/// What the shell is to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a round of handshakes with an address; older rounds go on.
    Dial {
        address: usize,
    },
    /// Try the better transport beside a line that works.
    Upgrade {
        address: usize,
    },
    /// Ask for a sign of life on a line.
    Ping {
        line: u64,
    },
    Send {
        line: u64,
        attempt: u64,
        call: u64,
    },
    /// The call ends without an answer.
    Fail {
        call: u64,
        reason: Missing,
    },
    /// Give the line up; what is still out on it has been sent elsewhere or answered.
    Close {
        line: u64,
        reason: &'static str,
    },
}

/// What a pool said to one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replied {
    /// An answer; `pool` is its time in queue and computing.
    Answer { pool: Duration },
    /// Too much to do; worth another try after this time.
    Shed { retry_after: Option<Duration> },
    /// The pool is leaving.
    Unavailable,
    /// No other try will help.
    Refused(Missing),
}

/// What a round of dialling brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLine {
    /// Chosen by the shell, never used twice.
    pub line: u64,
    /// Over the transport that is preferred.
    pub is_best: bool,
    /// The pool's first answer, the handshake not counted.
    pub answered_in: Duration,
}

/// What there is to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub sent: u64,
    pub hedges: u64,
    /// The hedge's answer came first.
    pub hedges_won: u64,
    /// Sent again after a refusal.
    pub retries: u64,
    /// Sent again because the line broke.
    pub resent: u64,
    /// Copies of calls to an address whose breaker wants to close.
    pub probes: u64,
    pub pings: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub breaker: breaker::Config,
    /// The better transport is tried again while another one works.
    pub upgrade: bool,
    /// For jitter.
    pub seed: u64,
}

/// Lines and the calls on them.
#[derive(Debug)]
pub struct Session {
    config: Config,
    /// The pools' addresses in order of preference.
    addresses: Vec<Address>,
    calls: BTreeMap<u64, Call>,
    /// The call that each attempt belongs to.
    attempts: BTreeMap<u64, u64>,
    gone: VecDeque<Gone>,
    hedging: Bucket,
    retrying: Bucket,
    random: fastrand::Rng,
    next_id: u64,
    actions: VecDeque<Action>,
    counts: Counts,
}

impl Session {
    pub fn new(config: Config, addresses: usize, now: Instant) -> Self {
        Self {
            addresses: (0..addresses).map(|_| Address::new(config.breaker, now)).collect(),
            calls: BTreeMap::new(),
            attempts: BTreeMap::new(),
            gone: VecDeque::new(),
            hedging: Bucket::new(HEDGE_SHARE, HEDGE_BURST),
            retrying: Bucket::new(RETRY_SHARE, RETRY_BURST),
            random: fastrand::Rng::with_seed(config.seed),
            next_id: 1,
            actions: VecDeque::new(),
            counts: Counts::default(),
            config,
        }
    }

    /// The next thing to do. The shell takes all of them after each event.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// What a call costs at the address that the next one would go to.
    pub fn estimate(&self) -> Estimate {
        let of = self.addresses.iter().find(|address| address.is_healthy()).or(self.addresses.first());
        of.map_or(Estimate::default(), |address| address.times.estimate())
    }

    /// All addresses together: the best that any of them has.
    pub fn link(&self, now: Instant) -> LinkState {
        let links = self.addresses.iter().map(|address| address.link(now));
        let rank = |link: &LinkState| match link {
            LinkState::Up => (0, None),
            LinkState::Unknown => (1, None),
            // Since the last of them went.
            LinkState::Down { since } => (2, Some(std::cmp::Reverse(*since))),
            LinkState::Unconfigured => (3, None),
        };
        links.min_by_key(rank).unwrap_or(LinkState::Unconfigured)
    }

    /// How one address is; the simulation looks at each.
    #[cfg(test)]
    pub(super) fn link_of(&self, address: usize, now: Instant) -> LinkState {
        self.addresses.get(address).map_or(LinkState::Unconfigured, |address| address.link(now))
    }

    /// Round trip on the line to an address, without the pool's own time.
    pub fn network_of(&self, address: usize) -> Option<Duration> {
        self.addresses.get(address)?.trip()
    }

    pub fn line_of(&self, address: usize) -> Option<u64> {
        self.addresses.get(address)?.current()
    }

    /// The line that the next call would go out on; also one whose breaker is open and lets its probe through, since there may
    /// be no live call for a long time that could close it.
    pub fn live_line(&self, now: Instant) -> Option<u64> {
        let healthy = self.addresses.iter().find(|address| address.is_healthy());
        healthy.or_else(|| self.addresses.iter().find(|address| address.takes_calls(now)))?.current()
    }

    /// When an attempt that is still waited for was sent.
    pub fn sent_at(&self, attempt: u64) -> Option<Instant> {
        let call = self.calls.get(self.attempts.get(&attempt)?)?;
        call.attempts.iter().find(|sent| sent.id == attempt).map(|sent| sent.at)
    }

    /// A sample wants to ask a pool and will wait until `deadline`. Gives the call's id; what becomes of it follows as
    /// actions.
    pub fn admit(&mut self, deadline: Instant, now: Instant) -> Result<u64, Missing> {
        if self.calls.len() >= MAX_IN_FLIGHT {
            return Err(Missing::Shed);
        }
        if deadline <= now {
            return Err(Missing::Deadline);
        }
        let address = self.choose(&[], now);
        if address.is_none() && !self.is_anything_coming(now) {
            return Err(Missing::Offline);
        }
        let call = self.fresh_id();
        self.counts.calls += 1;
        self.hedging.earn();
        self.retrying.earn();
        self.calls.insert(call, Call::new(deadline));
        if let Some(address) = address {
            self.send(call, address, now);
            self.probe_beside(call, address, now);
        }
        Ok(call)
    }

    /// A round of dialling ended with a line.
    pub fn dialled(&mut self, address: usize, new: NewLine, now: Instant) {
        let NewLine { line, is_best, .. } = new;
        let Some(at) = self.addresses.get_mut(address) else { return };
        if at.is_up() && !at.is_suspect() && !at.is_outdated() && (at.is_best() || !is_best) {
            // The old line spoke up, or another round was faster.
            return self.actions.push_back(Action::Close { line, reason: "it is not needed" });
        }
        let was_suspect = at.is_suspect();
        at.hope(now);
        if let Some(old) = at.open(new, self.config.upgrade, now) {
            at.retired.push((old, now + RETIRED_LIFE));
            if was_suspect {
                // Two lines race for each answer: nobody knows for sure that the old one is dead.
                for call in self.calls_on(old) {
                    self.resend(call, Some(address), now);
                }
            }
        }
        for call in self.waiting_calls() {
            if let Some(address) = self.choose(&[], now) {
                self.send(call, address, now);
            }
        }
        self.settle(now);
    }

    /// A round ended without one.
    pub fn dial_failed(&mut self, address: usize, now: Instant) {
        if let Some(at) = self.addresses.get_mut(address) {
            at.went_down(now);
        }
        self.settle(now);
    }

    /// A line broke.
    pub fn lost(&mut self, line: u64, now: Instant) {
        if let Some(address) = self.address_of(line) {
            self.addresses[address].closed(line, now);
            self.move_calls(line, now);
        }
        self.settle(now);
    }

    /// A sign of life that belongs to no call.
    pub fn heard(&mut self, line: u64, now: Instant) {
        if let Some(address) = self.address_of(line)
            && self.addresses[address].current() == Some(line)
        {
            self.addresses[address].heard(now);
        }
    }

    /// The pool said something to an attempt. Gives the call that it answers, if this is the answer that counts.
    pub fn replied(&mut self, line: u64, attempt: u64, replied: Replied, now: Instant) -> Option<u64> {
        self.heard(line, now);
        let Some(call) = self.attempts.remove(&attempt) else {
            self.learn_from_late(attempt, replied, now);
            return None;
        };
        let state = self.calls.get_mut(&call)?;
        let at = state.attempts.iter().position(|sent| sent.id == attempt)?;
        let sent = state.attempts.swap_remove(at);
        match replied {
            Replied::Answer { pool } => {
                self.counts.hedges_won += u64::from(sent.is_hedge);
                let at = &mut self.addresses[sent.address];
                at.succeeded();
                at.times.took(now.saturating_duration_since(sent.at), pool, now);
                self.retire_call(call, false);
                self.settle(now);
                return Some(call);
            }
            Replied::Refused(reason) => {
                self.addresses[sent.address].succeeded();
                self.give_reason(call, reason);
            }
            Replied::Shed { retry_after } => self.after_shed(call, sent.address, retry_after, now),
            Replied::Unavailable => self.after_unavailable(call, sent.address, now),
        }
        self.settle(now);
        None
    }

    /// The queue to the transport is full.
    pub fn unsent(&mut self, attempt: u64, now: Instant) {
        if let Some((call, address)) = self.take_back(attempt) {
            self.after_shed(call, address, None, now);
        }
    }

    /// Another send is not worth its bytes: what is out already may still answer.
    pub fn withheld(&mut self, attempt: u64) {
        if let Some((call, _)) = self.take_back(attempt) {
            self.give_reason(call, Missing::Budget);
        }
    }

    /// The call of an attempt that did not go out, and where it was to go.
    fn take_back(&mut self, attempt: u64) -> Option<(u64, usize)> {
        let call = self.attempts.remove(&attempt)?;
        let state = self.calls.get_mut(&call)?;
        let at = state.attempts.iter().position(|sent| sent.id == attempt)?;
        Some((call, state.attempts.swap_remove(at).address))
    }

    /// The device may have another address now, or the line may be back.
    pub fn network_changed(&mut self, now: Instant) {
        for address in 0..self.addresses.len() {
            self.addresses[address].pace.restart(now);
            self.doubt(address, now);
            self.dial_where_due(address, now);
        }
    }

    /// Everything that time alone brings.
    pub fn tick(&mut self, now: Instant) {
        self.expire(now);
        self.hedge_and_retry(now);
        for address in 0..self.addresses.len() {
            self.watch(address, now);
            self.dial_where_due(address, now);
        }
        self.settle(now);
    }

    /// When [`Session::tick`] has something to do.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let calls = self.calls.values().filter_map(Call::next_event);
        let addresses = self.addresses.iter().filter_map(|address| {
            let oldest = address.current().and_then(|line| self.oldest_on(line));
            address.next_event(oldest, now)
        });
        calls.chain(addresses).min()
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn send(&mut self, call: u64, address: usize, now: Instant) {
        self.send_as(call, address, false, now);
    }

    fn send_as(&mut self, call: u64, address: usize, is_hedge: bool, now: Instant) {
        let Some(line) = self.addresses[address].current() else { return };
        let attempt = self.fresh_id();
        let hedge_at = self.hedge_time(address, now);
        let Some(state) = self.calls.get_mut(&call) else { return };
        let is_extra = !state.attempts.is_empty();
        state.attempts.push(Attempt { id: attempt, line, address, at: now, is_hedge });
        state.sent += 1;
        state.hold_until = None;
        state.retry = None;
        state.hedge_at = hedge_at.filter(|at| !is_extra && *at < state.deadline);
        self.attempts.insert(attempt, call);
        self.counts.sent += 1;
        self.actions.push_back(Action::Send { line, attempt, call });
    }

    fn is_anything_coming(&self, now: Instant) -> bool {
        self.addresses.iter().any(|address| address.is_waited_for(now))
    }

    /// Calls that are out nowhere and wait for a line.
    fn waiting_calls(&self) -> Vec<u64> {
        let waits = |call: &Call| call.attempts.is_empty() && call.retry.is_none();
        self.calls.iter().filter(|(_, call)| waits(call)).map(|(id, _)| *id).collect()
    }

    fn calls_on(&self, line: u64) -> Vec<u64> {
        let is_on = |call: &Call| call.attempts.iter().any(|attempt| attempt.line == line);
        self.calls.iter().filter(|(_, call)| is_on(call)).map(|(id, _)| *id).collect()
    }

    fn oldest_on(&self, line: u64) -> Option<Instant> {
        let attempts = self.calls.values().flat_map(|call| &call.attempts);
        attempts.filter(|attempt| attempt.line == line).map(|attempt| attempt.at).min()
    }

    fn address_of(&self, line: u64) -> Option<usize> {
        self.addresses.iter().position(|address| address.has(line))
    }

    /// Everything that was out on a line that is no more goes out again.
    fn move_calls(&mut self, line: u64, now: Instant) {
        for call in self.calls_on(line) {
            if let Some(state) = self.calls.get_mut(&call) {
                state.attempts.retain(|attempt| attempt.line != line);
            }
            self.resend(call, None, now);
        }
        let calls = &self.calls;
        self.attempts.retain(|attempt, call| {
            calls.get(call).is_some_and(|call| call.attempts.iter().any(|sent| sent.id == *attempt))
        });
        self.gone.retain(|gone| gone.attempt.line != line);
    }

    /// After every event: lines that are over are closed, calls that can hope for nothing are told.
    fn settle(&mut self, now: Instant) {
        for address in 0..self.addresses.len() {
            for (line, until) in std::mem::take(&mut self.addresses[address].retired) {
                if until > now && self.oldest_on(line).is_some() {
                    self.addresses[address].retired.push((line, until));
                } else {
                    self.actions.push_back(Action::Close { line, reason: "a newer line has taken over" });
                    self.move_calls(line, now);
                }
            }
        }
        self.settle_waiting(now);
    }
}
