//! Places of connections that have yet to show that they are real: a handshake is under way, or nothing was said. Pure.
//!
//! A newcomer always gets one. Where none is free, one leaves: any at random, so that it takes as many newcomers as there are
//! places to move an honest one out within its round trip, however long the line is. While many have said nothing, it is
//! one of these, and who has said its part of the handshake stays. (Not while only a few have: in a flood that does speak,
//! whoever is about to would be the first to go.) No block of addresses holds more than its bound; over that it takes a
//! place of its own.

use std::collections::HashMap;

use fastrand::Rng;
use indexmap::IndexSet;

use super::holder::Block;

/// Part of those who may leave that has to be silent for one of them to leave before others.
const MANY: usize = 8;

#[derive(Debug)]
pub(crate) struct Knocks {
    bounds: Bounds,
    next: u64,
    waiting: HashMap<u64, Knock>,
    all: Lot,
    of_block: HashMap<Block, Lot>,
}

/// Those who may leave for another.
#[derive(Debug, Default)]
struct Lot {
    silent: IndexSet<u64>,
    spoken: IndexSet<u64>,
}

impl Lot {
    fn len(&self) -> usize {
        self.silent.len() + self.spoken.len()
    }

    fn of(&mut self, has_spoken: bool) -> &mut IndexSet<u64> {
        if has_spoken { &mut self.spoken } else { &mut self.silent }
    }

    fn who_leaves(&self, rng: &mut Rng) -> Option<u64> {
        let all = self.len().max(1);
        let is_silent = self.silent.len() * MANY >= all || rng.usize(..all) < self.silent.len();
        if is_silent { any(&self.silent, rng) } else { any(&self.spoken, rng) }
    }
}

/// Any one of a set, in the same time however many there are.
fn any(set: &IndexSet<u64>, rng: &mut Rng) -> Option<u64> {
    set.get_index(rng.usize(..set.len().max(1))).copied()
}

/// How many may knock at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) most: usize,
    /// From one block of addresses.
    pub(crate) of_block: usize,
}

#[derive(Debug)]
struct Knock {
    block: Block,
    has_spoken: bool,
}

impl Knocks {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, next: 0, waiting: HashMap::new(), all: Lot::default(), of_block: HashMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Place for a newcomer, and whose was taken away for it.
    pub(crate) fn knock(&mut self, block: Block, rng: &mut Rng) -> (u64, Option<u64>) {
        let of_block = self.of_block.get(&block).filter(|lot| lot.len() >= self.bounds.of_block);
        let left = match (of_block, self.waiting.len() >= self.bounds.most) {
            (Some(lot), _) => lot.who_leaves(rng),
            (None, true) => self.all.who_leaves(rng),
            (None, false) => None,
        };
        if let Some(left) = left {
            self.leave(left);
        }
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, Knock { block, has_spoken: false });
        self.all.silent.insert(number);
        self.of_block.entry(block).or_default().silent.insert(number);
        (number, left)
    }

    /// Takes away any that has said nothing, else any.
    pub(crate) fn shed(&mut self, rng: &mut Rng) -> Option<u64> {
        let left = any(&self.all.silent, rng).or_else(|| any(&self.all.spoken, rng))?;
        self.leave(left);
        Some(left)
    }

    pub(crate) fn has_spoken(&mut self, number: u64) {
        let Some(knock) = self.waiting.get_mut(&number).filter(|knock| !knock.has_spoken) else { return };
        knock.has_spoken = true;
        for lot in std::iter::once(&mut self.all).chain(self.of_block.get_mut(&knock.block)) {
            lot.silent.swap_remove(&number);
            lot.spoken.insert(number);
        }
    }

    /// True if it was still there.
    pub(crate) fn leave(&mut self, number: u64) -> bool {
        let Some(Knock { block, has_spoken }) = self.waiting.remove(&number) else { return false };
        self.all.of(has_spoken).swap_remove(&number);
        if let Some(lot) = self.of_block.get_mut(&block) {
            lot.of(has_spoken).swap_remove(&number);
            if lot.len() == 0 {
                self.of_block.remove(&block);
            }
        }
        true
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = u64> {
        self.all.silent.iter().chain(&self.all.spoken).copied()
    }
}

#[cfg(test)]
mod tests;
