//! What holds whatever the others do.

use super::*;

fn truth(points: &[(usize, u64)], factor: f64) -> Truth {
    let micros = |(rows, micros): &(usize, u64)| (*rows, Duration::from_micros(*micros));
    Truth { estimate: points.iter().map(micros).collect(), factor }
}

const DENSE: [(usize, u64); 3] = [(1, 284), (8, 706), (32, 3095)];
const CONVOLUTION: [(usize, u64); 2] = [(1, 845), (8, 6896)];

fn flood(standing: &Arc<Standing>, callers: usize, change: impl Fn(usize, &mut Caller)) -> Vec<Caller> {
    let caller = |number: usize| {
        let mut caller = Caller::new(standing, 0);
        change(number, &mut caller);
        caller
    };
    (0..callers).map(caller).collect()
}

/// Where a tenant's share is held against those of others: what each had been given when the tenant's wait began.
type Since = HashMap<Principal, HashMap<Principal, Duration>>;

/// From the moment on that a tenant has something waiting, nobody is given more for each part of a share than it is, but
/// for the longest batch in which it may ride, and what the workers have in hand: at that moment, and at the end of either.
fn check(world: &World, shares: &HashMap<Principal, u32>, since: &mut Since, seed: u64) {
    let waiting: HashMap<Principal, usize> = shares
        .keys()
        .map(|tenant| {
            let number = world.scheduler.shares.tenant_of(tenant.tenant());
            let waiting = number.and_then(|number| world.scheduler.shares.tenant(number));
            (tenant.clone(), waiting.map_or(0, |tenant| tenant.waiting.entries))
        })
        .collect();
    for (tenant, share) in shares {
        if waiting[tenant] == 0 {
            since.remove(tenant);
            continue;
        }
        let before = since.entry(tenant.clone()).or_insert_with(|| world.given.clone());
        let given = |tenant: &Principal| {
            let get = |of: &HashMap<Principal, Duration>| of.get(tenant).copied().unwrap_or_default();
            get(&world.given).saturating_sub(get(before)).as_secs_f64()
        };
        let in_hand = 3.0 * world.workers.len() as f64 * world.longest.as_secs_f64();
        for (other, theirs) in shares {
            let ahead = world.scheduler.limits.longest_batch.as_secs_f64();
            let (mine, others) = (given(tenant) / f64::from(*share), given(other) / f64::from(*theirs));
            assert!(
                others <= mine + in_hand + ahead + 1e-6,
                "seed {seed}: {tenant} was given {mine:.4} s a share, {other} {others:.4} s, in hand {in_hand:.4} s"
            );
        }
    }
}

#[test]
fn whoever_has_something_waiting_is_given_its_share() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        // The second model takes up to ten times as long as is thought, and so do its batches.
        let models = [truth(&DENSE, 0.7 + random.f64()), truth(&CONVOLUTION, 0.5 + 10.0 * random.f64())];
        let (mut callers, mut shares) = (Vec::new(), HashMap::new());
        for (number, name) in ["acme", "beta", "gamma", "delta"].iter().enumerate() {
            if number > 1 && random.bool() {
                continue;
            }
            let share = random.u32(1..=4);
            shares.insert(Principal::device(name, "all"), share);
            for device in 0..random.usize(1..4) {
                let standing = standing(name, &format!("cam-{device}"), share);
                let (model, pause) = (random.usize(0..2), Duration::from_micros(random.u64(0..3000)));
                let most = if random.bool() { 40 } else { 3 };
                for _ in 0..random.usize(1..=most) {
                    let mut caller = Caller::new(&standing, model);
                    (caller.bucket, caller.pause) = (random.u8(0..2), pause);
                    caller.priority = 128 + random.u8(0..3);
                    callers.push(caller);
                }
            }
        }
        let workers = random.usize(1..=3);
        let mut world = World::new(workers, 100_000, &models, callers);
        let mut since = Since::new();
        world.run(300 * MILLI, |world| check(world, &shares, &mut since, seed));
    }
}

#[test]
fn a_flood_takes_nothing_from_who_asks_for_little() {
    let (acme, beta) = (standing("acme", "cam-1", 1), standing("beta", "client", 1));
    for (patience, priority) in [(60_000, 1), (100, 128), (30, 128), (5, 1)] {
        // A request each 10 ms, which takes about 0.3: far less than half of the compute.
        let little =
            Caller { pause: 10 * MILLI, is_steady: true, patience: 30 * MILLI, ..Caller::new(&acme, 0) };
        let mut callers = flood(&beta, 24, |number, caller| {
            caller.model = number % 2;
            (caller.patience, caller.priority) = (MILLI * patience, priority);
        });
        callers.push(little);
        let mut world = World::new(1, 256, &[truth(&DENSE, 1.0), truth(&CONVOLUTION, 1.0)], callers);
        world.run(Duration::from_secs(2), |_| {});
        let (acme, beta) = (world.tally("acme"), world.tally("beta"));
        assert!(acme.asked >= 190 && acme.in_time + 1 >= acme.asked, "{patience} ms: {acme:?}, {beta:?}");
        // At most the batch that is under way, and its own.
        assert!(acme.slowest <= 2 * world.longest + MILLI, "{patience} ms: {acme:?}, {:?}", world.longest);
        assert!(beta.in_time > 1000, "what is left is theirs: {beta:?}");
    }
}

