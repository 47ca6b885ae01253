//! What is computed next, by whom, with what: admission, queues, batches. Pure: no clock, no thread, no model.
//!
//! * Whose turn it is, is a matter of shares: of tenants first, then of each tenant's principals (`shares`). Whoever asks
//!   for less than its share gets it, whatever others ask for; what it leaves is theirs. Inside a principal the order is
//!   that of priority, deadline, arrival. An idle worker never waits, unless a model asks for a delay.
//! * One queue per model and bucket. Whose turn it is leads a batch; others who have something in the same queue are taken
//!   along in their turn, at their own cost, unless they are far ahead of somebody who waits elsewhere (`crowd`).
//! * A batch is as large as pays (`curve`) and no larger than what waits. It is made smaller only while its head can
//!   still be in time with a smaller one, never because it is already late: that way lies collapse under load. Where
//!   the head has waited for most of its time, so that more is asked than can be done, the size is taken that serves
//!   the most in time (`forming`).
//! * Inside a tenant priority is strict: what is of low priority is computed when nothing else of its tenant waits. It does
//!   not starve for ever: it is refused or dropped when its deadline cannot be met. Under equal priorities and deadlines
//!   models take turns as their requests came.
//! * A model whose runs do not end in time is `held`: it gets no further worker until they are over.
//! * What can no longer make its deadline is dropped before it is computed, and refused on arrival where that can be
//!   foreseen (`admission`). The foresight is optimistic: a pessimistic one refuses what would have made it.
//! * What waits is bounded. When the queue is full, whoever has the most waiting for its share makes room (`room`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use curve::Curve;
use ledger::Ledger;
pub use ledger::Tally;
pub use limits::{Limits, MostWaiting, Profile, Refusal};
use queue::{Entry, Order, Place, Queue, Waiting};
use room::Newcomer;
use shares::Shares;

use crate::principal::Standing;

mod admission;
mod crowd;
mod curve;
mod entries;
#[cfg(test)]
mod fairness;
mod forming;
mod held;
mod ledger;
mod limits;
mod queue;
mod room;
mod shares;
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
    /// Whom it is for.
    pub standing: Arc<Standing>,
}

/// Let in. `shed` had to make room.
#[derive(Debug)]
pub struct Admitted<T> {
    pub shed: Vec<Shed<T>>,
}

