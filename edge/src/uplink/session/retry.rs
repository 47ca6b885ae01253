//! Where a call goes, and where else when that does not help.

use std::time::{Duration, Instant};

use millgate_shared::decision::Missing;

use super::call::Retry;
use super::{HOLD, MAX_ATTEMPTS, Session};

/// Calls that have to be known before the second address is asked because the first is late.
const HEDGE_AFTER: usize = 8;
/// A pool that is full and does not say for how long.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Jitter of a retry, as a share of its pause.
const JITTER: f64 = 0.5;

impl Session {
    /// The first address in order that takes a call now, without those in `beside`. A doubtful one comes after the others,
    /// one whose breaker is open last.
    pub(super) fn choose(&mut self, beside: &[usize], now: Instant) -> Option<usize> {
        let others = |at: &usize| !beside.contains(at);
        let all = 0..self.addresses.len();
        let sure = |at: &usize| self.addresses[*at].is_healthy() && !self.addresses[*at].is_suspect();
        let healthy = |at: &usize| self.addresses[*at].is_healthy();
        let found =
            all.clone().filter(others).find(sure).or_else(|| all.clone().filter(others).find(healthy));
        found.or_else(|| all.filter(others).find(|at| self.addresses[*at].allow(now)))
    }

    /// Better addresses whose breaker wants a probe get a copy of a call that is out elsewhere: no sample waits for it.
    pub(super) fn probe_beside(&mut self, call: u64, address: usize, now: Instant) {
        for better in 0..address {
            let at = &mut self.addresses[better];
            if at.is_up() && !at.is_healthy() && at.allow(now) {
                self.counts.probes += 1;
                self.send(call, better, now);
            }
        }
    }

    pub(super) fn hedge_time(&self, address: usize, now: Instant) -> Option<Instant> {
        let is_other = |at: usize| at != address && self.addresses[at].is_healthy();
        (0..self.addresses.len()).find(|at| is_other(*at))?;
        let total = self.addresses[address].total().filter(|total| total.of >= HEDGE_AFTER)?;
        Some(now + total.p95)
    }

    /// The line of a call has gone, or is doubted: it goes out on another one, at `to` if that is given.
    pub(super) fn resend(&mut self, call: u64, to: Option<usize>, now: Instant) {
        let Some(state) = self.calls.get(&call) else { return };
        let is_out = !state.attempts.is_empty();
        if is_out && to.is_none() || state.retry.is_some() {
            return;
        }
        if state.sent >= MAX_ATTEMPTS {
            return self.give_reason(call, Missing::Offline);
        }
        match to.or_else(|| self.choose(&[], now)) {
            Some(address) => {
                self.counts.resent += 1;
                self.send(call, address, now);
            }
            None if is_out => {}
            None => {
                if let Some(state) = self.calls.get_mut(&call) {
                    state.hold_until = Some((now + HOLD).min(state.deadline));
                }
            }
        }
    }

    /// The line of a call is silent: another address gets it too, if there is one.
    pub(super) fn send_beside(&mut self, call: u64, now: Instant) {
        let Some(state) = self.calls.get(&call) else { return };
        let beside: Vec<usize> = state.attempts.iter().map(|attempt| attempt.address).collect();
        let is_other = |at: &usize| !beside.contains(at) && self.addresses[*at].is_healthy();
        if state.sent < MAX_ATTEMPTS
            && let Some(other) = (0..self.addresses.len()).find(is_other)
        {
            self.counts.resent += 1;
            self.send(call, other, now);
        }
    }

    pub(super) fn after_shed(
        &mut self,
        call: u64,
        address: usize,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        self.try_again(call, address, retry_after.unwrap_or(RETRY_AFTER), Missing::Shed, now);
    }

    pub(super) fn after_unavailable(&mut self, call: u64, address: usize, now: Instant) {
        self.try_again(call, address, RETRY_AFTER, Missing::Offline, now);
    }

    /// Elsewhere at once, or at the same address after `pause`, if the deadline leaves room for an answer.
    fn try_again(&mut self, call: u64, address: usize, pause: Duration, reason: Missing, now: Instant) {
        let Some(state) = self.calls.get(&call) else { return };
        if !state.attempts.is_empty() {
            return;
        }
        let (deadline, sent) = (state.deadline, state.sent);
        if sent >= MAX_ATTEMPTS || !self.retrying.spend() {
            return self.give_reason(call, reason);
        }
        let is_other = |at: &usize| *at != address && self.addresses[*at].is_healthy();
        let elsewhere = (0..self.addresses.len()).find(is_other);
        if let Some(elsewhere) = elsewhere {
            self.counts.retries += 1;
            return self.send(call, elsewhere, now);
        }
        let at = now + pause + pause.mul_f64(JITTER * self.random.f64());
        let answer_in = self.addresses[address].total().map_or(Duration::ZERO, |total| total.p50);
        if at + answer_in >= deadline {
            return self.give_reason(call, reason);
        }
        if let Some(state) = self.calls.get_mut(&call) {
            state.retry = Some(Retry { at, reason });
        }
    }

    pub(super) fn hedge_and_retry(&mut self, now: Instant) {
        let due = self.calls.iter().filter(|(_, call)| call.hedge_at.is_some_and(|at| at <= now));
        let hedges: Vec<u64> = due.map(|(id, _)| *id).collect();
        for call in hedges {
            let Some(state) = self.calls.get_mut(&call) else { continue };
            state.hedge_at = None;
            let beside: Vec<usize> = state.attempts.iter().map(|attempt| attempt.address).collect();
            let may = state.sent < MAX_ATTEMPTS && !beside.is_empty();
            let other = (0..self.addresses.len())
                .find(|at| may && !beside.contains(at) && self.addresses[*at].is_healthy());
            if let Some(other) = other
                && self.hedging.spend()
            {
                self.counts.hedges += 1;
                self.send_as(call, other, true, now);
            }
        }
        let due = self.calls.iter().filter(|(_, call)| call.retry.is_some_and(|retry| retry.at <= now));
        let retries: Vec<u64> = due.map(|(id, _)| *id).collect();
        for call in retries {
            let Some(retry) = self.calls.get_mut(&call).and_then(|state| state.retry.take()) else {
                continue;
            };
            match self.choose(&[], now) {
                Some(address) => {
                    self.counts.retries += 1;
                    self.send(call, address, now);
                }
                None => self.give_reason(call, retry.reason),
            }
        }
    }

    /// Calls that wait for a line, once none can be hoped for. Those whose line broke keep their patience.
    pub(super) fn settle_waiting(&mut self, now: Instant) {
        if self.is_anything_coming(now) {
            return;
        }
        for call in self.waiting_calls() {
            if self.calls.get(&call).is_some_and(|call| call.hold_until.is_none()) {
                self.fail(call, Missing::Offline);
            }
        }
    }
}
