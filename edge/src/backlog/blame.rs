//! Entries over which a pool has died: a sample that its native code cannot stand must not end every pool that it is
//! brought to, again and again, for as long as it may be kept. Pure.
//!
//! A pool says with each list of its experts which of its lives this is. An entry whose call broke, and after which the same
//! pool came back in another life, is a suspect. So are those that were out together with it: suspects are asked one at a
//! time, with nothing else out. One over which a pool has died three times so is set aside. A line that breaks and a pool
//! that drains say nothing, and an answer clears an entry.

use std::collections::{BTreeMap, BTreeSet};

/// A pool may die over an entry that is out alone so often.
pub(crate) const MOST: u32 = 3;
/// Entries that are remembered; of more, the oldest are forgotten.
const REMEMBERED: usize = 1024;

/// Which life each pool is in; none where that is not known.
pub(crate) type Lives = Vec<Option<String>>;

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By the pool, whatever it said.
    Answered,
    /// The entry was sent, and nobody ever said anything.
    Broke,
    /// The entry was not sent.
    Stayed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Out {
    lives: Lives,
    is_alone: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Blame {
    out: BTreeMap<u64, Out>,
    /// Broken, and no pool has come back in another life yet.
    broken: BTreeMap<u64, Out>,
    /// How often a pool has died with it out alone.
    deaths: BTreeMap<u64, u32>,
    suspects: BTreeSet<u64>,
}

impl Blame {
    /// Must it be asked alone?
    pub(crate) fn is_suspect(&self, seq: u64) -> bool {
        self.suspects.contains(&seq)
    }

    /// Nothing may be sent beside it.
    pub(crate) fn has_suspect_out(&self) -> bool {
        self.out.keys().any(|seq| self.suspects.contains(seq))
    }

    /// The entry is not to be asked any more.
    pub(crate) fn is_guilty(&self, seq: u64) -> bool {
        self.deaths(seq) >= MOST
    }

    pub(crate) fn deaths(&self, seq: u64) -> u32 {
        self.deaths.get(&seq).copied().unwrap_or(0)
    }

    pub(crate) fn sent(&mut self, seq: u64, lives: Lives) {
        let is_alone = self.out.is_empty();
        if !is_alone {
            self.out.values_mut().for_each(|out| out.is_alone = false);
        }
        self.out.insert(seq, Out { lives, is_alone });
    }

    pub(crate) fn ended(&mut self, seq: u64, how: Ended) {
        let Some(out) = self.out.remove(&seq) else { return };
        match how {
            Ended::Answered => self.forget(seq),
            // The first of several breaks has seen the pool alive; later ones may have seen what was known of it.
            Ended::Broke => drop(self.broken.entry(seq).or_insert(out)),
            Ended::Stayed => {}
        }
        while self.broken.len() > REMEMBERED {
            self.broken.pop_first();
        }
    }

    /// Which lives the pools are in now.
    pub(crate) fn look(&mut self, lives: &Lives) {
        let has_died = |out: &Out| {
            let pairs = out.lives.iter().zip(lives);
            pairs.into_iter().any(|(before, now)| before.is_some() && now.is_some() && before != now)
        };
        let died: Vec<u64> =
            self.broken.iter().filter(|(_, out)| has_died(out)).map(|(seq, _)| *seq).collect();
        for seq in died {
            let Some(out) = self.broken.remove(&seq) else { continue };
            self.suspects.insert(seq);
            if out.is_alone {
                *self.deaths.entry(seq).or_default() += 1;
            }
        }
        while self.suspects.len() > REMEMBERED {
            let first = self.suspects.pop_first();
            first.into_iter().for_each(|seq| self.forget(seq));
        }
    }

    /// Forgets an entry that is answered, or gone.
    pub(crate) fn forget(&mut self, seq: u64) {
        self.out.remove(&seq);
        self.broken.remove(&seq);
        self.deaths.remove(&seq);
        self.suspects.remove(&seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(life: u32) -> Lives {
        vec![Some(life.to_string()), None]
    }

    #[test]
    fn an_entry_that_ends_the_pool_alone_three_times_is_guilty_and_its_neighbours_are_not() {
        let mut blame = Blame::default();
        // Three are out when it dies for the first time.
        (1..=3).for_each(|seq| blame.sent(seq, lives(1)));
        (1..=3).for_each(|seq| blame.ended(seq, Ended::Broke));
        blame.look(&lives(1));
        assert!(!blame.is_suspect(1), "nobody has come back yet");
        blame.look(&lives(2));
        assert!((1..=3).all(|seq| blame.is_suspect(seq) && blame.deaths(seq) == 0));
        // The good ones are answered.
        for seq in [1, 3] {
            blame.sent(seq, lives(2));
            assert!(blame.has_suspect_out());
            blame.ended(seq, Ended::Answered);
            assert!(!blame.is_suspect(seq) && !blame.has_suspect_out());
        }
        for life in 2..5 {
            assert!(!blame.is_guilty(2));
            blame.sent(2, lives(life));
            blame.ended(2, Ended::Broke);
            blame.look(&lives(life + 1));
        }
        assert!(blame.is_guilty(2) && blame.deaths(2) == MOST);
        blame.forget(2);
        assert!(!blame.is_guilty(2) && !blame.is_suspect(2));
    }

    #[test]
    fn lines_that_break_and_pools_of_before_say_nothing() {
        let mut blame = Blame::default();
        for _ in 0..100 {
            blame.sent(1, lives(1));
            blame.ended(1, Ended::Broke);
            blame.look(&lives(1));
            // One that does not say which life it is in.
            blame.sent(2, vec![None, None]);
            blame.ended(2, Ended::Broke);
            blame.look(&vec![None, None]);
            blame.look(&lives(1));
        }
        assert!(!blame.is_suspect(1) && !blame.is_suspect(2));
        // What did not go out is not to blame for a restart either.
        blame.sent(3, lives(1));
        blame.ended(3, Ended::Stayed);
        blame.look(&lives(2));
        assert!(!blame.is_suspect(3));
    }

    /// Good entries, up to four out, over pools that are killed at each hundredth to five hundredth round of calls, and lines
    /// that are cut: none is ever set aside, and a poison always is.
    #[test]
    fn only_the_poison_is_found_in_random_worlds() {
        let mut killed = 0;
        for seed in 0..2000 {
            let mut chance = fastrand::Rng::with_seed(seed);
            let entries = chance.u64(1..40);
            let poison = chance.bool().then(|| chance.u64(0..entries));
            let kill_share = 0.002 + 0.008 * chance.f64();
            let mut blame = Blame::default();
            let mut waiting: Vec<u64> = (0..entries).collect();
            let mut life = 0;
            for step in 0.. {
                assert!(step < 5_000, "seed {seed}: {waiting:?} never end");
                waiting.retain(|seq| {
                    let is_guilty = blame.is_guilty(*seq);
                    assert!(!is_guilty || poison == Some(*seq), "seed {seed}: a good entry was set aside");
                    !is_guilty
                });
                waiting.sort_by_key(|seq| blame.is_suspect(*seq));
                let Some(first) = waiting.first().copied() else { break };
                let room = if blame.is_suspect(first) { 1 } else { 4 };
                let out: Vec<u64> = waiting
                    .iter()
                    .copied()
                    .filter(|seq| *seq == first || !blame.is_suspect(*seq))
                    .take(room)
                    .collect();
                out.iter().for_each(|seq| blame.sent(*seq, lives(life)));
                let is_killed = chance.f64() < kill_share;
                let dies = is_killed || poison.is_some_and(|poison| out.contains(&poison));
                let is_cut = chance.f64() < 0.1;
                killed += u32::from(is_killed);
                let how = if dies || is_cut { Ended::Broke } else { Ended::Answered };
                out.iter().for_each(|seq| blame.ended(*seq, how));
                if how == Ended::Answered {
                    waiting.retain(|seq| !out.contains(seq));
                }
                life += u32::from(dies);
                blame.look(&lives(life));
            }
            assert!(poison.is_none_or(|poison| blame.is_guilty(poison)), "seed {seed}");
        }
        assert!(killed > 100, "{killed}");
    }
}
