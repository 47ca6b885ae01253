//! The largest value of the last rounds.

use std::collections::VecDeque;

/// Keeps a maximum over a sliding window of rounds. At most one entry a round.
#[derive(Debug, Clone)]
pub(super) struct MaxFilter {
    rounds: u64,
    /// Falling values of rising rounds.
    kept: VecDeque<(u64, f64)>,
}

impl MaxFilter {
    pub(super) fn new(rounds: u64) -> Self {
        Self { rounds, kept: VecDeque::new() }
    }

    pub(super) fn push(&mut self, round: u64, value: f64) {
        while self.kept.back().is_some_and(|(_, kept)| *kept <= value) {
            self.kept.pop_back();
        }
        if self.kept.back().is_none_or(|(at, _)| *at != round) {
            self.kept.push_back((round, value));
        }
        self.forget(round);
    }

    /// Forgets values older than the window, but keeps the last one: an old value is better than none.
    pub(super) fn forget(&mut self, round: u64) {
        while self.kept.len() > 1 && self.kept.front().is_some_and(|(at, _)| at + self.rounds <= round) {
            self.kept.pop_front();
        }
    }

    pub(super) fn max(&self) -> Option<f64> {
        self.kept.front().map(|(_, value)| *value)
    }

    /// Lowers all remembered values to at most this one.
    pub(super) fn cap(&mut self, round: u64, value: f64) {
        if self.max().is_some_and(|max| max > value) {
            self.kept.clear();
            self.kept.push_back((round, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_largest_of_the_last_rounds(values in proptest::collection::vec(0_u32..100, 1..60)) {
            let mut filter = MaxFilter::new(5);
            for (round, value) in values.iter().enumerate() {
                filter.push(round as u64, f64::from(*value));
                let largest = values[(round + 1).saturating_sub(5)..=round].iter().max().unwrap();
                prop_assert_eq!(filter.max(), Some(f64::from(*largest)));
            }
        }
    }

    #[test]
    fn a_cap_holds_until_more_is_seen() {
        let mut filter = MaxFilter::new(5);
        filter.push(0, 10.0);
        filter.cap(1, 4.0);
        assert_eq!(filter.max(), Some(4.0));
        filter.cap(2, 8.0);
        assert_eq!(filter.max(), Some(4.0));
        filter.push(2, 6.0);
        assert_eq!(filter.max(), Some(6.0));
    }
}
