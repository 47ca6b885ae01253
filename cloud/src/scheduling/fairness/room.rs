//! Who finds room, and at whose cost.

use super::*;

struct House {
    scheduler: Scheduler<u8, usize>,
    model: ModelId,
    now: Instant,
    next: usize,
}

impl House {
    fn new(entries: usize, most_waiting: MostWaiting) -> Self {
        let (work, longest_batch) = (Duration::from_secs(600), 20 * MILLI);
        let limits = Limits { workers: 1, entries, bytes: 1 << 20, work, longest_batch };
        let mut scheduler = Scheduler::new(limits);
        let profile = Profile { most_waiting, ..Profile::alone(Curve::new([(1, MILLI)])) };
        let model = scheduler.add_model(profile);
        Self { scheduler, model, now: Instant::now(), next: 0 }
    }

    /// The number of what is offered last is [`Self::next`].
    fn offer(&mut self, standing: &Arc<Standing>, priority: u8, bytes: usize) -> Result<Vec<usize>, Refusal> {
        self.next += 1;
        let deadline = self.now + Duration::from_secs(60) + MILLI * self.next as u32;
        let standing = Arc::clone(standing);
        let offer = Offer { model: self.model, bucket: 0, rows: 1, bytes, priority, deadline, standing };
        let offered = self.scheduler.offer(self.now, offer, self.next);
        let shed = |admitted: Admitted<usize>| admitted.shed.into_iter().map(|shed| shed.payload).collect();
        offered.map(shed).map_err(|refused| refused.why)
    }

    fn fill(&mut self, standing: &Arc<Standing>, count: usize) {
        for _ in 0..count {
            assert_eq!(self.offer(standing, 128, 10), Ok(Vec::new()));
        }
    }
}

#[test]
fn a_full_queue_has_room_for_everybody_up_to_the_share() {
    let mut house = House::new(12, MostWaiting::Unbounded);
    let [acme, beta, gamma] = ["acme", "beta", "gamma"].map(|name| standing(name, "cam-1", 1));
    house.fill(&beta, 12);
    // Beta's last, one for one, until both have as much.
    for at in 0..6 {
        assert_eq!(house.offer(&acme, 128, 10), Ok(vec![12 - at]));
    }
    assert_eq!(house.offer(&acme, 128, 10), Err(Refusal::Full));
    assert_eq!(house.offer(&beta, 0, 10), Ok(vec![6]), "a rank makes room among one's own");
    for _ in 0..4 {
        assert_eq!(house.offer(&gamma, 200, 10).map(|shed| shed.len()), Ok(1));
    }
    assert_eq!(house.offer(&gamma, 200, 10), Err(Refusal::Full));
    assert_eq!(house.offer(&gamma, 128, 10), Ok(vec![house.next - 2]), "its own of a lower rank");
    assert_eq!(house.scheduler.queued(), 12);
}

#[test]
fn a_tenants_room_is_its_principals_in_equal_parts() {
    let mut house = House::new(8, MostWaiting::Unbounded);
    let (loud, quiet) = (standing("acme", "loud", 1), standing("acme", "quiet", 1));
    house.fill(&loud, 8);
    assert_eq!(house.offer(&loud, 128, 10), Err(Refusal::Full));
    for at in 0..4 {
        assert_eq!(house.offer(&quiet, 128, 10), Ok(vec![8 - at]));
    }
    assert_eq!(house.offer(&quiet, 128, 10), Err(Refusal::Full));
    assert_eq!(house.offer(&loud, 129, 10), Err(Refusal::Full));
}

#[test]
fn bytes_are_shared_as_places_are_and_nobody_leaves_for_nothing() {
    let mut house = House::new(100, MostWaiting::Unbounded);
    house.scheduler.limits.bytes = 100;
    let (acme, beta) = (standing("acme", "cam-1", 3), standing("beta", "cam-1", 1));
    house.fill(&beta, 10);
    assert_eq!(house.offer(&acme, 128, 90), Err(Refusal::Bytes), "more than three of four parts");
    assert_eq!(house.scheduler.queued(), 10, "and all have their places again");
    assert_eq!(house.offer(&acme, 128, 60), Ok(vec![10, 9, 8, 7, 6, 5]));
    assert_eq!(house.scheduler.waiting.bytes, 100);
}