/// What had to leave, and after what time its tenant may find room again.
#[derive(Debug)]
pub struct Shed<T> {
    pub payload: T,
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

/// What a flow was charged for its rows of a batch, by estimate.
#[derive(Debug, Clone, Copy)]
struct Charge {
    flow: u64,
    rows: usize,
    estimate: Duration,
}

/// What is to be done with an entry whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ready,
    Hopeless,
    Gone,
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
    /// Whose turn it is.
    shares: Shares,
    ledger: Ledger,
    /// Models that get no worker for now.
    held: HashSet<ModelId>,
    /// Batches under way: when each should end.
    running: HashMap<u64, Instant>,
    /// Who was charged how much for batches that are not over.
    charged: HashMap<u64, Vec<Charge>>,
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
            shares: Shares::default(),
            ledger: Ledger::default(),
            held: HashSet::new(),
            running: HashMap::new(),
            charged: HashMap::new(),
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
        let places = self.places_of(model);
        self.detach_all(places)
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
        let standing = &offer.standing;
        let Some(profile) = self.models.get(&offer.model) else {
            return Err(Refused { payload, why: Refusal::UnknownModel, retry_after: Duration::ZERO });
        };
        let alone = profile.curve.expected(offer.rows);
        let work = profile.curve.marginal().saturating_mul(offer.rows.try_into().unwrap_or(u32::MAX));
        let refuse = |scheduler: &mut Self, payload, why| {
            scheduler.ledger.of(standing.principal.tenant()).refused += 1;
            Err(Refused { payload, why, retry_after: scheduler.retry_after(standing) })
        };
        if let Err(why) = self.foresee(now, standing, &order, alone) {
            if why == Refusal::TooShort {
                self.relax(now, offer.model);
            }
            return refuse(self, payload, why);
        }
        if self.is_held_full(offer.model) {
            return refuse(self, payload, Refusal::Held);
        }
        let newcomer = Newcomer { standing, priority: offer.priority, bytes: offer.bytes, work };
        let mut first = None;
        if self.is_full(offer.model, offer.priority) {
            first = self.most_over_in_model(offer.model, newcomer);
            if first.is_none() {
                return refuse(self, payload, Refusal::ModelFull);
            }
        }
        let shed = match self.make_room(newcomer, first) {
            Ok(shed) => shed,
            Err(why) => return refuse(self, payload, why),
        };
        let Offer { model, bucket, rows, bytes, ref standing, .. } = offer;
        let standing = Arc::clone(standing);
        let entry = Entry { standing, rows, bytes, work, arrived: now, payload };
        self.attach((model, bucket), order, entry);
        Ok(Admitted { shed })
    }

    /// The best thing to do for a worker that is free. `is_gone`: nobody waits for it any more.
    pub fn take(&mut self, now: Instant, mut is_gone: impl FnMut(&T) -> bool) -> Taken<T> {
        let mut taken = Taken { batch: None, expired: Vec::new(), gone: Vec::new(), wake_at: None };
        loop {
            let Some((mut place, mut fate)) = self.next(now, &mut is_gone, &mut taken.wake_at) else {
                return taken;
            };
            if fate == Fate::Ready {
                taken.batch = self.form(now, place, &mut is_gone, &mut taken);
                if taken.batch.is_some() {
                    return taken;
                }
                continue;
            }
            // Whatever stands behind it in the same place and has the same fate leaves with it.
            while fate != Fate::Ready {
                if !self.drop_out(now, place, fate, &mut taken) {
                    return taken;
                }
                let Some(queue) = self.queues.get(&place.queue) else { break };
                let Some((order, entry)) = queue.first(place.flow) else { break };
                place.order = *order;
                fate = self.fate(now, queue, (order, entry), &mut is_gone);
            }
        }
    }

    /// Takes out what is not to be computed; false if it is not there.
    fn drop_out(&mut self, now: Instant, place: Place, fate: Fate, taken: &mut Taken<T>) -> bool {
        let model = self.queues.get(&place.queue).map(Queue::model);
        let idle = self.running.is_empty();
        let Some(entry) = self.detach(place) else { return false };
        if fate == Fate::Gone {
            taken.gone.push(entry.payload);
            return true;
        }
        self.ledger.of(entry.standing.principal.tenant()).expired += 1;
        taken.expired.push(entry.payload);
        if let Some(model) = model.filter(|_| idle) {
            self.relax(now, model);
        }
        true
    }

    /// Whether an entry is to be computed at all.
    fn fate(
        &self,
        now: Instant,
        queue: &Queue<K, T>,
        (order, entry): (&Order, &Entry<T>),
        is_gone: &mut impl FnMut(&T) -> bool,
    ) -> Fate {
        if is_gone(&entry.payload) {
            return Fate::Gone;
        }
        let Some(profile) = self.models.get(&queue.model()) else { return Fate::Hopeless };
        let alone = forming::needed(now, order, entry, profile.curve.expected(entry.rows));
        let end = now.checked_add(alone);
        if end.is_none_or(|end| end > order.deadline) { Fate::Hopeless } else { Fate::Ready }
    }

    /// Whose turn it is, and what is to be done with it. Queues that wait for company, and those of held models, are passed
    /// over; all others are served in turn.
    fn next(
        &self,
        now: Instant,
        is_gone: &mut impl FnMut(&T) -> bool,
        wake_at: &mut Option<Instant>,
    ) -> Option<(Place, Fate)> {
        *wake_at = None;
        for (flow, of) in self.shares.in_turn() {
            for (order, number) in &of.heads {
                let place = Place { flow, queue: *number, order: *order };
                let queue = self.queues.get(number)?;
                let (_, entry) = queue.first(flow)?;
                let fate = self.fate(now, queue, (order, entry), is_gone);
                if fate != Fate::Ready {
                    return Some((place, fate));
                }
                let profile = self.models.get(&queue.model())?;
                if self.held.contains(&queue.model()) {
                    continue;
                }
                let Some(until) = self.company(now, queue, entry, profile) else {
                    return Some((place, Fate::Ready));
                };
                *wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
            }
        }
        None
    }

    /// Frees the worker; a batch that went well teaches its model's curve. Whose entries were in it is charged with what
    /// it took.
    pub fn finished(&mut self, started: &Started, took: Duration, ok: bool) {
        self.running.remove(&started.id);
        if let Some(profile) = self.models.get_mut(&started.model)
            && ok
        {
            profile.curve.observe(started.rows, took);
        }
        for Charge { flow, rows, estimate } in self.charged.remove(&started.id).unwrap_or_default() {
            let given = took.mul_f64(rows as f64 / started.rows.max(1) as f64);
            let tenant = self.shares.flow(flow).and_then(|flow| self.shares.tenant(flow.tenant));
            if let Some(tenant) = tenant {
                let tally = self.ledger.of(&tenant.name);
                tally.compute = tally.compute.saturating_add(given);
                tally.served += 1;
            }
            match given.checked_sub(estimate) {
                Some(more) => self.shares.charge(flow, more),
                None => self.shares.credit(flow, estimate.saturating_sub(given)),
            }
            self.shares.end(flow);
        }
        if self.waiting.entries == 0 && self.charged.is_empty() {
            self.shares.clear();
        }
    }

    /// Until when an entry at the head waits for company, if it does.
    fn company(
        &self,
        now: Instant,
        queue: &Queue<K, T>,
        entry: &Entry<T>,
        profile: &Profile,
    ) -> Option<Instant> {
        if profile.delay.is_zero() {
            return None;
        }
        let enough = profile.preferred.iter().copied().min().unwrap_or_else(|| self.most(profile));
        let until = entry.arrived.checked_add(profile.delay)?;
        (queue.rows() < enough && now < until).then_some(until)
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
