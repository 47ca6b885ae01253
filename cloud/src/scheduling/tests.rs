use proptest::prelude::*;

use super::*;
use crate::principal::Principal;

/// Whom entries are for where that makes no difference.
pub(super) fn usual() -> Arc<Standing> {
    Arc::new(Standing::usual(Principal::device("acme", "cam-1")))
}

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn limits(workers: usize) -> Limits {
    let second = Duration::from_secs(1);
    Limits { workers, entries: 64, bytes: 1 << 20, work: second, longest_batch: us(20_000) }
}

fn profile(points: &[(usize, u64)]) -> Profile {
    let curve = Curve::new(points.iter().map(|(rows, time)| (*rows, us(*time))));
    let most_waiting = MostWaiting::Unbounded;
    Profile { curve, most_rows: usize::MAX, delay: Duration::ZERO, preferred: Vec::new(), most_waiting }
}

/// A batch of 8 costs twice a single row.
const DENSE: [(usize, u64); 2] = [(1, 100), (8, 200)];
const LINEAR: [(usize, u64); 2] = [(1, 1000), (8, 9000)];

fn shed(admitted: &Admitted<u32>) -> Vec<u32> {
    admitted.shed.iter().map(|shed| shed.payload).collect()
}

struct House {
    scheduler: Scheduler<u8, u32>,
    start: Instant,
}

impl House {
    fn new(workers: usize) -> Self {
        Self { scheduler: Scheduler::new(limits(workers)), start: Instant::now() }
    }

    fn offer(
        &mut self,
        model: ModelId,
        bucket: u8,
        deadline: u64,
        payload: u32,
    ) -> Result<Admitted<u32>, Refusal> {
        self.offer_as(128, model, bucket, deadline, payload)
    }

    fn offer_as(
        &mut self,
        priority: u8,
        model: ModelId,
        bucket: u8,
        deadline: u64,
        payload: u32,
    ) -> Result<Admitted<u32>, Refusal> {
        let deadline = self.start + us(deadline);
        let offer = Offer { model, bucket, rows: 1, bytes: 10, priority, deadline, standing: usual() };
        self.scheduler.offer(self.start, offer, payload).map_err(|refused| refused.why)
    }

    fn take(&mut self, at: u64) -> Taken<u32> {
        self.scheduler.take(self.start + us(at), |_| false)
    }
}

/// A model is held back for which one device waits; two others flood another model meanwhile.
#[test]
fn who_waits_for_a_model_that_is_held_back_neither_stops_batches_nor_banks_turns() {
    let mut house = House::new(1);
    house.scheduler.limits.work = Duration::from_secs(60);
    let (held, free) =
        (house.scheduler.add_model(profile(&DENSE)), house.scheduler.add_model(profile(&DENSE)));
    let device = |name: &str| Arc::new(Standing::usual(Principal::device("acme", name)));
    let (waits, floods) = (device("a"), [device("b"), device("c")]);
    let offer = |house: &mut House, now: u64, model, standing: &Arc<Standing>, payload: u32| {
        let (deadline, standing) = (house.start + us(60_000_000), Arc::clone(standing));
        let offer = Offer { model, bucket: 0, rows: 1, bytes: 10, priority: 128, deadline, standing };
        house.scheduler.offer(house.start + us(now), offer, payload).is_ok()
    };
    house.scheduler.hold(held);
    assert!(offer(&mut house, 0, held, &waits, 0));
    // Four seconds of batches.
    let (mut now, mut rows, mut batches) = (0, 0, 0);
    while now < 4_000_000 {
        while house.scheduler.queued() < 32 {
            for standing in &floods {
                assert!(offer(&mut house, now, free, standing, 1));
            }
        }
        let batch = house.take(now).batch.unwrap();
        (rows, batches) = (rows + batch.started.rows, batches + 1);
        now += 200;
        house.scheduler.finished(&batch.started, us(200), true);
    }
    assert!(rows >= 7 * batches, "{rows} rows in {batches} batches");
    house.scheduler.release(held);
    // From here on it floods, too, and gets no more than the others for having waited.
    let (mut waiting, mut given) = ([0_usize; 3], [0_usize; 3]);
    for _ in 0..300 {
        for (at, standing) in floods.iter().chain([&waits]).enumerate() {
            while waiting[at] < 16 && offer(&mut house, now, free, standing, at as u32) {
                waiting[at] += 1;
            }
        }
        let batch = house.take(now).batch.unwrap();
        for at in &batch.entries {
            waiting[*at as usize] = waiting[*at as usize].saturating_sub(1);
            given[*at as usize] += 1;
        }
        now += 200;
        house.scheduler.finished(&batch.started, us(200), true);
    }
    let all: usize = given.iter().sum();
    assert!(given.iter().all(|given| given * 4 >= all && given * 2 <= all), "{given:?}");
}

