//! One call and where it is out.

use std::time::Instant;

use millgate_shared::decision::Missing;

#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// `call_id` on the wire; unique over all lines, so that a late answer finds nobody.
    pub(super) id: u64,
    pub(super) line: u64,
    pub(super) address: usize,
    pub(super) at: Instant,
    /// Sent because another one was late.
    pub(super) is_hedge: bool,
}

/// Sent again at a time; what is missing if that cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) reason: Missing,
}

/// An attempt whose caller has gone: its answer still teaches how slow the pool is, its silence that there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) attempt: Attempt,
    pub(super) deadline: Instant,
    /// Whether the attempt's silence has been held against the address.
    pub(super) is_judged: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) deadline: Instant,
    /// Attempts that are out now.
    pub(super) attempts: Vec<Attempt>,
    /// How many attempts have gone out so far.
    pub(super) sent: u32,
    pub(super) hedge_at: Option<Instant>,
    pub(super) retry: Option<Retry>,
    /// Until when the call waits for another line, where its own broke.
    pub(super) hold_until: Option<Instant>,
}

impl Call {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, attempts: Vec::new(), sent: 0, hedge_at: None, retry: None, hold_until: None }
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let retry = self.retry.map(|retry| retry.at);
        [Some(self.deadline), self.hedge_at, retry, self.hold_until].into_iter().flatten().min()
    }
}
