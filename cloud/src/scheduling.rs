//! What is computed next, by whom, with what: admission, queues, batches. Pure: no clock, no thread, no model.
//!
//! * One queue per model and bucket, in the order of priority, deadline, arrival. An idle worker never waits, unless a
//!   model asks for a delay.
//! * A batch is as large as pays (`curve`) and no larger than what waits. It is made smaller only while its head can
//!   still be in time with a smaller one, never because it is already late: that way lies collapse under load. Where
//!   the head has waited for most of its time, so that more is asked than can be done, the size is taken that serves
//!   the most in time (`forming`).
//! * Priority is strict: what is of low priority is computed when nothing else waits. It does not starve for ever: it
//!   is refused or dropped when its deadline cannot be met. Under equal priorities and deadlines models take turns as
//!   their requests came.
//! * A model whose runs do not end in time is `held`: it gets no further worker until they are over.
//! * What can no longer make its deadline is dropped before it is computed, and refused on arrival where that can be
//!   foreseen. The foresight is optimistic: a pessimistic one refuses what would have made it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

pub use curve::Curve;
pub use limits::{Limits, MostWaiting, Profile, Refusal};
use queue::{Order, Queue, Waiting};

mod admission;
mod curve;
mod forming;
mod held;
mod limits;
mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Abandoned entries are looked for no more often.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
/// What ran so long ago is still measured.
const MEASURED_LATELY: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(u64);

/// What asks to be computed.
#[derive(Debug, Clone)]
pub struct Offer<K> {
    pub model: ModelId,
    /// What may share a batch.
    pub bucket: K,
    pub rows: usize,
    pub bytes: usize,
    /// 0 is served first.
    pub priority: u8,
    pub deadline: Instant,
}

/// Let in. `shed` had to make room.
#[derive(Debug)]
pub struct Admitted<T> {
    pub shed: Vec<T>,
    pub retry_after: Duration,
}

/// Not let in.
#[derive(Debug)]
pub struct Refused<T> {
    pub payload: T,
    pub why: Refusal,
    pub retry_after: Duration,
}

/// Work for one worker.
#[derive(Debug)]
pub struct Batch<T> {
    pub started: Started,
    pub entries: Vec<T>,
}

/// A batch under way; must be given back to [`Scheduler::finished`].
#[derive(Debug, Clone, Copy)]
pub struct Started {
    pub model: ModelId,
    pub rows: usize,
    id: u64,
}

/// What a worker found.
#[derive(Debug)]
pub struct Taken<T> {
    pub batch: Option<Batch<T>>,
    /// Could no longer be in time.
    pub expired: Vec<T>,
    /// Nobody waits for them.
    pub gone: Vec<T>,
    /// Something waits for company until then.
    pub wake_at: Option<Instant>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Scheduler<K, T> {
    limits: Limits,
    models: HashMap<ModelId, Profile>,
    /// When something of a model was last given to a worker.
    ran: HashMap<ModelId, Instant>,
    queues: HashMap<u64, Queue<K, T>>,
    by_bucket: HashMap<(ModelId, K), u64>,
    /// Each queue's head, best first.
    heads: BTreeMap<Order, u64>,
    /// Every entry's queue, best first.
    ranked: BTreeMap<Order, (u64, Duration)>,
    /// Models that get no worker for now.
    held: HashSet<ModelId>,
    /// Batches under way: when each should end.
    running: HashMap<u64, Instant>,
    waiting: Waiting,
    /// Entries that wait, by model and priority.
    waiting_of: BTreeMap<(ModelId, u8), usize>,
    swept: Option<Instant>,
    next: u64,
}

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            models: HashMap::new(),
            ran: HashMap::new(),
            queues: HashMap::new(),
            by_bucket: HashMap::new(),
            heads: BTreeMap::new(),
            ranked: BTreeMap::new(),
            held: HashSet::new(),
            running: HashMap::new(),
            waiting: Waiting::default(),
            waiting_of: BTreeMap::new(),
            swept: None,
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn add_model(&mut self, profile: Profile) -> ModelId {
        let id = ModelId(self.number());
        self.models.insert(id, profile);
        id
    }

    /// Gives what waited for it.
    pub fn remove_model(&mut self, model: ModelId) -> Vec<T> {
        self.models.remove(&model);
        self.ran.remove(&model);
        self.held.remove(&model);
        let of_model = self.by_bucket.iter().filter(|((of, _), _)| *of == model);
        let queues: Vec<u64> = of_model.map(|(_, queue)| *queue).collect();
        let mut left = Vec::new();
        for queue in queues {
            while let Some((_, payload)) = self.pop(queue) {
                left.push(payload);
            }
        }
        left
    }

