//! Lines that are doubted, given up and dialled.

use std::time::Instant;

use super::{Action, Session};

impl Session {
    /// Lines on which calls wait and nothing is heard.
    pub(super) fn watch(&mut self, address: usize, now: Instant) {
        let at = &mut self.addresses[address];
        let Some(line) = at.current() else { return at.grace_over(now) };
        if !at.is_healthy() && at.is_deaf(now) {
            at.closed(line, now);
            at.went_down(now);
            self.actions.push_back(Action::Close { line, reason: "deadlines pass without a sign of life" });
            return self.move_calls(line, now);
        }
        if at.give_away(now) {
            for call in self.calls_on(line) {
                self.send_beside(call, now);
            }
        }
        let oldest = self.oldest_on(line);
        if oldest.is_some_and(|oldest| self.addresses[address].is_silent(oldest, now)) {
            self.doubt(address, now);
        }
    }

    /// Asks the current line for a sign of life; if it gives none soon a new one is dialled beside it.
    pub(super) fn doubt(&mut self, address: usize, now: Instant) {
        let at = &mut self.addresses[address];
        if let Some(line) = at.current()
            && at.suspect(now)
        {
            at.pace.restart(now);
            self.counts.pings += 1;
            self.actions.push_back(Action::Ping { line });
        }
    }

    /// The device shows another certificate now: a line that shows the old one serves until another has been made.
    pub fn certificate_changed(&mut self, address: usize, now: Instant) {
        if let Some(at) = self.addresses.get_mut(address) {
            at.renew(now);
            self.dial_where_due(address, now);
        }
    }

    /// The pool does not know who the device is on its current line: the same, if it was not tried just now.
    pub fn outdated(&mut self, address: usize, now: Instant) {
        if let Some(at) = self.addresses.get_mut(address) {
            at.outdate(now);
            self.dial_where_due(address, now);
        }
    }

    /// Why an address could not be used may be over: it is dialled without a further pause.
    pub fn dial_now(&mut self, address: usize, now: Instant) {
        if let Some(at) = self.addresses.get_mut(address) {
            at.pace.restart(now);
            self.dial_where_due(address, now);
        }
    }

    pub(super) fn dial_where_due(&mut self, address: usize, now: Instant) {
        let at = &mut self.addresses[address];
        if at.wants_dial(now) && at.pace.due(now) {
            at.start_dial(now);
            self.actions.push_back(Action::Dial { address });
        }
        if self.addresses[address].renewal_due(now) {
            self.actions.push_back(Action::Dial { address });
        }
        if self.addresses[address].upgrade_due(now) {
            self.actions.push_back(Action::Upgrade { address });
        }
    }
}
