//! What there is to show.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::replay::{Event, Measured};
use crate::report::{End, Ended, millis};
use crate::stage::Facts;
use crate::tally::Tally;

/// Decisions kept; more than the largest terminal shows.
const RECENT: usize = 200;

/// The cloud, as the agent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cloud {
    Up,
    Lost {
        since: Instant,
    },
    /// The cable is back, the agent has not dialled yet.
    Back {
        since: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
}

pub(super) struct Notice {
    pub(super) text: String,
    pub(super) tone: Tone,
}

pub(super) struct Model {
    pub(super) facts: Facts,
    pub(super) tally: Tally,
    pub(super) cloud: Cloud,
    pub(super) is_paused: bool,
    /// Newest first.
    pub(super) recent: VecDeque<Measured>,
    pub(super) notice: Option<Notice>,
    started: Instant,
    ended: Option<Instant>,
    is_complete: bool,
}

impl Model {
    pub(super) fn new(facts: Facts, now: Instant) -> Self {
        Self {
            facts,
            tally: Tally::default(),
            cloud: Cloud::Up,
            is_paused: false,
            recent: VecDeque::new(),
            notice: None,
            started: now,
            ended: None,
            is_complete: false,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        self.tally.take(&event);
        match event {
            Event::Measured(measured) => {
                self.recent.push_front(*measured);
                self.recent.truncate(RECENT);
            }
            Event::Poisoned { path, answer } => {
                self.notice = Some(match answer {
                    Err(error) => Notice { text: format!("refused {path}: {error}"), tone: Tone::Good },
                    Ok(label) => Notice { text: format!("{path} was taken for {label}"), tone: Tone::Bad },
                });
            }
            Event::Cut { at } => self.cloud = Cloud::Lost { since: at },
            Event::Restored { at } => self.cloud = Cloud::Back { since: at },
            Event::Recovered { after } => {
                self.cloud = Cloud::Up;
                let text =
                    format!("the pool answers again, {} ms after the cable was back", millis(Some(after)));
                self.notice = Some(Notice { text, tone: Tone::Good });
            }
            Event::Paused(paused) => self.is_paused = paused,
            Event::Finished { .. } => self.is_complete = true,
        }
    }

    /// No more events will come.
    pub(super) fn close(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        self.ended.unwrap_or(now) - self.started
    }

    /// If it ended now.
    pub(super) fn end(&self) -> End {
        match (self.is_complete, self.is_over()) {
            (true, _) => End::Complete,
            (false, false) => End::Quit,
            (false, true) => End::BrokenOff,
        }
    }

    pub(super) fn into_ended(self, end: End, now: Instant) -> Ended {
        let (lasted, at) = (self.elapsed(now), self.ended.unwrap_or(now));
        let outage_lasted = self.tally.outage_lasted(at);
        Ended { facts: self.facts, tally: self.tally, end, lasted, outage_lasted }
    }
}
