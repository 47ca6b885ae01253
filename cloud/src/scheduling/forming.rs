//! How large a batch is, and who is in it.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::queue::{Entry, Order, Place, Queue};
use super::{Batch, Charge, Profile, Scheduler, Started, Taken, limits};

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

fn is_late<T>(now: Instant, order: &Order, entry: &Entry<T>, expected: Duration) -> bool {
    let needed = needed(now, order, entry, expected);
    now.checked_add(needed).is_none_or(|end| end > order.deadline)
}

/// What becomes of an entry whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    Taken,
    /// The entry waits for the next batch.
    Passed,
    Expired,
    Gone,
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

    /// Takes a batch out of the queue of an entry that can be in time, alone at least. Those of others who wait for the
    /// same are taken along, in the order of shares, each at its own cost.
    pub(super) fn form(
        &mut self,
        now: Instant,
        head: Place,
        is_gone: &mut impl FnMut(&T) -> bool,
        taken: &mut Taken<T>,
    ) -> Option<Batch<T>> {
        let number = head.queue;
        let queue = self.queues.get(&number)?;
        let model = queue.model();
        let profile = self.models.get(&model)?;
        let (most, lets_down) = self.size(now, head, queue, profile);
        let all_in_time = profile.curve.expected(most);
        let per_row = all_in_time / most.max(1) as u32;
        self.shares.serve(head.flow);
        let (mut entries, mut charges) = (Vec::new(), Vec::new());
        let (mut passed, mut key) = (Vec::new(), None);
        let (mut rows, mut crowd, mut flow) = (0, None, head.flow);
        while let Some(queue) = self.queues.get(&number) {
            let Some((order, entry)) = queue.first(flow) else { break };
            if !entries.is_empty() && rows + entry.rows > most {
                break;
            }
            let is_first = entries.is_empty();
            let alone = self.models.get(&model)?.curve.expected(entry.rows);
            let let_down = lets_down && is_late(now, order, entry, all_in_time);
            let lot = if !is_first && is_gone(&entry.payload) {
                Lot::Gone
            } else if !is_first && is_late(now, order, entry, alone) {
                Lot::Expired
            } else if let_down && (!is_pressed(now, order, entry) || self.shares.is_modest(flow)) {
                // It came late and is in a hurry by itself, or asks for little: its turn is next.
                Lot::Passed
            } else if let_down {
                Lot::Expired
            } else {
                Lot::Taken
            };
            let (of_entry, order) = (entry.rows, *order);
            if lot == Lot::Passed && key.is_none() {
                key = Some(queue.key());
            }
            if lot == Lot::Taken {
                let estimate = per_row.saturating_mul(of_entry.try_into().unwrap_or(u32::MAX));
                self.shares.charge(flow, estimate);
                charges.push(Charge { flow, rows: of_entry, estimate });
                self.shares.begin(flow);
            }
            let entry = self.detach(Place { flow, queue: number, order })?;
            match lot {
                Lot::Taken => {
                    rows += of_entry;
                    entries.push(entry.payload);
                }
                Lot::Passed => passed.push((order, entry)),
                Lot::Expired => {
                    self.ledger.of(entry.standing.principal.tenant()).expired += 1;
                    taken.expired.push(entry.payload);
                }
                Lot::Gone => taken.gone.push(entry.payload),
            }
            if rows >= most {
                break;
            }
            let Some(queue) = self.queues.get(&number) else { break };
            if crowd.is_none() && queue.flows().len() == 1 && queue.head(flow).is_some() {
                continue;
            }
            let crowd = match &mut crowd {
                None => crowd.insert(Crowd::of(queue, &self.shares)),
                Some(crowd) => {
                    crowd.put(flow, queue, &self.shares);
                    crowd
                }
            };
            let Some(next) = crowd.next(&self.shares, self.limits.longest_batch) else { break };
            flow = next;
        }
        for (order, entry) in passed {
            if let Some(key) = key.clone() {
                self.attach(key, order, entry);
            }
        }
        if entries.is_empty() {
            return None;
        }
        let expected = self.models.get(&model)?.curve.expected(rows);
        let id = self.number();
        self.ran.insert(model, now);
        self.running.insert(id, now.checked_add(expected).unwrap_or(now));
        self.charged.insert(id, charges);
        Some(Batch { started: Started { model, rows, id }, entries })
    }

    /// Most rows of the next batch; and whether those who could not be in time with so many are let down for it.
    fn size(&self, now: Instant, place: Place, queue: &Queue<K, T>, profile: &Profile) -> (usize, bool) {
        let Some((order, head)) = queue.first(place.flow) else { return (1, false) };
        let queued = queue.rows();
        let expected = |rows: usize| profile.curve.expected(rows);
        let full = self.most(profile).min(queued.max(1)).max(head.rows);
        let mut most = full;
        while most > head.rows && is_late(now, order, head, expected(most)) {
            most = (most / 2).max(head.rows);
        }
        if most < full && is_pressed(now, order, head) && !self.shares.is_modest(place.flow) {
            return self.by_rate(now, queue, profile, most, full);
        }
        // Alone in the house, the lot is done sooner by all idle workers together.
        let idle = self.limits.workers.saturating_sub(self.running.len()).max(1);
        let share = queued.div_ceil(idle);
        let is_alone = self.queues.len() == 1;
        if is_alone && share < most && share >= head.rows {
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
        let waiting = queue.in_order();
        let rate = |rows: usize| {
            let took = profile.curve.expected(rows);
            let mut served = 0;
            for (order, entry) in waiting.iter().take(rows + LOOKED_AT) {
                if served + entry.rows <= rows && !is_late(now, order, entry, took) {
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
