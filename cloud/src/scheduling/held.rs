//! Models whose runs do not end in time: they get no further worker until those runs are over, and only so many of
//! their entries may wait, so that they take neither workers nor room from others.

use std::hash::Hash;
use std::time::Duration;

use super::queue::Order;
use super::{ModelId, Scheduler, Started};

/// The part of all entries that may wait for a held model, one in so many.
const SHARE: usize = 8;

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    /// Gives no worker to a model until it is released. Gives back what waits for it beyond its part of the room, the
    /// latest first.
    pub fn hold(&mut self, model: ModelId) -> Vec<T> {
        if !self.models.contains_key(&model) || !self.held.insert(model) {
            return Vec::new();
        }
        let most = self.most_held();
        let mut waiting = self.places_of(model);
        let mut over = waiting.split_off(most.min(waiting.len()));
        over.reverse();
        self.detach_all(over)
    }

    /// Gives workers to a model again.
    pub fn release(&mut self, model: ModelId) {
        self.held.remove(&model);
    }

    /// A batch that has taken too long no longer counts as one under way: another worker has taken the place of its own.
    pub fn leave(&mut self, started: &Started) {
        self.running.remove(&started.id);
    }

    /// How many entries wait that a worker could be given.
    pub fn queued_for_workers(&self) -> usize {
        let held = self.queues.values().filter(|queue| self.held.contains(&queue.model()));
        self.waiting.entries - held.map(|queue| queue.len()).sum::<usize>()
    }

    /// Whether no more may wait for a model, since it is held.
    pub(super) fn is_held_full(&self, model: ModelId) -> bool {
        self.held.contains(&model) && {
            let of_model = self.queues.values().filter(|queue| queue.model() == model);
            of_model.map(|queue| queue.len()).sum::<usize>() >= self.most_held()
        }
    }

    /// The work that stands before a newcomer and waits for held models: no worker will do it first.
    pub(super) fn held_before(&self, order: &Order) -> Duration {
        if self.held.is_empty() {
            return Duration::ZERO;
        }
        let held = self.queues.values().filter(|queue| self.held.contains(&queue.model()));
        let before = held.flat_map(|queue| queue.iter().filter(|(_, other, _)| *other < order));
        before.map(|(_, _, entry)| entry.work).sum()
    }

    fn most_held(&self) -> usize {
        (self.limits.entries / SHARE).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::tests::usual;
    use super::super::{Curve, Limits, Offer, Profile, Refusal};
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn scheduler() -> (Scheduler<u8, u32>, ModelId, ModelId) {
        let limits =
            Limits { workers: 1, entries: 16, bytes: 1 << 20, work: 100 * MILLI, longest_batch: 20 * MILLI };
        let mut scheduler = Scheduler::new(limits);
        let mut add = || scheduler.add_model(Profile::alone(Curve::new([(1, MILLI / 10)])));
        let (bad, good) = (add(), add());
        (scheduler, bad, good)
    }

    #[test]
    fn a_held_model_gets_no_worker_and_little_room_until_it_is_released() {
        let (mut scheduler, bad, good) = scheduler();
        let now = Instant::now();
        let offer = |scheduler: &mut Scheduler<u8, u32>, model, payload: u32| {
            let deadline = now + MILLI * (50 + payload);
            let offer =
                Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 128, deadline, standing: usual() };
            scheduler.offer(now, offer, payload).map(|_| ()).map_err(|refused| refused.why)
        };
        for payload in 0..6 {
            offer(&mut scheduler, bad, payload).unwrap();
        }
        let started = scheduler.take(now, |_| false).batch.unwrap().started;
        scheduler.leave(&started);
        assert_eq!((scheduler.hold(bad), scheduler.running()), (vec![5, 4, 3], 0), "two of sixteen may wait");
        assert_eq!(scheduler.hold(bad), Vec::<u32>::new());
        assert_eq!(offer(&mut scheduler, bad, 7), Err(Refusal::Held));
        offer(&mut scheduler, good, 9).unwrap();
        assert_eq!((scheduler.queued(), scheduler.queued_for_workers()), (3, 1));
        let batch = scheduler.take(now, |_| false).batch.unwrap();
        assert_eq!((batch.started.model, batch.entries), (good, vec![9]));
        assert!(scheduler.take(now, |_| false).batch.is_none());
        // What is late leaves all the same.
        assert_eq!(scheduler.take(now + 51 * MILLI, |_| false).expired, [1]);
        scheduler.release(bad);
        assert_eq!(scheduler.take(now, |_| false).batch.unwrap().entries, [2]);
    }

    #[test]
    fn a_held_model_that_is_removed_is_forgotten() {
        let (mut scheduler, bad, _) = scheduler();
        scheduler.hold(bad);
        scheduler.remove_model(bad);
        assert!(scheduler.held.is_empty() && scheduler.hold(bad).is_empty() && scheduler.held.is_empty());
    }
}
