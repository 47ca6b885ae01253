//! How fast the line delivers, measured as BBR's authors propose: for each packet, how much arrived between its sending
//! and its acknowledgement, over the longer of the time that sending and acknowledging took. Neither a burst of
//! acknowledgements nor a burst of packets looks faster than the line that way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Number of groups of packets sent at once that are remembered: more than any window holds.
const MOST_GROUPS: usize = 8192;
/// Number of groups for which an idle connection keeps room.
const IDLE_GROUPS: usize = 16;
/// Age at which a group is no longer expected to be acknowledged.
const OLDEST: Duration = Duration::from_secs(10);

/// A group of packets that were sent at once.
#[derive(Debug, Clone, Copy)]
struct Group {
    at: Instant,
    /// Bytes that had been acknowledged when the group was sent, and when the last of them were.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet was sent whose acknowledgement was the latest at that time.
    first_sent: Instant,
    /// Whether there was less to send than the line would take.
    is_idle: bool,
}

/// What one packet's round trip tells about the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Delivery rate, in bytes a second.
    pub(super) rate: f64,
    /// Whether the sender had little to send, so that the line may be faster than `rate`.
    pub(super) is_idle: bool,
    /// Bytes delivered when the packet was sent.
    pub(super) delivered_before: u64,
    pub(super) round_trip: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Rate {
    groups: VecDeque<Group>,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    in_flight: u64,
    /// Packets sent before this many bytes are delivered count as sent while there was little to send.
    idle_until: Option<u64>,
    /// The packet that was sent last among the acknowledgements at hand.
    newest: Option<Group>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            groups: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            in_flight: 0,
            idle_until: None,
            newest: None,
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn sent(&mut self, now: Instant) {
        if self.in_flight == 0 && self.groups.is_empty() {
            // After a pause the clocks start anew.
            self.first_sent = now;
            self.delivered_at = now;
        }
        if self.groups.back().is_some_and(|group| group.at == now) {
            return;
        }
        // Mere acknowledgements are sent too, and never acknowledged.
        let is_old = |group: &Group| now.saturating_duration_since(group.at) > OLDEST;
        while self.groups.len() >= MOST_GROUPS || self.groups.front().is_some_and(is_old) {
            self.groups.pop_front();
        }
        self.groups.push_back(Group {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            is_idle: self.idle_until.is_some_and(|until| self.delivered <= until),
        });
    }

    pub(super) fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.newest.is_some_and(|newest| newest.at >= sent) {
            return;
        }
        if let Ok(at) = self.groups.binary_search_by(|group| group.at.cmp(&sent)) {
            self.newest = Some(self.groups[at]);
        }
    }

    /// The sample of a group of acknowledgements that came together, after the last of them. `in_flight` is the number
    /// of bytes still under way; `is_idle` says that everything there was to send has been sent. `None` where the group
    /// tells nothing.
    pub(super) fn sample(&mut self, now: Instant, in_flight: u64, is_idle: bool) -> Option<Sample> {
        self.in_flight = in_flight;
        if is_idle {
            self.idle_until = Some(self.delivered + in_flight);
        }
        let newest = self.newest.take();
        if let Some(newest) = newest {
            self.first_sent = newest.at;
        }
        if in_flight == 0 {
            self.groups.clear();
            self.groups.shrink_to(IDLE_GROUPS);
        }
        let newest = newest?;
        let sending = newest.at.saturating_duration_since(newest.first_sent);
        let acknowledging = now.saturating_duration_since(newest.delivered_at);
        let took = sending.max(acknowledging).as_secs_f64();
        (took > 0.0).then(|| Sample {
            rate: (self.delivered - newest.delivered) as f64 / took,
            is_idle: newest.is_idle,
            delivered_before: newest.delivered,
            round_trip: now.saturating_duration_since(newest.at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_acknowledgements_is_not_taken_for_a_fast_line() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut rate = Rate::new(start);
        // One packet every 10 ms; acknowledged every 50 ms, five at once.
        let mut fastest: f64 = 0.0;
        for ms in (0..1000).step_by(10) {
            rate.sent(at(ms));
            if ms >= 100 && ms % 50 == 0 {
                for sent in (ms - 100..ms - 50).step_by(10) {
                    rate.acknowledged(at(ms), at(sent), 1000);
                }
                let sample = rate.sample(at(ms), 10_000, false).unwrap();
                fastest = fastest.max(sample.rate);
            }
        }
        assert!((80_000.0..140_000.0).contains(&fastest), "{fastest}");
    }

    #[test]
    fn what_little_was_sent_says_little() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.sent(start);
        rate.acknowledged(start + Duration::from_millis(50), start, 1000);
        let first = rate.sample(start + Duration::from_millis(50), 0, true).unwrap();
        assert!(!first.is_idle && first.round_trip == Duration::from_millis(50));
        rate.sent(start + Duration::from_millis(60));
        rate.acknowledged(start + Duration::from_millis(110), start + Duration::from_millis(60), 1000);
        let second = rate.sample(start + Duration::from_millis(110), 0, true).unwrap();
        assert!(second.is_idle);
    }
}
