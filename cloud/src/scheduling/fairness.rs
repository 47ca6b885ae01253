//! Fair shares in virtual time: callers of several tenants who ask as fast as they are answered, or at a rate of their own,
//! and the laws that hold whatever the others do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::principal::{Principal, Standing};

mod laws;
mod room;

const MILLI: Duration = Duration::from_millis(1);

fn standing(tenant: &str, device: &str, share: u32) -> Arc<Standing> {
    Arc::new(Standing { share, ..Standing::usual(Principal::device(tenant, device)) })
}

/// One who asks, gets an answer, and asks again.
#[derive(Debug, Clone)]
struct Caller {
    standing: Arc<Standing>,
    model: usize,
    bucket: u8,
    priority: u8,
    patience: Duration,
    /// From an answer to the next question; or from question to question, if `is_steady`.
    pause: Duration,
    is_steady: bool,
}

impl Caller {
    fn new(standing: &Arc<Standing>, model: usize) -> Self {
        let (standing, patience) = (Arc::clone(standing), Duration::from_secs(60));
        Self { standing, model, bucket: 0, priority: 128, patience, pause: Duration::ZERO, is_steady: false }
    }
}

/// What came of one caller's questions.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    asked: usize,
    in_time: usize,
    late: usize,
    refused: usize,
    dropped: usize,
    /// Longest wait for an answer in time.
    slowest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    caller: usize,
    asked: Instant,
    deadline: Instant,
}

/// A model as it is, which its estimate may not know.
#[derive(Debug, Clone)]
struct Truth {
    estimate: Vec<(usize, Duration)>,
    /// How much longer it takes than was measured.
    factor: f64,
}

struct World {
    scheduler: Scheduler<u8, Question>,
    models: Vec<(ModelId, Truth)>,
    callers: Vec<Caller>,
    tallies: Vec<Tally>,
    workers: Vec<Option<Busy>>,
    /// When each caller asks next; `None`: it waits for an answer.
    next: Vec<Option<Instant>>,
    now: Instant,
    /// Compute that each tenant was given, in batches that are over.
    given: HashMap<Principal, Duration>,
    longest: Duration,
}

struct Busy {
    ends: Instant,
    began: Instant,
    batch: Batch<Question>,
}

impl World {
    fn new(workers: usize, entries: usize, models: &[Truth], callers: Vec<Caller>) -> Self {
        let limits = Limits {
            workers,
            entries,
            bytes: 1 << 30,
            work: Duration::from_secs(600),
            longest_batch: 20 * MILLI,
        };
        let mut scheduler = Scheduler::new(limits);
        let add = |truth: &Truth| {
            let curve = Curve::new(truth.estimate.iter().copied());
            let id = scheduler.add_model(Profile { most_rows: usize::MAX, ..Profile::alone(curve) });
            (id, truth.clone())
        };
        let models = models.iter().map(add).collect();
        let now = Instant::now();
        let (tallies, next) = (vec![Tally::default(); callers.len()], vec![Some(now); callers.len()]);
        let workers = (0..workers).map(|_| None).collect();
        let (given, longest) = (HashMap::new(), Duration::ZERO);
        Self { scheduler, models, callers, tallies, workers, next, now, given, longest }
    }

    fn took(&self, model: ModelId, rows: usize) -> Duration {
        let (_, truth) = self.models.iter().find(|(id, _)| *id == model).unwrap();
        Curve::new(truth.estimate.iter().copied()).expected(rows).mul_f64(truth.factor)
    }

    fn tenant(principal: &Principal) -> Principal {
        // One name for all of a tenant's.
        match principal.tenant() {
            crate::principal::Tenant::Named(name) => Principal::device(name, "all"),
            _ => Principal::local(),
        }
    }

