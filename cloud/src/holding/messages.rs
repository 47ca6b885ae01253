//! The messages of one call that have come and are not answered yet, and what each holds. Pure.

use std::collections::VecDeque;

use super::Hold;

/// In the order in which they came. What is held stays with them until a handler asks for it; one that never asks is
/// taken to be done with a message when the next one begins.
#[derive(Debug)]
pub(super) struct Messages<H = Hold> {
    is_claimed: bool,
    waiting: VecDeque<H>,
}

impl<H> Default for Messages<H> {
    fn default() -> Self {
        Self { is_claimed: false, waiting: VecDeque::new() }
    }
}

impl<H> Messages<H> {
    /// A message has come, or begins to.
    pub(super) fn begin(&mut self, hold: H) {
        if !self.is_claimed {
            self.waiting.clear();
        }
        self.waiting.push_back(hold);
    }

    /// The handler keeps what its messages hold, by asking for each in turn.
    pub(super) fn claim(&mut self) {
        self.is_claimed = true;
    }

    pub(super) fn next(&mut self) -> Option<H> {
        self.is_claimed = true;
        self.waiting.pop_front()
    }

    /// The answer comes: a handler that has not asked is done with its message.
    pub(super) fn answered(&mut self) {
        if !self.is_claimed {
            self.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_gets_each_and_who_does_not_has_the_last_one_kept() {
        let mut messages = Messages::default();
        messages.begin(1);
        messages.begin(2);
        assert_eq!(messages.waiting, [2]);
        messages.answered();
        assert!(messages.waiting.is_empty());
        messages.claim();
        messages.begin(3);
        messages.begin(4);
        messages.answered();
        assert_eq!((messages.next(), messages.next(), messages.next()), (Some(3), Some(4), None));
    }
}
