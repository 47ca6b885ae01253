//! How large a batch is, and who is in it.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::queue::{Entry, Order, Queue};
use super::{Batch, Profile, Scheduler, Started, limits};

/// What has waited for most of its time is computed only if it takes this much less than is left: a batch's time
/// varies, and what would end just in time ends late as often as not.
const MARGIN: f64 = 1.1;
/// Dropping an entry is allowed only if the batch then serves this factor more rows in the same time.
const WORTH_LOSING: f64 = 1.1;
/// Entries looked at beyond a batch's size, to tell how many of them it would serve.
const LOOKED_AT: usize = 64;

/// Whether an entry has waited for more than half of its time, so that more is asked than can be done: workers are never idle
/// meanwhile.
fn is_pressed<T>(now: Instant, order: &Order, entry: &Entry<T>) -> bool {
    now.saturating_duration_since(entry.arrived) > order.deadline.saturating_duration_since(now)
}

/// Time to leave for something that should take `expected`.
pub(super) fn needed<T>(now: Instant, order: &Order, entry: &Entry<T>, expected: Duration) -> Duration {
    if is_pressed(now, order, entry) { expected.mul_f64(MARGIN) } else { expected }
}

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    /// Rows worth computing together.
    pub(super) fn most(&self, profile: &Profile) -> usize {
        let most = profile.curve.knee().min(profile.most_rows).max(1);
        let fits = |rows: usize| profile.curve.expected(rows) <= self.limits.longest_batch;
        (0..=most.ilog2())
            .rev()
            .map(|power| (1 << power).min(most))
            .chain([1])
            .fold(1, |best, rows| if rows > best && fits(rows) { rows } else { best })
    }

    /// Takes a batch out of a queue whose head can be in time, alone at least.
    pub(super) fn form(
        &mut self,
        now: Instant,
        queue: u64,
        is_gone: &mut impl FnMut(&T) -> bool,
        expired: &mut Vec<T>,
        gone: &mut Vec<T>,
    ) -> Option<Batch<T>> {
        let found = self.queues.get(&queue)?;
        let model = found.model();
        let profile = self.models.get(&model)?;
        let (most, lets_down) = self.size(now, found, profile);
        let all_in_time = profile.curve.expected(most);
        let mut entries = Vec::new();
        let mut rows = 0;
        let mut passed: Option<Order> = None;
        while let Some((order, next)) = self.queues.get(&queue).and_then(|queue| queue.after(passed)) {
            if !entries.is_empty() && rows + next.rows > most {
                break;
            }
            let order = *order;
            let is_late = |expected| {
                let needed = needed(now, &order, next, expected);
                now.checked_add(needed).is_none_or(|end| end > order.deadline)
            };
            let abandoned = !entries.is_empty() && is_gone(&next.payload);
            let late = !entries.is_empty() && is_late(self.models.get(&model)?.curve.expected(next.rows));
            let let_down = lets_down && is_late(all_in_time);
            if let_down && !abandoned && !late && !is_pressed(now, &order, next) {
                // It came late and is in a hurry by itself: its turn is next.
                passed = Some(order);
                continue;
            }
            let next_rows = next.rows;
            let payload = self.remove(queue, order)?;
            if abandoned {
                gone.push(payload);
            } else if late || let_down {
                expired.push(payload);
            } else {
                rows += next_rows;
                entries.push(payload);
            }
        }
        if entries.is_empty() {
            return None;
        }
        let expected = self.models.get(&model)?.curve.expected(rows);
        let id = self.number();
        self.ran.insert(model, now);
        self.running.insert(id, now.checked_add(expected).unwrap_or(now));
        Some(Batch { started: Started { model, rows, id }, entries })
    }

    /// Most rows of the next batch; and whether those who could not be in time with so many are let down for it.
    fn size(&self, now: Instant, queue: &Queue<K, T>, profile: &Profile) -> (usize, bool) {
        let Some((order, head)) = queue.first() else { return (1, false) };
        let queued = queue.rows();
        let expected = |rows: usize| profile.curve.expected(rows);
        let in_time = |rows: usize| {
            let needed = needed(now, order, head, expected(rows));
            now.checked_add(needed).is_some_and(|end| end <= order.deadline)
        };
        let full = self.most(profile).min(queued.max(1)).max(head.rows);
        let mut most = full;
        while most > head.rows && !in_time(most) {
            most = (most / 2).max(head.rows);
        }
        if most < full && is_pressed(now, order, head) {
            return self.by_rate(now, queue, profile, most, full);
        }
        // Alone in the house, the lot is done sooner by all idle workers together.
        let idle = self.limits.workers.saturating_sub(self.running.len()).max(1);
        let share = queued.div_ceil(idle);
        if self.heads.len() == 1 && share < most && share >= head.rows {
            let gain = expected(most).saturating_sub(expected(share));
            if gain > limits::WORTH_WAKING {
                most = share;
            }
        }
        (most, false)
    }

    /// More waits than can be done, and the head can be in time only in a small batch. Small batches cost others
    /// their time, so the size is taken that serves the most rows in its time.
    fn by_rate(
        &self,
        now: Instant,
        queue: &Queue<K, T>,
        profile: &Profile,
        small: usize,
        full: usize,
    ) -> (usize, bool) {
        let rate = |rows: usize| {
            let took = profile.curve.expected(rows);
            let mut served = 0;
            for (order, entry) in queue.iter().take(rows + LOOKED_AT) {
                let needed = needed(now, order, entry, took);
                if served + entry.rows <= rows
                    && now.checked_add(needed).is_some_and(|end| end <= order.deadline)
                {
                    served += entry.rows;
                }
            }
            served as f64 / profile.curve.expected(served.max(1)).as_secs_f64().max(1e-9)
        };
        let (mut best, mut best_rate) = (small, rate(small) * WORTH_LOSING);
        let mut rows = full;
        while rows > small {
            let of_rows = rate(rows);
            if of_rows > best_rate {
                (best, best_rate) = (rows, of_rows);
            }
            rows /= 2;
        }
        (best, best > small)
    }
}
