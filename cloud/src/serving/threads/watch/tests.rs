use std::sync::Arc;

use super::*;
use crate::principal::Standing;
use crate::scheduling::{Curve, Limits, Offer, Profile, Scheduler, Started};

const MILLI: Duration = Duration::from_millis(1);
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// A pool of threads in virtual time: the scheduler and the watch as the real threads use them.
struct World {
    start: Instant,
    now: Instant,
    scheduler: Scheduler<u8, Request>,
    watch: Watch,
    /// Runs under way.
    busy: Vec<Busy>,
    /// Threads that wait for work.
    idle: usize,
    most_threads: usize,
    answered: Vec<(ModelId, bool)>,
    ended: usize,
    looked: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    deadline: Instant,
    /// How long it computes; `None`: for ever.
    takes: Option<Duration>,
}

struct Busy {
    run: RunId,
    started: Started,
    request: Request,
    ends: Option<Instant>,
}

impl World {
    fn new(threads: usize) -> Self {
        let limits = Limits {
            workers: threads,
            entries: 256,
            bytes: 1 << 30,
            work: Duration::from_secs(30) * threads as u32,
            longest_batch: 20 * MILLI,
        };
        let start = Instant::now();
        Self {
            start,
            now: start,
            scheduler: Scheduler::new(limits),
            watch: Watch::new(threads, LONGEST_RUN),
            busy: Vec::new(),
            idle: threads,
            most_threads: threads,
            answered: Vec::new(),
            ended: 0,
            looked: start,
        }
    }

    fn model(&mut self, takes: Duration) -> ModelId {
        let model = self.scheduler.add_model(Profile::alone(Curve::new([(1, takes)])));
        self.watch.add_model(model, [(1, takes)]);
        model
    }

    fn ask(&mut self, model: ModelId, patience: Duration, takes: Option<Duration>) -> bool {
        let deadline = self.now + patience;
        let standing = Arc::new(Standing::local());
        let offer = Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 128, deadline, standing };
        self.scheduler.offer(self.now, offer, Request { deadline, takes }).is_ok()
    }

    /// What the threads and the watchdog do at this moment.
    fn step(&mut self) {
        let now = self.now;
        for at in (0..self.busy.len()).rev() {
            if self.busy[at].ends.is_some_and(|ends| ends <= now) {
                let Busy { run, started, request, ends } = self.busy.swap_remove(at);
                let well = request.takes.is_some() && ends.is_some();
                self.answered.push((started.model, well && now <= request.deadline));
                let over = self.watch.over(now, run, well);
                if over.is_released {
                    self.scheduler.release(started.model);
                }
                self.scheduler.finished(&started, request.takes.unwrap_or_default(), well);
                self.idle += usize::from(over.stays);
            }
        }
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            let busy = &self.busy;
            let gone = |run: RunId| busy.iter().any(|busy| busy.run == run && busy.request.deadline < now);
            for verdict in self.watch.look(now, gone) {
                match verdict {
                    Verdict::Holds { run, stands_in, is_held_back } => {
                        let held = self.busy.iter().find(|busy| busy.run == run).unwrap();
                        self.scheduler.leave(&held.started);
                        if is_held_back {
                            self.scheduler.hold(held.started.model);
                        }
                        self.idle += usize::from(stands_in);
                    }
                    Verdict::Ends { run, .. } => {
                        let busy = self.busy.iter_mut().find(|busy| busy.run == run).unwrap();
                        (busy.ends, busy.request.takes) = (Some(now), None);
                        self.ended += 1;
                    }
                }
            }
        }
        while self.idle > 0 {
            let taken = self.scheduler.take(now, |request| request.deadline < now);
            let Some(batch) = taken.batch else { break };
            let request = batch.entries[0];
            let run = self.watch.begin(now, batch.started.model, 1);
            let ends = request.takes.map(|takes| now + takes);
            self.busy.push(Busy { run, started: batch.started, request, ends });
            self.idle -= 1;
        }
        self.most_threads = self.most_threads.max(self.idle + self.busy.len());
    }
}

