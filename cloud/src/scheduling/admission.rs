//! Who is let in.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::queue::{Order, Waiting};
use super::{ModelId, MostWaiting, Refusal, Scheduler};

/// Entries looked at to tell how much stands before a newcomer.
const LOOKED_AT: usize = 64;
/// No retry is asked for sooner: a refused call has cost both sides about this much already.
const SHORTEST_RETRY: Duration = Duration::from_millis(1);

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    /// Whether something could be in time; optimistic.
    pub(super) fn foresee(&self, now: Instant, order: &Order, alone: Duration) -> Result<(), Refusal> {
        let in_time = |wait: Duration| {
            let end = now.checked_add(wait).and_then(|start| start.checked_add(alone));
            end.is_some_and(|end| end <= order.deadline)
        };
        if !in_time(Duration::ZERO) {
            return Err(Refusal::TooShort);
        }
        if self.running.len() < self.limits.workers && self.ranked.is_empty() {
            return Ok(());
        }
        let under_way = self.running.values().map(|end| end.saturating_duration_since(now));
        let under_way: Duration = under_way.fold(Duration::ZERO, Duration::saturating_add);
        let before = self.before(order).saturating_sub(self.held_before(order));
        let wait = under_way.saturating_add(before) / self.limits.workers.max(1) as u32;
        if in_time(wait) { Ok(()) } else { Err(Refusal::Hopeless) }
    }

    /// Work that would be done first. Most newcomers are last or nearly so; for one that is neither last nor first
    /// among many the least it can be is taken.
    fn before(&self, order: &Order) -> Duration {
        let mut after = Duration::ZERO;
        for (at, (other, (_, work))) in self.ranked.iter().rev().enumerate() {
            if other < order {
                return self.waiting.work.saturating_sub(after);
            }
            if at >= LOOKED_AT {
                let first = self.ranked.iter().take(LOOKED_AT).take_while(|(other, _)| *other < order);
                return first.map(|(_, (_, work))| *work).sum();
            }
            after = after.saturating_add(*work);
        }
        Duration::ZERO
    }

    /// Whether no more of a model may wait at a priority.
    pub(super) fn is_full(&self, model: ModelId, priority: u8) -> bool {
        let waiting = |priorities: std::ops::RangeInclusive<u8>| -> usize {
            let (first, last) = priorities.into_inner();
            self.waiting_of.range((model, first)..=(model, last)).map(|(_, count)| count).sum()
        };
        match self.models.get(&model).map(|profile| &profile.most_waiting) {
            None | Some(MostWaiting::Unbounded) => false,
            Some(MostWaiting::All(most)) => waiting(0..=u8::MAX) >= *most,
            Some(MostWaiting::ByPriority(most)) => {
                most.get(&priority).is_some_and(|most| waiting(priority..=priority) >= *most)
            }
        }
    }

    /// Room for a newcomer, at the cost of those of lower priority: the lowest, then the latest, first.
    pub(super) fn make_room(
        &mut self,
        order: &Order,
        bytes: usize,
        work: Duration,
    ) -> Result<Vec<T>, Refusal> {
        // Nobody is sent away unless that makes room enough.
        let mut left = self.waiting;
        let mut victims = Vec::new();
        let mut lowest = self.ranked.iter().rev();
        while let Some(why) = self.over(left, bytes, work) {
            let Some((last, (queue, _))) = lowest.next().filter(|(last, _)| last.priority > order.priority)
            else {
                return Err(why);
            };
            let Some(entry) = self.queues.get(queue).and_then(|queue| queue.get(last)) else {
                return Err(why);
            };
            left.remove(entry.bytes, entry.work);
            victims.push((*queue, *last));
        }
        Ok(victims.into_iter().filter_map(|(queue, last)| self.remove(queue, last)).collect())
    }

    fn over(&self, waiting: Waiting, bytes: usize, work: Duration) -> Option<Refusal> {
        // Whatever its size, one may always wait.
        if waiting.entries == 0 {
            return None;
        }
        if waiting.entries >= self.limits.entries {
            Some(Refusal::Full)
        } else if waiting.bytes.saturating_add(bytes) > self.limits.bytes {
            Some(Refusal::Bytes)
        } else if waiting.work.saturating_add(work) > self.limits.work {
            Some(Refusal::Work)
        } else {
            None
        }
    }

    /// About how long half the queue takes: a caller that comes back then finds room.
    pub(super) fn retry_after(&self) -> Duration {
        (self.backlog() / 2).max(SHORTEST_RETRY)
    }
}