    fn answered(&mut self, question: Question, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tallies[question.caller]);
        let caller = &self.callers[question.caller];
        if !caller.is_steady {
            // Even a refusal takes a caller a moment.
            self.next[question.caller] = Some(self.now + caller.pause.max(MILLI / 10));
        }
    }

    fn ask(&mut self, number: usize) {
        let caller = self.callers[number].clone();
        self.next[number] = caller.is_steady.then(|| self.now + caller.pause);
        self.tallies[number].asked += 1;
        let deadline = self.now + caller.patience;
        let question = Question { caller: number, asked: self.now, deadline };
        let offer = Offer {
            model: self.models[caller.model].0,
            bucket: caller.bucket,
            rows: 1,
            bytes: 100,
            priority: caller.priority,
            deadline,
            standing: caller.standing,
        };
        match self.scheduler.offer(self.now, offer, question) {
            Ok(admitted) => {
                for shed in admitted.shed {
                    self.answered(shed.payload, |tally| tally.refused += 1);
                }
            }
            Err(refused) => self.answered(refused.payload, |tally| tally.refused += 1),
        }
    }

    fn end(&mut self, worker: usize) {
        let Some(Busy { ends, began, batch }) = self.workers[worker].take() else { return };
        let took = ends - began;
        self.longest = self.longest.max(took);
        let rows = batch.entries.len();
        self.scheduler.finished(&batch.started, took, true);
        for question in batch.entries {
            let tenant = Self::tenant(&self.callers[question.caller].standing.principal);
            *self.given.entry(tenant).or_default() += took / rows as u32;
            let waited = self.now - question.asked;
            if self.now <= question.deadline {
                self.answered(question, |tally| {
                    tally.in_time += 1;
                    tally.slowest = tally.slowest.max(waited);
                });
            } else {
                self.answered(question, |tally| tally.late += 1);
            }
        }
    }

    fn work(&mut self) {
        for worker in 0..self.workers.len() {
            while self.workers[worker].is_none() {
                let taken = self.scheduler.take(self.now, |_| false);
                let nothing = taken.batch.is_none() && taken.expired.is_empty();
                for question in taken.expired {
                    self.answered(question, |tally| tally.dropped += 1);
                }
                if let Some(batch) = taken.batch {
                    let took = self.took(batch.started.model, batch.started.rows);
                    self.workers[worker] = Some(Busy { ends: self.now + took, began: self.now, batch });
                } else if nothing {
                    assert_eq!(self.scheduler.queued(), 0, "a worker is idle while something waits");
                    break;
                }
            }
        }
    }

    /// Runs for so long; `look` is called after each event.
    fn run(&mut self, length: Duration, mut look: impl FnMut(&Self)) {
        let end = self.now + length;
        loop {
            let ends = self.workers.iter().flatten().map(|busy| busy.ends);
            let Some(now) = ends.chain(self.next.iter().flatten().copied()).min() else { return };
            if now > end {
                return;
            }
            self.now = now;
            for worker in 0..self.workers.len() {
                if self.workers[worker].as_ref().is_some_and(|busy| busy.ends == now) {
                    self.end(worker);
                }
            }
            for number in 0..self.callers.len() {
                if self.next[number] == Some(now) {
                    self.ask(number);
                }
            }
            self.work();
            look(self);
        }
    }

    /// All that one tenant's callers have seen.
    fn tally(&self, tenant: &str) -> Tally {
        let of = |caller: &&(&Caller, &Tally)| {
            Self::tenant(&caller.0.standing.principal) == Principal::device(tenant, "all")
        };
        let all: Vec<_> = self.callers.iter().zip(&self.tallies).collect();
        all.iter().filter(of).fold(Tally::default(), |sum, (_, tally)| Tally {
            asked: sum.asked + tally.asked,
            in_time: sum.in_time + tally.in_time,
            late: sum.late + tally.late,
            refused: sum.refused + tally.refused,
            dropped: sum.dropped + tally.dropped,
            slowest: sum.slowest.max(tally.slowest),
        })
    }
}