    /// Takes out all that waits: nothing more will be computed.
    pub fn drain(&mut self) -> Vec<T> {
        let all: Vec<(u64, Order)> = self.ranked.iter().map(|(order, (queue, _))| (*queue, *order)).collect();
        all.into_iter().filter_map(|(queue, order)| self.remove(queue, order)).collect()
    }

    /// Takes out what nobody waits for any more, so that it takes up no room. It looks at all that waits, so it does
    /// nothing if it has just done that.
    pub fn sweep(&mut self, now: Instant, is_gone: impl Fn(&T) -> bool) -> Vec<T> {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_PAUSE) {
            return Vec::new();
        }
        self.swept = Some(now);
        let is_gone = |queue: &u64, order: &Order| {
            let entry = self.queues.get(queue).and_then(|queue| queue.get(order));
            entry.is_some_and(|entry| is_gone(&entry.payload))
        };
        let waiting = self.ranked.iter().map(|(order, (queue, _))| (*queue, *order));
        let gone: Vec<(u64, Order)> = waiting.filter(|(queue, order)| is_gone(queue, order)).collect();
        gone.into_iter().filter_map(|(queue, order)| self.remove(queue, order)).collect()
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

    /// Batches under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Compute that waits, by estimate, for one worker's share.
    pub fn backlog(&self) -> Duration {
        self.waiting.work / self.limits.workers.max(1) as u32
    }

    pub fn curve(&self, model: ModelId) -> Option<&Curve> {
        self.models.get(&model).map(|profile| &profile.curve)
    }

    /// Lets something in, or says why not.
    pub fn offer(&mut self, now: Instant, offer: Offer<K>, payload: T) -> Result<Admitted<T>, Refused<T>> {
        let order = Order { priority: offer.priority, deadline: offer.deadline, number: self.number() };
        let Some(profile) = self.models.get(&offer.model) else {
            return Err(Refused { payload, why: Refusal::UnknownModel, retry_after: Duration::ZERO });
        };
        let alone = profile.curve.expected(offer.rows);
        let work = profile.curve.marginal().saturating_mul(offer.rows.try_into().unwrap_or(u32::MAX));
        if let Err(why) = self.foresee(now, &order, alone) {
            if why == Refusal::TooShort {
                self.relax(now, offer.model);
            }
            return Err(Refused { payload, why, retry_after: self.retry_after() });
        }
        if self.is_full(offer.model, offer.priority) {
            return Err(Refused { payload, why: Refusal::ModelFull, retry_after: self.retry_after() });
        }
        if self.is_held_full(offer.model) {
            return Err(Refused { payload, why: Refusal::Held, retry_after: self.retry_after() });
        }
        let shed = match self.make_room(&order, offer.bytes, work) {
            Ok(shed) => shed,
            Err(why) => return Err(Refused { payload, why, retry_after: self.retry_after() }),
        };
        let key = (offer.model, offer.bucket);
        let queue = match self.by_bucket.get(&key) {
            Some(queue) => *queue,
            None => {
                let queue = self.number();
                self.queues.insert(queue, Queue::new(key.0, key.1.clone()));
                self.by_bucket.insert(key, queue);
                queue
            }
        };
        self.waiting.add(offer.bytes, work);
        *self.waiting_of.entry((offer.model, offer.priority)).or_default() += 1;
        self.ranked.insert(order, (queue, work));
        let entry = queue::Entry { rows: offer.rows, bytes: offer.bytes, work, arrived: now, payload };
        if let Some(found) = self.queues.get_mut(&queue) {
            let before = found.head();
            found.insert(order, entry);
            self.rehead(queue, before);
        }
        let retry_after = self.retry_after();
        Ok(Admitted { shed, retry_after })
    }

