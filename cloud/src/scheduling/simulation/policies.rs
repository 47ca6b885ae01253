//! Ours, and the simple ones that it is compared with.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::tests::usual;
use super::super::{Curve, Limits, ModelId, Offer, Profile, Scheduler, Started};
use super::{DISPATCH, Job, Mix, Policy, WORKERS, us};

/// The pool's scheduler, which knows of each expert what a trial at load measures: the engine alone.
pub(super) struct Ours {
    pub(super) scheduler: Scheduler<u8, Job>,
    models: Vec<ModelId>,
    running: Vec<(usize, Started)>,
}

impl Ours {
    pub(super) fn new(mix: &Mix) -> Self {
        let limits = Limits {
            workers: WORKERS,
            entries: 10_000,
            bytes: 1 << 30,
            work: Duration::from_secs(60),
            longest_batch: us(20_000),
        };
        let mut scheduler = Scheduler::new(limits);
        let profile = |times: super::Times| Profile {
            most_rows: usize::MAX,
            ..Profile::alone(Curve::new(times.iter().map(|(rows, time)| (*rows, us(*time)))))
        };
        let models = mix.experts.iter().map(|times| scheduler.add_model(profile(times))).collect();
        Self { scheduler, models, running: Vec::new() }
    }
}

impl Policy for Ours {
    fn offer(&mut self, now: Instant, job: Job) -> Vec<Job> {
        let (model, deadline) = (self.models[job.expert], job.deadline);
        let offer = Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 128, deadline, standing: usual() };
        match self.scheduler.offer(now, offer, job) {
            Ok(admitted) => admitted.shed.into_iter().map(|shed| shed.payload).collect(),
            Err(refused) => vec![refused.payload],
        }
    }

    fn take(&mut self, now: Instant) -> (Vec<Job>, Vec<Job>) {
        let taken = self.scheduler.take(now, |_| false);
        let Some(batch) = taken.batch else { return (Vec::new(), taken.expired) };
        let curve = self.scheduler.curve(batch.started.model).unwrap();
        for job in &batch.entries {
            assert_eq!(self.models[job.expert], batch.started.model, "a batch mixes models");
            assert!(now + curve.expected(1) <= job.deadline, "hopeless, and computed: {job:?}");
        }
        self.running.push((batch.entries[0].number, batch.started));
        (batch.entries, taken.expired)
    }

    fn finished(&mut self, first: Job, took: Duration) {
        let at = self.running.iter().position(|(number, _)| *number == first.number).unwrap();
        let (_, started) = self.running.swap_remove(at);
        self.scheduler.finished(&started, took, true);
    }

    fn queued(&self) -> usize {
        self.scheduler.queued()
    }
}

/// Knows every expert's true curve.
pub(super) struct Simple {
    pub(super) name: &'static str,
    /// Earliest deadline first; else first come, first served.
    by_deadline: bool,
    drops_hopeless: bool,
    batches: bool,
    curves: Vec<Curve>,
    queues: Vec<BTreeMap<(Instant, usize), Job>>,
}

impl Simple {
    fn new(mix: &Mix, name: &'static str, [by_deadline, drops_hopeless, batches]: [bool; 3]) -> Self {
        let true_times =
            |times: &super::Times| Curve::new(times.iter().map(|(rows, time)| (*rows, us(*time) + DISPATCH)));
        let curves = mix.experts.iter().map(true_times).collect();
        Self { name, by_deadline, drops_hopeless, batches, curves, queues: vec![BTreeMap::new(); 3] }
    }

    pub(super) fn one_by_one(mix: &Mix) -> Self {
        Self::new(mix, "EDF, one by one, drops", [true, true, false])
    }

    pub(super) fn all(mix: &Mix) -> [Self; 3] {
        [
            Self::one_by_one(mix),
            Self::new(mix, "first come, batches", [false, false, true]),
            Self::new(mix, "EDF, batches, no drop", [true, false, true]),
        ]
    }
}

impl Policy for Simple {
    fn offer(&mut self, _now: Instant, job: Job) -> Vec<Job> {
        let key = if self.by_deadline { job.deadline } else { job.arrived };
        self.queues[job.expert].insert((key, job.number), job);
        Vec::new()
    }

    fn take(&mut self, now: Instant) -> (Vec<Job>, Vec<Job>) {
        let mut dropped = Vec::new();
        if self.drops_hopeless {
            for (queue, curve) in self.queues.iter_mut().zip(&self.curves) {
                let alone = now + curve.expected(1);
                while let Some(head) = queue.first_entry().filter(|head| alone > head.get().deadline) {
                    dropped.push(head.remove());
                }
            }
        }
        let heads = self.queues.iter().enumerate().filter_map(|(at, queue)| Some((queue.keys().next()?, at)));
        let Some((_, expert)) = heads.min() else { return (Vec::new(), dropped) };
        let most = if self.batches { self.curves[expert].knee() } else { 1 };
        let queue = &mut self.queues[expert];
        let batch = (0..most).map_while(|_| queue.pop_first()).map(|(_, job)| job).collect();
        (batch, dropped)
    }

    fn finished(&mut self, _first: Job, _took: Duration) {}

    fn queued(&self) -> usize {
        self.queues.iter().map(BTreeMap::len).sum()
    }
}
