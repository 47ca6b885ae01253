//! Entries of one model and bucket, in order, by whose they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ModelId;
use crate::principal::Standing;

/// Which of one principal's entries is served first: priority, then deadline, then arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) priority: u8,
    pub(super) deadline: Instant,
    /// A number that no other entry has.
    pub(super) number: u64,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) standing: Arc<Standing>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// The entry's share of the time of a good batch.
    pub(super) work: Duration,
    pub(super) arrived: Instant,
    pub(super) payload: T,
}

/// Where an entry waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) flow: u64,
    pub(super) queue: u64,
    pub(super) order: Order,
}

type Part<T> = BTreeMap<Order, Entry<T>>;

#[derive(Debug)]
pub(super) struct Queue<K, T> {
    model: ModelId,
    bucket: K,
    /// By flow; none is empty.
    parts: BTreeMap<u64, Part<T>>,
    rows: usize,
    len: usize,
}

impl<K: Clone, T> Queue<K, T> {
    pub(super) fn key(&self) -> (ModelId, K) {
        (self.model, self.bucket.clone())
    }
}

impl<K, T> Queue<K, T> {
    pub(super) fn new(model: ModelId, bucket: K) -> Self {
        Self { model, bucket, parts: BTreeMap::new(), rows: 0, len: 0 }
    }

    pub(super) fn into_key(self) -> (ModelId, K) {
        (self.model, self.bucket)
    }

    pub(super) fn model(&self) -> ModelId {
        self.model
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn head(&self, flow: u64) -> Option<Order> {
        self.first(flow).map(|(order, _)| *order)
    }

    pub(super) fn first(&self, flow: u64) -> Option<(&Order, &Entry<T>)> {
        self.parts.get(&flow)?.first_key_value()
    }

    pub(super) fn flows(&self) -> impl ExactSizeIterator<Item = u64> {
        self.parts.keys().copied()
    }

    /// Each entry with its flow: a flow's own in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Order, &Entry<T>)> {
        self.parts.iter().flat_map(|(flow, part)| part.iter().map(|(order, entry)| (*flow, order, entry)))
    }

    /// Each entry, by its order alone.
    pub(super) fn in_order(&self) -> Vec<(&Order, &Entry<T>)> {
        let mut all: Vec<_> = self.parts.values().flatten().collect();
        if self.parts.len() > 1 {
            all.sort_unstable_by_key(|(order, _)| **order);
        }
        all
    }

    pub(super) fn get(&self, flow: u64, order: &Order) -> Option<&Entry<T>> {
        self.parts.get(&flow)?.get(order)
    }

    pub(super) fn insert(&mut self, flow: u64, order: Order, entry: Entry<T>) {
        self.rows += entry.rows;
        self.len += 1;
        self.parts.entry(flow).or_default().insert(order, entry);
    }

    pub(super) fn remove(&mut self, flow: u64, order: &Order) -> Option<Entry<T>> {
        let part = self.parts.get_mut(&flow)?;
        let entry = part.remove(order)?;
        if part.is_empty() {
            self.parts.remove(&flow);
        }
        self.rows -= entry.rows;
        self.len -= 1;
        Some(entry)
    }
}

/// All that waits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) work: Duration,
}

impl Waiting {
    pub(super) fn add(&mut self, bytes: usize, work: Duration) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.work = self.work.saturating_add(work);
    }

    pub(super) fn remove(&mut self, bytes: usize, work: Duration) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.work = self.work.saturating_sub(work);
    }

    /// Counts `after` in place of `before`, which was counted.
    pub(super) fn replace(&mut self, before: Self, after: Self) {
        self.entries = self.entries.saturating_sub(before.entries).saturating_add(after.entries);
        self.bytes = self.bytes.saturating_sub(before.bytes).saturating_add(after.bytes);
        self.work = self.work.saturating_sub(before.work).saturating_add(after.work);
    }
}