#[test]
fn a_models_own_bound_is_shared_too() {
    for bound in [MostWaiting::All(4), MostWaiting::ByPriority([(128, 4)].into())] {
        let mut house = House::new(100, bound);
        let [acme, beta, other] = [("acme", "cam-1"), ("beta", "cam-1"), ("beta", "cam-2")]
            .map(|(tenant, name)| standing(tenant, name, 1));
        house.fill(&beta, 4);
        assert_eq!(house.offer(&beta, 128, 10), Err(Refusal::ModelFull));
        assert_eq!(house.offer(&acme, 128, 10), Ok(vec![4]));
        assert_eq!(house.offer(&acme, 128, 10), Ok(vec![3]));
        assert_eq!(house.offer(&acme, 128, 10), Err(Refusal::ModelFull));
        assert_eq!(house.offer(&other, 128, 10), Ok(vec![2]));
        assert_eq!(house.offer(&other, 128, 10), Err(Refusal::ModelFull));
        assert_eq!(house.scheduler.queued(), 4);
    }
}

#[test]
fn a_flood_makes_nobody_elses_call_look_hopeless() {
    let mut house = House::new(256, MostWaiting::Unbounded);
    let (acme, beta) = (standing("acme", "cam-1", 1), standing("beta", "cam-1", 1));
    house.fill(&beta, 200);
    let offer = |scheduler: &mut Scheduler<u8, usize>, standing: &Arc<Standing>, ms: u32, model, now| {
        let (deadline, standing) = (now + MILLI * ms, Arc::clone(standing));
        let offer = Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 128, deadline, standing };
        scheduler.offer(now, offer, 0).map(drop).map_err(|refused| refused.why)
    };
    let (model, now) = (house.model, house.now);
    let started = house.scheduler.take(now, |_| false).batch.unwrap().started;
    // A millisecond for the batch under way, then its own.
    assert_eq!(offer(&mut house.scheduler, &acme, 3, model, now), Ok(()));
    // Ten of its own, and as many of beta's between them.
    for at in 1..10 {
        assert_eq!(offer(&mut house.scheduler, &acme, 3 + 2 * at, model, now), Ok(()), "{at}");
    }
    assert_eq!(offer(&mut house.scheduler, &acme, 14, model, now), Ok(()));
    assert_eq!(offer(&mut house.scheduler, &acme, 14, model, now), Err(Refusal::Hopeless));
    assert_eq!(offer(&mut house.scheduler, &beta, 150, model, now), Ok(()), "before all that wait longer");
    house.scheduler.finished(&started, MILLI, true);
    // Beta has its own flood before it.
    let deadline = now + Duration::from_secs(61);
    let standing = Arc::clone(&beta);
    let last =
        Offer { model, bucket: 0, rows: 1, bytes: 1, priority: 255, deadline: now + MILLI * 150, standing };
    assert_eq!(house.scheduler.offer(now, last.clone(), 0).unwrap_err().why, Refusal::Hopeless);
    assert!(house.scheduler.offer(now, Offer { deadline, ..last }, 0).is_ok());
}

#[test]
fn who_was_given_what_is_forgotten_when_it_says_nothing_any_more() {
    let mut house = House::new(100_000, MostWaiting::Unbounded);
    for number in 0..5000 {
        let standing = standing(&format!("tenant-{}", number % 50), &format!("cam-{number}"), 1);
        house.offer(&standing, 128, 1).unwrap();
        let started = house.scheduler.take(house.now, |_| false).batch.unwrap().started;
        house.offer(&standing, 128, 1).unwrap();
        house.scheduler.finished(&started, MILLI, true);
        house.now += MILLI;
    }
    while let Some(batch) = house.scheduler.take(house.now, |_| false).batch {
        house.scheduler.finished(&batch.started, MILLI, true);
    }
    assert_eq!(house.scheduler.shares.flows().count(), 0);
    assert_eq!(house.scheduler.queued(), 0);
}