#[test]
fn a_batch_is_what_waits_up_to_the_knee_and_never_mixes() {
    let mut house = House::new(1);
    let model = house.scheduler.add_model(profile(&DENSE));
    for payload in 0..10 {
        house.offer(model, 0, 100_000, payload).unwrap();
    }
    house.offer(model, 1, 200_000, 99).unwrap();
    let sizes: Vec<usize> = (0..3).map(|_| house.take(0).batch.unwrap().entries.len()).collect();
    assert_eq!(sizes, [8, 2, 1]);
    assert!(house.take(0).batch.is_none());
}

#[test]
fn what_does_not_batch_goes_one_by_one() {
    let mut house = House::new(2);
    let model = house.scheduler.add_model(profile(&LINEAR));
    house.offer(model, 0, 100_000, 1).unwrap();
    house.offer(model, 0, 100_000, 2).unwrap();
    assert_eq!(house.take(0).batch.unwrap().entries, [1]);
    assert_eq!(house.take(0).batch.unwrap().entries, [2]);
}

#[test]
fn the_earliest_deadline_is_first_and_priority_before_that() {
    let mut house = House::new(1);
    let model = house.scheduler.add_model(profile(&LINEAR));
    for (priority, deadline, payload) in [(128, 90_000, 1), (128, 50_000, 2), (1, 95_000, 3)] {
        house.offer_as(priority, model, 0, deadline, payload).unwrap();
    }
    let order: Vec<u32> = (0..3).flat_map(|_| house.take(0).batch.unwrap().entries).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn what_cannot_be_in_time_is_refused_or_dropped_and_late_work_does_not_shrink_batches() {
    let mut house = House::new(2);
    let model = house.scheduler.add_model(profile(&DENSE));
    let other = house.scheduler.add_model(profile(&DENSE));
    assert_eq!(house.offer(other, 0, 50, 1).unwrap_err(), Refusal::TooShort);
    // One worker is busy, so that a dropped entry is no sign of a bad estimate.
    house.offer(other, 0, 900, 99).unwrap();
    assert_eq!(house.take(0).batch.unwrap().entries, [99]);
    for payload in 0..8 {
        house.offer(model, 0, 1000 + u64::from(payload), payload).unwrap();
    }
    // What has waited so long needs a tenth more than its 100.
    let taken = house.take(893);
    assert_eq!(taken.expired, [0, 1, 2]);
    // The head can be in time only alone or nearly so.
    assert_eq!(taken.batch.unwrap().entries.len(), 1);
    let mut linear = House::new(1);
    let slow = linear.scheduler.add_model(profile(&LINEAR));
    for payload in 0..5 {
        linear.offer(slow, 0, 5500, payload).unwrap();
    }
    assert_eq!(linear.offer(slow, 0, 5600, 9).unwrap_err(), Refusal::Hopeless);
}

#[test]
fn a_full_queue_makes_room_for_what_is_more_urgent_only() {
    let mut house = House::new(1);
    house.scheduler.limits.entries = 2;
    let model = house.scheduler.add_model(profile(&DENSE));
    house.offer(model, 0, 50_000, 1).unwrap();
    house.offer(model, 0, 60_000, 2).unwrap();
    assert_eq!(house.offer(model, 0, 40_000, 3).unwrap_err(), Refusal::Full);
    assert_eq!(shed(&house.offer_as(1, model, 0, 70_000, 4).unwrap()), [2]);
    assert_eq!(house.scheduler.queued(), 2);
    assert_eq!(house.scheduler.remove_model(model).len(), 2);
    assert_eq!(house.scheduler.waiting, Waiting::default());
}

#[test]
fn nobody_is_sent_away_for_what_does_not_fit_anyway() {
    let mut house = House::new(1);
    house.scheduler.limits.bytes = 35;
    let model = house.scheduler.add_model(profile(&DENSE));
    for (priority, payload) in [(1, 1), (128, 2), (128, 3)] {
        house.offer_as(priority, model, 0, 50_000, payload).unwrap();
    }
    let big = |bytes| Offer {
        model,
        bucket: 0,
        rows: 1,
        bytes,
        priority: 1,
        deadline: house.start + us(60_000),
        standing: usual(),
    };
    let (too_big, fits) = (big(30), big(15));
    let refused = house.scheduler.offer(house.start, too_big, 4).unwrap_err();
    assert_eq!((refused.why, house.scheduler.queued()), (Refusal::Bytes, 3));
    assert_eq!(shed(&house.scheduler.offer(house.start, fits, 5).unwrap()), [3]);
    assert_eq!(house.scheduler.waiting.bytes, 35);
}

#[test]
fn a_delay_waits_for_company_and_holds_nobody_else_up() {
    let mut house = House::new(1);
    let patient =
        house.scheduler.add_model(Profile { delay: us(500), preferred: vec![2], ..profile(&DENSE) });
    let other = house.scheduler.add_model(profile(&DENSE));
    house.offer(patient, 0, 10_000, 1).unwrap();
    let taken = house.take(0);
    assert!(taken.batch.is_none());
    assert_eq!(taken.wake_at, Some(house.start + us(500)));
    house.offer(other, 0, 90_000, 2).unwrap();
    assert_eq!(house.take(0).batch.unwrap().entries, [2]);
    house.offer(patient, 0, 10_000, 3).unwrap();
    assert_eq!(house.take(1).batch.unwrap().entries, [1, 3]);
    house.offer(patient, 0, 10_000, 4).unwrap();
    assert_eq!(house.take(500).batch.unwrap().entries, [4]);
}

#[test]
fn what_is_given_up_makes_room_and_what_is_left_at_the_end_comes_out() {
    let mut house = House::new(1);
    house.scheduler.limits.entries = 4;
    let model = house.scheduler.add_model(profile(&DENSE));
    for payload in 0..4 {
        house.offer(model, 0, 50_000, payload).unwrap();
    }
    assert_eq!(house.offer(model, 0, 50_000, 9).unwrap_err(), Refusal::Full);
    let is_odd = |payload: &u32| payload % 2 == 1;
    assert_eq!(house.scheduler.sweep(house.start, is_odd), [1, 3]);
    assert!(house.scheduler.sweep(house.start + us(1), |_| true).is_empty(), "it has just looked");
    house.offer(model, 1, 50_000, 9).unwrap();
    assert_eq!(house.scheduler.drain(), [0, 2, 9]);
    assert_eq!(house.scheduler.waiting, Waiting::default());
    assert!(house.take(0).batch.is_none());
}

#[test]
fn only_an_estimate_that_nothing_measures_gives_way() {
    let mut house = House::new(1);
    let model = house.scheduler.add_model(profile(&LINEAR));
    let impossible = |house: &mut House, at: u64| {
        let (now, deadline) = (house.start + us(at), house.start + us(at + 500));
        let offer = Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 128, deadline, standing: usual() };
        house.scheduler.offer(now, offer, 7).map_err(|refused| refused.why)
    };
    house.offer(model, 0, 50_000, 1).unwrap();
    let started = house.take(0).batch.unwrap().started;
    house.scheduler.finished(&started, us(1000), true);
    for at in 0..100 {
        assert_eq!(impossible(&mut house, 1000 + at).unwrap_err(), Refusal::TooShort);
    }
    assert_eq!(house.scheduler.curve(model).unwrap().expected(1), us(1000));
    let mut later = 300_000..;
    let given_way = later.find(|at| impossible(&mut house, *at).is_ok()).unwrap();
    assert!(given_way < 300_020, "{given_way}");
}

