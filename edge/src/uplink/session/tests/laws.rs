//! What holds in every world, over thousands of them. A world that breaks a law prints its seed; MILLGATE_SEED runs that
//! one alone.

use super::simulation::{Outcome, Place, Random, Trouble, World};
use super::*;

fn for_seeds(count: u64, check: impl Fn(u64)) {
    if let Some(seed) = std::env::var("MILLGATE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return check(seed);
    }
    for seed in 0..count {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
        assert!(result.is_ok(), "MILLGATE_SEED={seed}");
    }
}

fn troubles(random: &mut Random, length: Duration) -> Vec<(Duration, Duration, Trouble)> {
    let mut troubles = Vec::new();
    let mut at = random.ms(100, 6_000);
    while at < length {
        let until = at + random.ms(50, 8_000);
        let how = if random.chance(50) { Trouble::Silent } else { Trouble::Reset };
        troubles.push((at, until, how));
        at = until + random.ms(20, 10_000);
    }
    troubles
}

fn place(random: &mut Random, length: Duration) -> Place {
    Place {
        trip: random.ms(1, 400),
        computing: random.ms(0, 80),
        slow: random.below(40),
        full: random.below(30),
        troubles: troubles(random, length),
    }
}

fn is_bounded(outcome: &Outcome) {
    let counts = outcome.counts;
    let most = |share: f64, burst: f64| (counts.calls as f64 * share + burst) as u64;
    assert!(counts.hedges <= most(HEDGE_SHARE, HEDGE_BURST), "{counts:?}");
    assert!(counts.retries <= most(RETRY_SHARE, RETRY_BURST), "{counts:?}");
    let failed: u64 = outcome.failed.values().sum();
    assert_eq!(outcome.answered + failed, counts.calls, "{outcome:?}");
}

#[test]
fn every_call_ends_once_by_its_deadline_whatever_lines_do() {
    for_seeds(3_000, |seed| {
        let mut random = Random::new(seed);
        let length = MS * 15_000;
        let places: Vec<Place> = (0..=random.below(3)).map(|_| place(&mut random, length)).collect();
        let count = places.len() as u64;
        let every = (5, 5 + random.below(400));
        let deadline = (5, 50 + random.below(3_000));
        let outcome = World { places, length, every, deadline, random }.run();
        is_bounded(&outcome);
        // Rounds: at most four a second and address at first, one at last.
        assert!(outcome.dials <= count * 20 * 20, "{outcome:?}");
    });
}

#[test]
fn a_second_address_that_works_answers_all_that_the_first_one_drops() {
    for_seeds(1_000, |seed| {
        let mut random = Random::new(seed);
        let length = MS * 20_000;
        let bad = Place { trip: random.ms(1, 60), slow: 0, full: 0, ..place(&mut random, length) };
        let good = Place { trip: random.ms(1, 60), computing: MS, slow: 0, full: 0, troubles: Vec::new() };
        let outcome =
            World { places: vec![bad, good], length, every: (20, 200), deadline: (2_500, 3_000), random }
                .run();
        is_bounded(&outcome);
        assert!(outcome.failed.is_empty() && outcome.refused == 0, "{outcome:?}");
    });
}

#[test]
fn a_pool_that_is_gone_costs_a_few_deadlines_and_no_more() {
    for_seeds(500, |seed| {
        let mut random = Random::new(seed);
        let (from, until) = (MS * 5_000, MS * 35_000);
        let how = if random.chance(50) { Trouble::Silent } else { Trouble::Reset };
        let place = Place {
            trip: random.ms(1, 100),
            computing: MS * 5,
            slow: 0,
            full: 0,
            troubles: vec![(from, until, how)],
        };
        let deadline = 300 + random.below(700);
        let every = (20, 60);
        let world =
            World { places: vec![place], length: MS * 40_000, every, deadline: (deadline, deadline), random };
        let outcome = world.run();
        is_bounded(&outcome);
        // Those in flight when it went, and those that came until two deadlines had passed.
        let failed: u64 = outcome.failed.values().sum();
        assert!(failed <= 2 * (deadline + 300) / 20, "{outcome:?}");
    });
}
