//! Changes that no disk has taken yet, in a bounded memory. Pure.
//!
//! What is decided meanwhile is delivered all the same, and then only its key and mark are worth room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::change::{Change, Post};
use super::{Key, Remembered};

/// Changes that are held at most, and their bytes.
const MOST: usize = 100_000;
const MOST_BYTES: usize = 32 << 20;
/// What a change takes beside its text, about, in bytes.
const OVERHEAD: usize = 200;

/// Changes in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By the order in which they came; what is left of one takes its place, in parts.
    changes: BTreeMap<(u64, u32), Change>,
    next: u64,
    bytes: usize,
    /// Where the record of a number of the outbox stands.
    posts: HashMap<u64, u64>,
}

impl Held {
    /// Takes a change; false if there is no room for it: then nobody will know of it after a restart.
    #[must_use]
    pub(super) fn push(&mut self, change: Change) -> bool {
        if let Change::Delivered { number, gone } = &change
            && let Some(at) = self.posts.remove(number)
        {
            self.deliver(at, gone);
            return true;
        }
        let bytes = size(&change);
        if self.changes.len() >= MOST || self.bytes + bytes > MOST_BYTES {
            return false;
        }
        if let Change::Post { number, .. } | Change::Amended { number, .. } = &change {
            self.posts.insert(*number, self.next);
        }
        self.put((self.next, 0), change);
        self.next += 1;
        true
    }

    /// The record at a place has been delivered: what is left of it takes its place.
    fn deliver(&mut self, at: u64, gone: &[(Arc<str>, Key)]) {
        let Some(change) = self.changes.remove(&(at, 0)) else { return };
        self.bytes -= size(&change);
        let left = match change {
            Change::Post { post: Post { id, of, .. }, awaits, .. } => {
                let is_gone =
                    |of: &Remembered| gone.iter().any(|(source, key)| *source == of.source && *key == of.key);
                let (gone, stays): (Vec<_>, Vec<_>) = of.into_iter().partition(is_gone);
                // They may have been known before, by other marks.
                let forget = |Remembered { source, key, .. }| Change::Forget { source, key };
                let stays = (!stays.is_empty()).then_some(Change::Remembered { of: stays });
                let awaits = awaits.then(|| Change::Awaits { ids: vec![id] });
                gone.into_iter().map(forget).chain(stays).chain(awaits).collect()
            }
            Change::Amended { post, .. } => vec![Change::Closed { ids: vec![post.id] }],
            other => vec![other],
        };
        for (part, change) in (0..).zip(left) {
            self.put((at, part), change);
        }
    }

    fn put(&mut self, at: (u64, u32), change: Change) {
        self.bytes += size(&change);
        self.changes.insert(at, change);
    }

    /// The first so many.
    pub(super) fn first(&self, count: usize) -> Vec<&Change> {
        self.changes.values().take(count).collect()
    }

    /// Lets the first so many go: they are on a disk.
    pub(super) fn release(&mut self, count: usize) {
        for _ in 0..count {
            let Some((_, change)) = self.changes.pop_first() else { return };
            self.bytes -= size(&change);
            if let Change::Post { number, .. } | Change::Amended { number, .. } = &change {
                self.posts.remove(number);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Bytes that a change takes, about.
fn size(change: &Change) -> usize {
    let remembered = |of: &[Remembered]| {
        of.iter().map(|of| of.key.as_bytes().len() + of.mark.as_bytes().len() + OVERHEAD).sum::<usize>()
    };
    let ids = |ids: &[String]| ids.iter().map(|id| id.len() + OVERHEAD).sum::<usize>();
    OVERHEAD
        + match change {
            Change::Forget { key, .. } => key.as_bytes().len(),
            Change::Renewed { key, mark, .. } => key.as_bytes().len() + mark.as_bytes().len(),
            Change::Post { post, .. } | Change::Amended { post, .. } => {
                post.line.len() + post.id.len() + remembered(&post.of)
            }
            Change::Delivered { gone, .. } => {
                gone.iter().map(|(_, key)| key.as_bytes().len() + OVERHEAD).sum()
            }
            Change::Remembered { of } => remembered(of),
            Change::Awaits { ids: of } | Change::Closed { ids: of } | Change::Pruned { ids: of } => ids(of),
        }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::super::state::State;
    use super::*;

    fn post(number: u64, key: u64, awaits: bool) -> Change {
        let source: Arc<str> = "cam".into();
        let of =
            vec![Remembered { source, key: Key::new(key.to_string()), mark: Mark::new(number.to_string()) }];
        let post = Post { id: format!("id-{number}"), version: 1, line: vec![b'x'; 1000], of };
        Change::Post { number, post, awaits }
    }

    /// Whatever is held and left out of it, the journal is in the end what it would have been.
    #[test]
    fn what_is_held_comes_to_the_same_as_what_came() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut held, mut truth) = (Held::default(), State::default());
            let mut out: Vec<(u64, u64)> = Vec::new();
            for number in 0..random.u64(1..60) {
                let mut changes = Vec::new();
                match random.u8(0..6) {
                    0..=2 => {
                        out.push((number, number));
                        changes.push(post(number, number, random.bool()));
                    }
                    3 if !out.is_empty() => {
                        let (number, key) = out.swap_remove(random.usize(..out.len()));
                        let gone = random.bool().then(|| ("cam".into(), Key::new(key.to_string())));
                        changes.push(Change::Delivered { number, gone: gone.into_iter().collect() });
                    }
                    4 => changes.push(Change::Closed { ids: vec![format!("id-{}", random.u64(..=number))] }),
                    _ => changes.push(Change::Forget {
                        source: "cam".into(),
                        key: Key::new((number + 1000).to_string()),
                    }),
                }
                for change in changes {
                    truth.apply(change.clone());
                    assert!(held.push(change));
                }
            }
            let mut state = State::default();
            held.first(usize::MAX).into_iter().for_each(|change| state.apply(change.clone()));
            assert_eq!(state, truth, "seed {seed}");
        }
    }

    #[test]
    fn room_is_bounded_and_what_is_delivered_takes_little_of_it() {
        let mut held = Held::default();
        let mut taken = 0;
        for number in 0..MOST as u64 {
            let before = held.bytes;
            if !held.push(post(number, number, false)) {
                break;
            }
            taken += 1;
            assert!(held.bytes > before && held.bytes <= MOST_BYTES);
        }
        assert!(taken < MOST as u64 && held.len() == taken as usize);
        for number in 0..taken {
            assert!(held.push(Change::Delivered { number, gone: Vec::new() }));
        }
        assert!(held.bytes < MOST_BYTES / 2, "{}", held.bytes);
        held.release(taken as usize - 1);
        assert_eq!(held.len(), 1);
        held.release(7);
        assert!(held.is_empty() && held.bytes == 0 && held.posts.is_empty());
    }
}