#[test]
fn a_device_takes_nothing_from_another_of_its_tenant() {
    let (loud, quiet) = (standing("acme", "loud", 1), standing("acme", "quiet", 1));
    let little =
        Caller { pause: 10 * MILLI, is_steady: true, patience: 40 * MILLI, ..Caller::new(&quiet, 0) };
    let mut callers = flood(&loud, 24, |_, caller| caller.patience = 20 * MILLI);
    callers.push(little);
    let mut world = World::new(1, 256, &[truth(&CONVOLUTION, 1.0)], callers);
    world.run(Duration::from_secs(2), |_| {});
    let quiet = world.tallies[24];
    assert!(quiet.asked >= 190 && quiet.in_time + 1 >= quiet.asked, "{quiet:?}, {:?}", world.tallies[0]);
}

#[test]
fn shares_divide_what_there_is_and_what_one_leaves_is_the_others() {
    let tenants = [("acme", 3), ("beta", 1)];
    let callers = |count: usize| {
        let of = |(name, share): (&str, u32)| flood(&standing(name, "cam-1", share), count, |_, _| {});
        tenants.into_iter().flat_map(of).collect::<Vec<_>>()
    };
    let mut world = World::new(1, 256, &[truth(&CONVOLUTION, 1.0)], callers(24));
    world.run(Duration::from_secs(2), |_| {});
    let (acme, beta) = (world.tally("acme").in_time as f64, world.tally("beta").in_time as f64);
    assert!((2.8..3.2).contains(&(acme / beta)), "{acme} and {beta}");
    // One caller leaves the worker to others for as long as it thinks.
    let mut few = callers(24);
    few.retain(|caller| caller.standing.principal == Principal::device("beta", "cam-1"));
    few.push(Caller { pause: 9 * MILLI, ..Caller::new(&standing("acme", "cam-1", 3), 0) });
    let mut world = World::new(1, 256, &[truth(&CONVOLUTION, 1.0)], few);
    world.run(Duration::from_secs(2), |_| {});
    let alone = 2000.0 / 0.845;
    let both = (world.tally("acme").in_time + world.tally("beta").in_time) as f64;
    assert!(both > 0.98 * alone, "{both} of {alone}");
}

#[test]
fn a_batch_is_shared_and_each_pays_for_its_own_rows() {
    let (acme, beta) = (standing("acme", "cam-1", 1), standing("beta", "cam-1", 1));
    let mut callers = flood(&acme, 16, |_, _| {});
    callers.extend(flood(&beta, 16, |_, _| {}));
    let mut world = World::new(1, 256, &[truth(&DENSE, 1.0)], callers);
    let mut mixed = 0;
    world.run(Duration::from_secs(1), |world| {
        let tenants = |busy: &Busy| {
            let of = |question: &Question| world.callers[question.caller].standing.principal.clone();
            busy.batch.entries.iter().map(of).collect::<HashSet<_>>().len()
        };
        mixed += world.workers.iter().flatten().filter(|busy| tenants(busy) == 2).count();
    });
    let (acme, beta) = (world.tally("acme").in_time, world.tally("beta").in_time);
    assert!(mixed > 100 && acme.abs_diff(beta) <= 32, "{mixed} batches, {acme} and {beta}");
    // As many as if they were one: batches of 8 take 706 µs.
    assert!(acme + beta > 10_000, "{acme} and {beta}");
}

#[test]
fn nobody_banks_what_it_did_not_ask_for() {
    let (acme, beta) = (standing("acme", "cam-1", 1), standing("beta", "cam-1", 1));
    let mut callers = flood(&acme, 24, |_, _| {});
    callers.extend(flood(&beta, 24, |_, _| {}));
    let mut world = World::new(1, 256, &[truth(&CONVOLUTION, 1.0)], callers);
    let late = world.now + Duration::from_secs(1);
    world.next[24..].fill(Some(late));
    world.run(Duration::from_secs(1), |_| {});
    let before = world.tally("acme").in_time;
    assert!(before > 1150, "{before}");
    world.run(200 * MILLI, |_| {});
    let (acme, beta) = (world.tally("acme").in_time - before, world.tally("beta").in_time);
    assert!(acme.abs_diff(beta) <= 3, "in the same 200 ms {acme} and {beta}");
}

#[test]
fn rank_orders_inside_a_tenant_and_not_across() {
    let (acme, beta) = (standing("acme", "cam-1", 1), standing("beta", "cam-1", 1));
    let mut callers = flood(&beta, 24, |_, caller| caller.priority = 0);
    callers.extend(flood(&acme, 24, |number, caller| caller.priority = if number == 0 { 100 } else { 200 }));
    let mut world = World::new(1, 256, &[truth(&CONVOLUTION, 1.0)], callers);
    world.run(Duration::from_secs(1), |_| {});
    let (of_acme, of_beta) = (world.tally("acme").in_time, world.tally("beta").in_time);
    assert!(of_acme.abs_diff(of_beta) <= 3, "{of_acme} and {of_beta}");
    let urgent = world.tallies[24];
    assert!(urgent.in_time > 300 && urgent.slowest < 4 * MILLI, "{urgent:?}");
}