#[test]
fn what_has_waited_long_does_not_make_batches_small() {
    // A batch of 8 takes 200, one alone 100: three of them have less than 200 left.
    let mut house = House::new(1);
    let model = house.scheduler.add_model(profile(&DENSE));
    for payload in 0..12 {
        let deadline = if payload < 3 { 1000 } else { 2000 };
        house.offer(model, 0, deadline, payload).unwrap();
    }
    // One that has just come, in a hurry: it is neither dropped nor let down.
    let now = house.start + us(850);
    let deadline = house.start + us(960);
    let offer = Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 128, deadline, standing: usual() };
    house.scheduler.offer(now, offer, 99).unwrap();
    let taken = house.take(850);
    assert_eq!((taken.batch.unwrap().entries, taken.expired), (vec![99], vec![]));
    let taken = house.take(850);
    assert_eq!((taken.batch.unwrap().entries, taken.expired), ((3..11).collect(), vec![0, 1, 2]));
}

#[derive(Debug, Clone)]
enum Step {
    Offer { model: usize, bucket: u8, rows: usize, priority: u8, deadline: u64 },
    Take,
    Finish,
    Gone(u32),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 0u8..3, 1usize..12, 0u8..3, 0u64..30_000)
            .prop_map(|(model, bucket, rows, priority, deadline)| Step::Offer { model, bucket, rows, priority, deadline }),
        3 => Just(Step::Take),
        2 => Just(Step::Finish),
        1 => (0u32..200).prop_map(Step::Gone),
        1 => Just(Step::Sweep),
    ]
}

