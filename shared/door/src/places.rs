//! Places of connections that have shown that they are real, in fair shares. Pure.
//!
//! While there is room, anyone may take it. When all places are taken, whoever holds the most gives one up for a newcomer who
//! holds fewer: first among parties, then among the holders of that party; one of its quiet ones at random, so that who
//! waits behind a long line leaves no more likely than anyone else. A connection that is being served leaves only for a
//! newcomer whose side would still have fewer, so that nothing goes back and forth.

use std::collections::HashMap;

use fastrand::Rng;

use super::holder::{Holder, Party};

/// Part of all places that those of whom nothing is known may ask of the others: room for a client to show its token, and
/// not more, since anyone can be nobody.
const OF_NOBODY: usize = 8;

#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    next: u64,
    taken: HashMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    holder: Holder,
    /// Whether its peer owes us something; not so while it is being served.
    is_quiet: bool,
    /// Whether its peer has said how it will ask, and may be waiting for something to happen.
    has_greeted: bool,
}

/// Outcome for a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A place was free, and is the newcomer's.
    Seated(u64),
    /// The newcomer has the place `seat`; the one of `left` was taken away.
    Displaced { seat: u64, left: u64, why: Why },
    /// Nobody holds more, and nobody who may be displaced is quiet.
    Full,
}

/// Reason why a place was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its peer was quiet.
    Quiet,
    /// Its holder had more than its share.
    Share,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, next: 0, taken: HashMap::new() }
    }

    /// Place for a newcomer, who is quiet at first.
    pub(crate) fn admit(&mut self, holder: Holder, rng: &mut Rng) -> Admission {
        let left = match self.taken.len() < self.most {
            true => None,
            false => match self.who_leaves(&holder, rng) {
                Some(left) => Some(left),
                None => return Admission::Full,
            },
        };
        let seat = self.next;
        self.next += 1;
        if let Some((left, _)) = left {
            self.taken.remove(&left);
        }
        self.taken.insert(seat, Place { holder, is_quiet: true, has_greeted: false });
        match left {
            None => Admission::Seated(seat),
            Some((left, why)) => Admission::Displaced { seat, left, why },
        }
    }

    fn who_leaves(&self, newcomer: &Holder, rng: &mut Rng) -> Option<(u64, Why)> {
        let shares = Shares::of(&self.taken, self.most, newcomer);
        let asked: Vec<_> = self.taken.iter().filter_map(|(seat, place)| shares.ask(*seat, place)).collect();
        let first = asked.iter().map(|asked| asked.rank).max()?;
        let first: Vec<_> = asked.iter().filter(|asked| asked.rank == first).collect();
        let asked = first.get(rng.usize(..first.len()))?;
        Some((asked.seat, if asked.rank.is_quiet { Why::Quiet } else { Why::Share }))
    }

    /// Takes a quiet one away at random, whoever holds it.
    pub(crate) fn shed(&mut self, rng: &mut Rng) -> Option<u64> {
        let quiet = self.taken.iter().filter(|(_, place)| place.is_quiet);
        let quiet: Vec<u64> = quiet.map(|(number, _)| *number).collect();
        let left = *quiet.get(rng.usize(..quiet.len().max(1)))?;
        self.taken.remove(&left);
        Some(left)
    }

    /// Those who have said nothing, or have what they asked for.
    pub(crate) fn quiet(&self) -> Vec<u64> {
        let quiet = self.taken.iter().filter(|(_, place)| place.is_quiet && !place.has_greeted);
        quiet.map(|(number, _)| *number).collect()
    }

    /// Notes that a peer has said how it will ask: it waits for its end with those who are served, and still leaves for
    /// another as one who is quiet, for anyone can greet.
    pub(crate) fn greet(&mut self, seat: u64) {
        if let Some(place) = self.taken.get_mut(&seat) {
            place.has_greeted = true;
        }
    }

    pub(crate) fn set_quiet(&mut self, seat: u64, is_quiet: bool) {
        if let Some(place) = self.taken.get_mut(&seat) {
            place.is_quiet = is_quiet;
        }
    }

    /// Charges a place to those who have shown a right, though no certificate.
    pub(crate) fn vouch(&mut self, seat: u64) {
        if let Some(place) = self.taken.get_mut(&seat)
            && let Holder::Somebody(block) = place.holder
        {
            place.holder = Holder::Vouched(block);
        }
    }

    pub(crate) fn leave(&mut self, seat: u64) {
        self.taken.remove(&seat);
    }
}

/// How many places each party and each holder has, as a newcomer finds them.
struct Shares<'a> {
    newcomer: &'a Holder,
    /// Places of a party, and how many holders it has.
    parties: HashMap<Party<'a>, (usize, usize)>,
    holders: HashMap<&'a Holder, usize>,
    /// What the newcomer's party and the newcomer would have.
    ours: usize,
    mine: usize,
    /// Whether the newcomer's party may ask others for theirs.
    may_ask: bool,
}

/// A place that may be asked for.
struct Asked {
    seat: u64,
    rank: Rank,
}

/// Who is asked first: the side with the most places; in it the holders that have no less than is usual there; of these
/// a quiet place; and of the holder with the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    party: usize,
    is_over: bool,
    is_quiet: bool,
    holder: usize,
}

impl<'a> Shares<'a> {
    fn of(taken: &'a HashMap<u64, Place>, most: usize, newcomer: &'a Holder) -> Self {
        let mut holders: HashMap<&Holder, usize> = HashMap::new();
        for place in taken.values() {
            *holders.entry(&place.holder).or_default() += 1;
        }
        let mut parties: HashMap<Party<'_>, (usize, usize)> = HashMap::new();
        for (holder, count) in &holders {
            let (places, members) = parties.entry(holder.party()).or_default();
            *places += count;
            *members += 1;
        }
        let ours = parties.get(&newcomer.party()).map_or(1, |(places, _)| places + 1);
        let mine = holders.get(newcomer).map_or(1, |count| count + 1);
        let may_ask = newcomer.party() != Party::Somebody || ours * OF_NOBODY <= most;
        Self { newcomer, parties, holders, ours, mine, may_ask }
    }

    fn ask(&self, seat: u64, place: &Place) -> Option<Asked> {
        let party = place.holder.party();
        let (theirs, members) = *self.parties.get(&party)?;
        let its = *self.holders.get(&place.holder)?;
        let is_quiet = place.is_quiet;
        let is_own = place.holder.is_one_with(self.newcomer);
        let (is_asked, theirs) = match (party == self.newcomer.party(), is_own) {
            (_, true) => (is_quiet, self.ours),
            (true, false) => (its > self.mine || its == self.mine && is_quiet, self.ours),
            // Somebody who waits for nothing makes room for one who is known.
            (false, _) => {
                let yields = is_quiet && party == Party::Somebody && theirs == self.ours;
                (self.may_ask && theirs > self.ours || yields, theirs)
            }
        };
        let rank = Rank { party: theirs, is_over: its * members >= theirs, is_quiet, holder: its };
        is_asked.then_some(Asked { seat, rank })
    }
}

#[cfg(test)]
mod tests;
