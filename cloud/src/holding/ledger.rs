//! Who holds how many bytes, and who may have more. Pure.
//!
//! A quarter of the whole is set aside for floors: what a holder needs first comes from there, so that somebody new gets
//! something however much the others hold. The rest is common. Of it nobody, and no group of holders, may have more than
//! [`TIMES_THE_REST`] times what would be left: one alone gets three quarters, and the more are greedy, the less each gets, while
//! some is always left for the next.

use std::collections::HashMap;
use std::hash::Hash;

/// The whole, divided by this, is set aside for floors.
const FLOORS_SHARE: u64 = 4;
/// A holder's part of what is common, as a multiple of what would be left of it.
const TIMES_THE_REST: u64 = 3;

/// Why a holder gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The holder has its share already, or its group has: with so much more there would not be enough left for others.
    Share,
    /// Others have too much of it.
    Whole,
    /// One alone could not have so much.
    Never,
}

/// Someone who holds bytes, and the group to which it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Holder<K, G> {
    pub(crate) own: K,
    pub(crate) group: G,
}

/// What one holder has.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Bytes of what is set aside.
    floor: u64,
    /// Bytes of what is common.
    common: u64,
}

#[derive(Debug)]
pub(crate) struct Ledger<K, G> {
    /// Bytes that are common.
    common: u64,
    /// Bytes that are set aside for floors.
    floors: u64,
    /// Bytes of a holder's floor.
    floor: u64,
    common_taken: u64,
    floors_taken: u64,
    held: HashMap<Holder<K, G>, Held>,
    /// What groups hold of what is common.
    groups: HashMap<G, u64>,
}

impl<K: Clone + Eq + Hash, G: Clone + Eq + Hash> Ledger<K, G> {
    /// `whole`: bytes that all holders together may have. `holders`: how many may have their floors at a time.
    pub(crate) fn new(whole: u64, holders: u64) -> Self {
        let floors = whole / FLOORS_SHARE;
        Self {
            common: whole - floors,
            floors,
            floor: floors / holders.max(1),
            common_taken: 0,
            floors_taken: 0,
            held: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// Bytes that are set aside for floors.
    pub(crate) fn floors(&self) -> u64 {
        self.floors
    }

    /// Bytes that all holders together have.
    pub(crate) fn taken(&self) -> u64 {
        self.common_taken + self.floors_taken
    }

    /// Bytes that one alone can have.
    pub(crate) fn most(&self) -> u64 {
        self.floor + self.common - self.common.div_ceil(TIMES_THE_REST + 1)
    }

    /// Holders that have anything.
    pub(crate) fn holders(&self) -> usize {
        self.held.len()
    }

    /// Gives `holder` so many bytes more, or nothing.
    pub(crate) fn take(&mut self, holder: &Holder<K, G>, bytes: u64) -> Result<(), Full> {
        if bytes > self.most() {
            return Err(Full::Never);
        }
        let had = self.held.get(holder).copied().unwrap_or_default();
        let of_floor = bytes.min(self.floor - had.floor).min(self.floors - self.floors_taken);
        let of_common = bytes - of_floor;
        if of_common > 0 {
            let left = (self.common - self.common_taken).saturating_sub(of_common);
            // What the holder has of it itself is in its group's.
            let before = self.groups.get(&holder.group).copied().unwrap_or_default();
            if before + of_common > left.saturating_mul(TIMES_THE_REST) {
                return Err(if before > 0 { Full::Share } else { Full::Whole });
            }
            self.common_taken += of_common;
            *self.groups.entry(holder.group.clone()).or_default() += of_common;
        }
        self.floors_taken += of_floor;
        if bytes > 0 {
            let held = self.held.entry(holder.clone()).or_default();
            held.floor += of_floor;
            held.common += of_common;
        }
        Ok(())
    }

    /// Takes bytes back, no more than `holder` has. What is common is given back first.
    pub(crate) fn give(&mut self, holder: &Holder<K, G>, bytes: u64) {
        let Some(held) = self.held.get_mut(holder) else { return };
        let of_common = bytes.min(held.common);
        let of_floor = (bytes - of_common).min(held.floor);
        held.common -= of_common;
        held.floor -= of_floor;
        if held.common == 0 && held.floor == 0 {
            self.held.remove(holder);
        }
        self.common_taken -= of_common;
        self.floors_taken -= of_floor;
        if of_common > 0
            && let Some(of_group) = self.groups.get_mut(&holder.group)
        {
            *of_group -= of_common;
            if *of_group == 0 {
                self.groups.remove(&holder.group);
            }
        }
    }
}

#[cfg(test)]
mod tests;
