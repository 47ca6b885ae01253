//! Entries of one model and bucket, in order.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::ModelId;

/// Who is served first: priority, then deadline, then arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) priority: u8,
    pub(super) deadline: Instant,
    /// A number that no other entry has.
    pub(super) number: u64,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// The entry's share of the time of a good batch.
    pub(super) work: Duration,
    pub(super) arrived: Instant,
    pub(super) payload: T,
}

#[derive(Debug)]
pub(super) struct Queue<K, T> {
    model: ModelId,
    bucket: K,
    entries: BTreeMap<Order, Entry<T>>,
    rows: usize,
}

impl<K: Clone, T> Queue<K, T> {
    pub(super) fn new(model: ModelId, bucket: K) -> Self {
        Self { model, bucket, entries: BTreeMap::new(), rows: 0 }
    }

    pub(super) fn key(&self) -> (ModelId, K) {
        (self.model, self.bucket.clone())
    }
}

impl<K, T> Queue<K, T> {
    pub(super) fn model(&self) -> ModelId {
        self.model
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn head(&self) -> Option<Order> {
        self.entries.first_key_value().map(|(order, _)| *order)
    }

    pub(super) fn first(&self) -> Option<(&Order, &Entry<T>)> {
        self.entries.first_key_value()
    }

    /// The next after one that is passed over; the first if none is.
    pub(super) fn after(&self, passed: Option<Order>) -> Option<(&Order, &Entry<T>)> {
        match passed {
            None => self.first(),
            Some(passed) => self.entries.range((Bound::Excluded(passed), Bound::Unbounded)).next(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Order, &Entry<T>)> {
        self.entries.iter()
    }

    pub(super) fn get(&self, order: &Order) -> Option<&Entry<T>> {
        self.entries.get(order)
    }

    pub(super) fn insert(&mut self, order: Order, entry: Entry<T>) {
        self.rows += entry.rows;
        self.entries.insert(order, entry);
    }

    pub(super) fn remove(&mut self, order: &Order) -> Option<Entry<T>> {
        let entry = self.entries.remove(order)?;
        self.rows -= entry.rows;
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
}
