//! What the pool has answered of entries that still wait for more, so that no expert is asked twice. Pure; a restart forgets
//! it, and asks again.

use std::collections::BTreeMap;

use crate::agent::LateAnswers;

/// Entries that it is kept of; of more, the oldest are asked again.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Partial(BTreeMap<u64, LateAnswers>);

impl Partial {
    /// What is known of an entry that is asked now.
    pub(crate) fn take(&mut self, seq: u64) -> LateAnswers {
        self.0.remove(&seq).unwrap_or_default()
    }

    /// Keeps what an entry has of late answers until it is asked again.
    pub(crate) fn keep(&mut self, seq: u64, late: &LateAnswers) {
        if late.bytes == 0 {
            return;
        }
        self.0.insert(seq, LateAnswers { left: None, ..late.clone() });
        if self.0.len() > MOST {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use millgate_shared::competence::Answer;
    use millgate_shared::index::{ExpertIx, Ix};

    use super::*;
    use crate::agent::Left;

    fn late(expert: usize, bytes: u64) -> LateAnswers {
        let answers = vec![Answer { expert: ExpertIx::new(expert), probabilities: vec![1.0] }];
        LateAnswers { answers, bytes, left: Some(Left::Trouble), ..LateAnswers::default() }
    }

    #[test]
    fn answers_and_bytes_of_all_attempts_come_together() {
        let mut partial = Partial::default();
        partial.keep(7, &late(0, 100));
        assert_eq!(partial.take(8), LateAnswers::default());
        let mut second = late(1, 50);
        second.add(partial.take(7));
        let experts: Vec<usize> = second.answers.iter().map(|answer| answer.expert.at()).collect();
        assert_eq!((experts, second.bytes), (vec![1, 0], 150));
        assert_eq!(partial.take(7), LateAnswers::default());
    }

    #[test]
    fn it_is_bounded_and_keeps_nothing_of_what_never_went_out() {
        let mut partial = Partial::default();
        partial.keep(0, &LateAnswers::default());
        assert!(partial.0.is_empty());
        (0..2000).for_each(|seq| partial.keep(seq, &late(0, 1)));
        assert_eq!((partial.0.len(), partial.0.contains_key(&1999)), (MOST, true));
    }
}
