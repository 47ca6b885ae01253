//! How calls end: answered, failed, or by their deadline; and what the attempts that were still out go on to teach.

use std::time::Instant;

use millgate_shared::decision::Missing;

use super::call::{Attempt, Gone};
use super::{Action, REMEMBERED, Replied, Session};

impl Session {
    /// Ends a call unless something of it is still out or to come.
    pub(super) fn give_reason(&mut self, call: u64, reason: Missing) {
        if self.calls.get(&call).is_some_and(|call| call.attempts.is_empty() && call.retry.is_none()) {
            self.fail(call, reason);
        }
    }

    pub(super) fn fail(&mut self, call: u64, reason: Missing) {
        self.retire_call(call, true);
        self.actions.push_back(Action::Fail { call, reason });
    }

    /// Forgets a call; its attempts that are out are remembered for what they teach.
    pub(super) fn retire_call(&mut self, call: u64, is_judged: bool) {
        let Some(state) = self.calls.remove(&call) else { return };
        for attempt in state.attempts {
            self.attempts.remove(&attempt.id);
            if self.gone.len() == REMEMBERED {
                self.gone.pop_front();
            }
            self.gone.push_back(Gone { attempt, deadline: state.deadline, is_judged });
        }
    }

    pub(super) fn learn_from_late(&mut self, attempt: u64, replied: Replied, now: Instant) {
        let Some(at) = self.gone.iter().position(|gone| gone.attempt.id == attempt) else { return };
        let Some(gone) = self.gone.remove(at) else { return };
        if let Replied::Answer { pool } = replied {
            let at = &mut self.addresses[gone.attempt.address];
            at.times.took(now.saturating_duration_since(gone.attempt.at), pool, now);
            if now < gone.deadline {
                at.succeeded();
            }
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let due = self.calls.iter().filter(|(_, call)| call.deadline <= now);
        let expired: Vec<u64> = due.map(|(id, _)| *id).collect();
        for call in expired {
            let attempts = self.calls.get(&call).map(|call| call.attempts.clone()).unwrap_or_default();
            self.fail(call, Missing::Deadline);
            attempts.iter().for_each(|attempt| self.unanswered(attempt, now));
        }
        let is_due = |gone: &Gone| !gone.is_judged && gone.deadline <= now;
        let due: Vec<Attempt> =
            self.gone.iter().filter(|gone| is_due(gone)).map(|gone| gone.attempt).collect();
        self.gone.iter_mut().for_each(|gone| gone.is_judged |= is_due(gone));
        due.iter().for_each(|attempt| self.unanswered(attempt, now));
        let held = self.calls.iter().filter(|(_, call)| call.hold_until.is_some_and(|until| until <= now));
        let held: Vec<u64> = held.map(|(id, _)| *id).collect();
        for call in held {
            self.fail(call, Missing::Offline);
        }
    }

    pub(super) fn unanswered(&mut self, attempt: &Attempt, now: Instant) {
        if self.addresses[attempt.address].failed(attempt.at, now) {
            self.doubt(attempt.address, now);
        }
    }
}