proptest! {
    #[test]
    fn everything_comes_out_exactly_once(steps in prop::collection::vec(step(), 1..200)) {
        let mut scheduler: Scheduler<u8, (u32, usize, u8)> = Scheduler::new(Limits { entries: 16, ..limits(2) });
        let models = [DENSE, LINEAR, DENSE].map(|points| scheduler.add_model(profile(&points)));
        let whose = [("acme", "cam-1", 1), ("acme", "cam-2", 1), ("beta", "cam-1", 3)]
            .map(|(tenant, name, share)| Standing { share, ..Standing::usual(Principal::device(tenant, name)) })
            .map(Arc::new);
        let (start, mut clock, mut next) = (Instant::now(), 0u64, 0u32);
        let mut out: Vec<u32> = Vec::new();
        let mut gone: Vec<u32> = Vec::new();
        let mut running: Vec<Started> = Vec::new();
        for step in steps {
            clock += 97;
            let now = start + us(clock);
            match step {
                Step::Offer { model, bucket, rows, priority, deadline } => {
                    let deadline = now + us(deadline);
                    let standing = Arc::clone(&whose[rows % whose.len()]);
                    let offer = Offer { model: models[model], bucket, rows, bytes: rows, priority, deadline, standing };
                    match scheduler.offer(now, offer, (next, model, bucket)) {
                        Ok(admitted) => out.extend(admitted.shed.iter().map(|shed| shed.payload.0)),
                        Err(refused) => out.push(refused.payload.0),
                    }
                    next += 1;
                }
                Step::Take => {
                    let queued = scheduler.queued();
                    let taken = scheduler.take(now, |entry| gone.contains(&entry.0));
                    let dropped = taken.expired.len() + taken.gone.len();
                    out.extend(taken.expired.iter().chain(&taken.gone).map(|entry| entry.0));
                    match taken.batch {
                        Some(batch) => {
                            let (_, model, bucket) = batch.entries[0];
                            prop_assert!(batch.entries.iter().all(|entry| (entry.1, entry.2) == (model, bucket)));
                            out.extend(batch.entries.iter().map(|entry| entry.0));
                            running.push(batch.started);
                        }
                        // Nothing waits for nothing.
                        None => prop_assert_eq!(dropped, queued),
                    }
                }
                Step::Finish => {
                    if let Some(started) = running.pop() {
                        scheduler.finished(&started, us(150), true);
                    }
                }
                Step::Gone(payload) => gone.push(payload),
                Step::Sweep => {
                    let swept = scheduler.sweep(now, |entry| gone.contains(&entry.0));
                    prop_assert!(swept.iter().all(|entry| gone.contains(&entry.0)));
                    out.extend(swept.iter().map(|entry| entry.0));
                }
            }
            prop_assert!(scheduler.queued() <= 16);
            prop_assert_eq!(scheduler.running(), running.len());
        }
        if next % 2 == 0 {
            out.extend(scheduler.drain().iter().map(|entry| entry.0));
        }
        for model in models {
            out.extend(scheduler.remove_model(model).iter().map(|entry| entry.0));
        }
        out.sort_unstable();
        prop_assert_eq!(out, (0..next).collect::<Vec<_>>());
        prop_assert_eq!(scheduler.waiting, Waiting::default());
        prop_assert!(scheduler.shares.flows().all(|(_, flow)| flow.waiting == Waiting::default() && flow.ranked.is_empty()));
        prop_assert!(scheduler.shares.in_turn().next().is_none() && scheduler.queues.is_empty() && scheduler.by_bucket.is_empty());
    }
}

#[test]
fn a_models_own_bound_refuses_its_own_requests_only() {
    let mut house = House::new(1);
    let all = MostWaiting::All(2);
    let bounded = house.scheduler.add_model(Profile { most_waiting: all, ..profile(&DENSE) });
    let by_priority = MostWaiting::ByPriority([(128, 1)].into());
    let levelled = house.scheduler.add_model(Profile { most_waiting: by_priority, ..profile(&DENSE) });
    let deadline = 1_000_000;
    house.offer(bounded, 0, deadline, 1).unwrap();
    house.offer_as(3, bounded, 1, deadline, 2).unwrap();
    assert_eq!(house.offer(bounded, 0, deadline, 3).unwrap_err(), Refusal::ModelFull);
    house.offer(levelled, 0, deadline, 4).unwrap();
    assert_eq!(house.offer(levelled, 0, deadline, 5).unwrap_err(), Refusal::ModelFull);
    house.offer_as(129, levelled, 0, deadline, 6).unwrap();
    // What was taken makes room.
    assert_eq!(house.take(0).batch.unwrap().entries, [2]);
    house.offer(bounded, 0, deadline, 7).unwrap();
    assert_eq!(house.scheduler.remove_model(bounded).len(), 2);
    assert_eq!(house.scheduler.queued(), 2);
}
