//! What somebody was given, in virtual time: nanoseconds of compute, divided by the share.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Account {
    tag: u64,
    /// What was charged too much; it is set off against what is charged next, so that the tag never falls.
    too_much: u64,
}

pub(super) fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Account {
    /// Where its next entry begins.
    pub(super) fn tag(self) -> u64 {
        self.tag
    }

    /// Something waits again: what was not asked for before is lost.
    pub(super) fn start(&mut self, now: u64) {
        if self.tag < now {
            *self = Self { tag: now, too_much: 0 };
        }
    }

    pub(super) fn charge(&mut self, given: u64) {
        let set_off = given.min(self.too_much);
        self.too_much -= set_off;
        self.tag = self.tag.saturating_add(given - set_off);
    }

    pub(super) fn credit(&mut self, too_much: u64) {
        self.too_much = self.too_much.saturating_add(too_much);
    }
}
