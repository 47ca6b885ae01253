//! How entries come in and go out, so that queues, shares and sums agree.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use super::queue::{Entry, Order, Place, Queue};
use super::{ModelId, SWEEP_PAUSE, Scheduler};

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    /// Puts an entry where it waits.
    pub(super) fn attach(&mut self, key: (ModelId, K), order: Order, entry: Entry<T>) {
        let flow = self.shares.open(&entry.standing, order.priority);
        let number = match self.by_bucket.get(&key) {
            Some(queue) => *queue,
            None => {
                let queue = self.number();
                self.queues.insert(queue, Queue::new(key.0, key.1.clone()));
                self.by_bucket.insert(key.clone(), queue);
                queue
            }
        };
        let Some(queue) = self.queues.get_mut(&number) else { return };
        self.waiting.add(entry.bytes, entry.work);
        *self.waiting_of.entry((key.0, order.priority)).or_default() += 1;
        let (before, of) = (queue.head(flow), (number, entry.bytes, entry.work));
        queue.insert(flow, order, entry);
        let after = queue.head(flow);
        self.shares.add(flow, order, of);
        self.shares.rehead(flow, number, before, after);
    }

    /// Takes an entry out; an empty queue is forgotten.
    pub(super) fn detach(&mut self, place: Place) -> Option<Entry<T>> {
        let Place { flow, queue: number, order } = place;
        let queue = self.queues.get_mut(&number)?;
        let before = queue.head(flow);
        let entry = queue.remove(flow, &order)?;
        let (after, model, is_empty) = (queue.head(flow), queue.model(), queue.len() == 0);
        if is_empty && let Some(queue) = self.queues.remove(&number) {
            self.by_bucket.remove(&queue.into_key());
        }
        self.waiting.remove(entry.bytes, entry.work);
        if let Some(count) = self.waiting_of.get_mut(&(model, order.priority)) {
            *count -= 1;
            if *count == 0 {
                self.waiting_of.remove(&(model, order.priority));
            }
        }
        self.shares.remove(flow, order, (entry.bytes, entry.work));
        self.shares.rehead(flow, number, before, after);
        Some(entry)
    }

    pub(super) fn detach_all(&mut self, places: Vec<Place>) -> Vec<T> {
        places.into_iter().filter_map(|place| Some(self.detach(place)?.payload)).collect()
    }

    /// All that waits, in the order of the entries alone.
    pub(super) fn places(&self) -> Vec<Place> {
        let of_flow = |(flow, of): (u64, &super::shares::Flow)| -> Vec<Place> {
            of.ranked.iter().map(|(order, (queue, _))| Place { flow, queue: *queue, order: *order }).collect()
        };
        let mut places: Vec<Place> = self.shares.flows().flat_map(of_flow).collect();
        places.sort_unstable_by_key(|place| place.order);
        places
    }

    pub(super) fn places_of(&self, model: ModelId) -> Vec<Place> {
        let of_model = self.queues.iter().filter(|(_, queue)| queue.model() == model);
        let places = of_model.flat_map(|(number, queue)| {
            queue.iter().map(|(flow, order, _)| Place { flow, queue: *number, order: *order })
        });
        let mut places: Vec<Place> = places.collect();
        places.sort_unstable_by_key(|place| place.order);
        places
    }

    /// Takes out all that waits: nothing more will be computed.
    pub fn drain(&mut self) -> Vec<T> {
        let all = self.places();
        self.detach_all(all)
    }

    /// Takes out what nobody waits for any more, so that it takes up no room. It looks at all that waits, so it does
    /// nothing if it has just done that.
    pub fn sweep(&mut self, now: Instant, is_gone: impl Fn(&T) -> bool) -> Vec<T> {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_PAUSE) {
            return Vec::new();
        }
        self.swept = Some(now);
        let mut places = self.places();
        places.retain(|place| {
            let queue = self.queues.get(&place.queue);
            let entry = queue.and_then(|queue| queue.get(place.flow, &place.order));
            entry.is_some_and(|entry| is_gone(&entry.payload))
        });
        self.detach_all(places)
    }

    /// How many entries wait.
    pub fn queued(&self) -> usize {
        self.waiting.entries
    }

    /// Entries that wait, by model; a model of which nothing waits is not in it.
    pub fn queued_by_model(&self) -> HashMap<ModelId, usize> {
        let mut queued = HashMap::new();
        for queue in self.queues.values() {
            *queued.entry(queue.model()).or_default() += queue.len();
        }
        queued
    }
}