/// The law: however many endless calls of one model come, another model's calls are answered within their deadlines.
#[test]
fn endless_calls_of_one_model_cost_no_other_model_a_deadline() {
    for threads in [1, 2, 4] {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut world = World::new(threads);
            let (bad, good) = (world.model(MILLI), world.model(2 * MILLI));
            let mut asked = 0;
            for millis in 0..30_000_u32 {
                world.now = world.start + MILLI * millis;
                if random.u32(0..10) == 0 {
                    // Some wait long, most give up soon; none is ever answered.
                    let patience = MILLI * [200, 1_000, 10_000][random.usize(0..3)];
                    world.ask(bad, patience, None);
                }
                if millis % 50 == 0 {
                    asked += usize::from(world.ask(good, 1_000 * MILLI, Some(2 * MILLI)));
                }
                world.step();
            }
            let answered: Vec<bool> = world
                .answered
                .iter()
                .filter(|(model, _)| *model == good)
                .map(|(_, in_time)| *in_time)
                .collect();
            assert_eq!(asked, 600, "none is refused: {threads} threads, seed {seed}");
            assert!(answered.len() + 20 >= asked && answered.iter().all(|in_time| *in_time));
            assert!(world.ended > threads && world.most_threads <= threads * (1 + STAND_INS));
        }
    }
}

/// A model that is slow and well is never ended while anybody waits, and no thread is left over once all is done.
#[test]
fn what_is_slow_and_waited_for_is_left_alone() {
    let mut world = World::new(2);
    let (slow, good) = (world.model(3_000 * MILLI), world.model(2 * MILLI));
    for millis in 0..40_000_u32 {
        world.now = world.start + MILLI * millis;
        if millis % 2_000 == 0 && millis < 30_000 {
            world.ask(slow, 10_000 * MILLI, Some(3_000 * MILLI));
        }
        if millis % 100 == 0 && millis < 30_000 {
            world.ask(good, 1_000 * MILLI, Some(2 * MILLI));
        }
        world.step();
    }
    let of = |model| world.answered.iter().filter(move |(of, _)| *of == model);
    assert_eq!((of(good).count(), world.ended), (300, 0));
    assert!(of(good).all(|(_, in_time)| *in_time));
    assert!(of(slow).count() >= 10, "{}", of(slow).count());
    assert_eq!((world.idle, world.busy.len(), world.watch.threads), (2, 0, 2));
}

#[test]
fn a_run_is_ended_when_nobody_waits_or_when_it_takes_the_longest_that_any_may() {
    let model = World::new(1).model(MILLI);
    let (now, mut watch) = (Instant::now(), Watch::new(2, LONGEST_RUN));
    watch.add_model(model, [(1, 500 * MILLI), (4, 1_000 * MILLI)]);
    let (alone, together) = (watch.begin(now, model, 1), watch.begin(now, model, 4));
    let (mut ended, mut millis) = (Vec::new(), 0);
    while millis <= 61_000 {
        let at = now + MILLI * millis;
        for verdict in watch.look(at, |run| run == alone) {
            if let Verdict::Ends { run, after } = verdict {
                ended.push((run, after));
                // Its end comes to nothing at first, as between two processes.
                if ended.len() == 2 {
                    assert_eq!(watch.over(at, alone, false), Over { stays: false, is_released: true });
                }
            }
        }
        millis += 50;
    }
    // Eight times half a second, since nobody waits for it; the other one is waited for.
    assert_eq!(ended, [(alone, 4_000 * MILLI), (alone, 6_000 * MILLI), (together, LONGEST_RUN)]);
    assert_eq!(watch.over(now + LONGEST_RUN, together, false), Over { stays: false, is_released: true });
}

#[test]
fn no_run_is_to_blame_for_a_process_that_stood_still() {
    let mut world = World::new(1);
    let model = world.model(MILLI);
    let now = world.start;
    let run = world.watch.begin(now, model, 1);
    assert!(world.watch.look(now + LOOK, |_| true).is_empty());
    let woken = now + Duration::from_secs(3_600);
    assert!(world.watch.look(woken, |_| true).is_empty(), "it was asleep, not slow");
    assert_eq!(world.watch.look(woken + 200 * MILLI, |_| true).len(), 1);
    assert_eq!(world.watch.over(woken + 200 * MILLI, run, true), Over { stays: false, is_released: true });
}

#[test]
fn what_is_usual_follows_rows_that_were_seen() {
    let mut usual = [Duration::ZERO; SIZES];
    assert_eq!(usual_of(&usual, 3), Duration::ZERO);
    usual[2] = 8 * MILLI;
    assert_eq!([1, 4, 7, 8, 32].map(|rows| usual_of(&usual, rows)), [8, 8, 8, 16, 64].map(|ms| MILLI * ms));
    assert_eq!(usual_of(&usual, usize::MAX), 8 * MILLI * (1 << 14));
}
