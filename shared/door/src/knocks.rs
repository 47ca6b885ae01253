//! Places of connections that have yet to show that they are real: a handshake is under way, or nothing was said. Pure.
//!
//! A newcomer always gets one. Where none is free, one who has said nothing leaves before one who has said its part of the
//! handshake, and of equals any at random: it takes a flood of its own size for each place to move an honest one out
//! within its round trip, however long the line is. No block of addresses holds more than its bound; over that it
//! takes a place of its own.

use std::collections::HashMap;

use fastrand::Rng;

use super::holder::Block;

#[derive(Debug)]
pub(crate) struct Knocks {
    bounds: Bounds,
    next: u64,
    waiting: HashMap<u64, Knock>,
    of_block: HashMap<Block, usize>,
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
        Self { bounds, next: 0, waiting: HashMap::new(), of_block: HashMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Place for a newcomer, and whose was taken away for it.
    pub(crate) fn knock(&mut self, block: Block, rng: &mut Rng) -> (u64, Option<u64>) {
        let of_block = self.of_block.get(&block).copied().unwrap_or_default();
        let left = match (of_block >= self.bounds.of_block, self.waiting.len() >= self.bounds.most) {
            (true, _) => self.who_leaves(|knock| knock.block == block, rng),
            (false, true) => self.who_leaves(|_| true, rng),
            (false, false) => None,
        };
        if let Some(left) = left {
            self.leave(left);
        }
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, Knock { block, has_spoken: false });
        *self.of_block.entry(block).or_default() += 1;
        (number, left)
    }

    fn who_leaves(&self, may_leave: impl Fn(&Knock) -> bool, rng: &mut Rng) -> Option<u64> {
        let all = self.waiting.iter().filter(|(_, knock)| may_leave(knock));
        let silent: Vec<u64> =
            all.clone().filter(|(_, knock)| !knock.has_spoken).map(|(number, _)| *number).collect();
        let candidates = match silent.is_empty() {
            false => silent,
            true => all.map(|(number, _)| *number).collect(),
        };
        candidates.get(rng.usize(..candidates.len().max(1))).copied()
    }

    /// Takes away any that has said nothing, else any.
    pub(crate) fn shed(&mut self, rng: &mut Rng) -> Option<u64> {
        let left = self.who_leaves(|_| true, rng)?;
        self.leave(left);
        Some(left)
    }

    pub(crate) fn has_spoken(&mut self, number: u64) {
        if let Some(knock) = self.waiting.get_mut(&number) {
            knock.has_spoken = true;
        }
    }

    /// True if it was still there.
    pub(crate) fn leave(&mut self, number: u64) -> bool {
        let Some(knock) = self.waiting.remove(&number) else { return false };
        if let Some(count) = self.of_block.get_mut(&knock.block) {
            *count -= 1;
            if *count == 0 {
                self.of_block.remove(&knock.block);
            }
        }
        true
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = u64> {
        self.waiting.keys().copied()
    }
}

#[cfg(test)]
mod tests;