    /// The best thing to do for a worker that is free. `is_gone`: nobody waits for it any more.
    pub fn take(&mut self, now: Instant, mut is_gone: impl FnMut(&T) -> bool) -> Taken<T> {
        let mut taken = Taken { batch: None, expired: Vec::new(), gone: Vec::new(), wake_at: None };
        let mut after: Option<Order> = None;
        loop {
            // Queues that wait for company are passed over; all others are served in order.
            let next = match after {
                None => self.heads.first_key_value(),
                Some(order) => {
                    self.heads.range((std::ops::Bound::Excluded(order), std::ops::Bound::Unbounded)).next()
                }
            };
            let Some((order, queue)) = next.map(|(order, queue)| (*order, *queue)) else { return taken };
            if !self.clean(now, queue, &mut is_gone, &mut taken) {
                continue;
            }
            if self.heads.get(&order) != Some(&queue) {
                // Its head was dropped; the next one may stand elsewhere.
                continue;
            }
            if self.queues.get(&queue).is_some_and(|queue| self.held.contains(&queue.model())) {
                after = Some(order);
                continue;
            }
            if let Some(until) = self.company(now, queue) {
                taken.wake_at = Some(taken.wake_at.map_or(until, |at| at.min(until)));
                after = Some(order);
                continue;
            }
            taken.batch = self.form(now, queue, &mut is_gone, &mut taken.expired, &mut taken.gone);
            if taken.batch.is_some() {
                return taken;
            }
        }
    }

    /// Frees the worker; a batch that went well teaches its model's curve.
    pub fn finished(&mut self, started: &Started, took: Duration, ok: bool) {
        self.running.remove(&started.id);
        if let Some(profile) = self.models.get_mut(&started.model)
            && ok
        {
            profile.curve.observe(started.rows, took);
        }
    }

    /// Drops hopeless and abandoned heads. False if the queue is empty then.
    fn clean(
        &mut self,
        now: Instant,
        queue: u64,
        is_gone: &mut impl FnMut(&T) -> bool,
        taken: &mut Taken<T>,
    ) -> bool {
        loop {
            let Some(found) = self.queues.get(&queue) else { return false };
            let Some((order, entry)) = found.first() else { return false };
            let model = found.model();
            let hopeless = self.models.get(&model).is_none_or(|profile| {
                let alone = forming::needed(now, order, entry, profile.curve.expected(entry.rows));
                now.checked_add(alone).is_none_or(|end| end > order.deadline)
            });
            let gone = is_gone(&entry.payload);
            if !gone && !hopeless {
                return true;
            }
            let idle = self.running.is_empty();
            if let Some((_, payload)) = self.pop(queue) {
                if gone { &mut taken.gone } else { &mut taken.expired }.push(payload);
            }
            if hopeless && !gone && idle {
                self.relax(now, model);
            }
        }
    }

    /// Until when a queue's head waits for company, if it does.
    fn company(&self, now: Instant, queue: u64) -> Option<Instant> {
        let found = self.queues.get(&queue)?;
        let profile = self.models.get(&found.model())?;
        if profile.delay.is_zero() {
            return None;
        }
        let enough = profile.preferred.iter().copied().min().unwrap_or_else(|| self.most(profile));
        let until = found.first()?.1.arrived.checked_add(profile.delay)?;
        (found.rows() < enough && now < until).then_some(until)
    }

    /// Takes a queue's head out.
    fn pop(&mut self, queue: u64) -> Option<(Order, T)> {
        let order = self.queues.get(&queue)?.head()?;
        self.remove(queue, order).map(|payload| (order, payload))
    }

    fn remove(&mut self, queue: u64, order: Order) -> Option<T> {
        let found = self.queues.get_mut(&queue)?;
        let before = found.head();
        let (entry, of) = (found.remove(&order)?, (found.model(), order.priority));
        self.waiting.remove(entry.bytes, entry.work);
        if let Some(count) = self.waiting_of.get_mut(&of) {
            *count -= 1;
            if *count == 0 {
                self.waiting_of.remove(&of);
            }
        }
        self.ranked.remove(&order);
        self.rehead(queue, before);
        Some(entry.payload)
    }

    /// Keeps `heads` true after a queue changed; an empty queue is forgotten.
    fn rehead(&mut self, queue: u64, before: Option<Order>) {
        let Some(found) = self.queues.get(&queue) else { return };
        let after = found.head();
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.heads.remove(&before);
        }
        match after {
            Some(after) => {
                self.heads.insert(after, queue);
            }
            None => {
                let key = found.key();
                self.by_bucket.remove(&key);
                self.queues.remove(&queue);
            }
        }
    }

    /// An estimate that lets nothing run is never measured again, so it gives way a little. One that is measured does
    /// not: whoever asks for the impossible must not talk it down for others.
    fn relax(&mut self, now: Instant, model: ModelId) {
        let ran = self.ran.get(&model).map(|ran| now.saturating_duration_since(*ran));
        if let Some(profile) = self.models.get_mut(&model)
            && ran.is_none_or(|ran| ran > MEASURED_LATELY)
        {
            profile.curve.relax();
        }
    }
}
