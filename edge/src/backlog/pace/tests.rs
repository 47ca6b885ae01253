use super::*;

const FIRST: Millis = PAUSES.first.as_millis() as Millis;
const LONGEST: Millis = PAUSES.longest.as_millis() as Millis;

#[test]
fn the_window_grows_with_answers_and_halves_with_trouble() {
    let mut pace = Pace::new(8);
    let mut now = 0;
    for _ in 0..200 {
        while pace.may_send(now).is_ok() {
            pace.sent();
        }
        now += 20;
        for _ in 0..pace.out {
            pace.ended(End::Answered, 20, now);
        }
    }
    assert_eq!(pace.window(), 8);
    pace.sent();
    pace.ended(End::Trouble, 20, now);
    assert_eq!(pace.window(), 4);
    assert_eq!(pace.may_send(now), Err(Some(now + FIRST)));
    pace.reset();
    assert_eq!(pace.may_send(now), Ok(()));
}

#[test]
fn pauses_grow_and_end() {
    let mut pace = Pace::new(4);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        pace.sent();
        pace.ended(End::Trouble, 1, now);
        let Err(Some(until)) = pace.may_send(now) else { panic!() };
        pauses.push(until - now);
        now = until;
    }
    assert_eq!(pauses[..3], [500, 1000, 2000]);
    assert_eq!(pauses.last(), Some(&LONGEST));
}

#[test]
fn beside_live_calls_one_is_out_and_the_line_rests_after_it() {
    let mut pace = Pace::new(8);
    for _ in 0..100 {
        pace.sent();
        pace.ended(End::Answered, 20, 0);
    }
    pace.live(1000);
    assert_eq!(pace.may_send(1000), Ok(()));
    pace.sent();
    assert_eq!(pace.may_send(1000), Err(None));
    pace.live(1050);
    pace.ended(End::Answered, 50, 1050);
    assert_eq!(pace.may_send(1050), Err(Some(1100)));
    assert_eq!(pace.may_send(1050 + QUIET), Ok(()));
}

#[test]
fn answers_that_get_slow_shrink_the_window() {
    let mut pace = Pace::new(8);
    for _ in 0..100 {
        pace.sent();
        pace.ended(End::Answered, 20, 0);
    }
    pace.sent();
    pace.ended(End::Answered, 200, 0);
    assert_eq!(pace.window(), 4);
}

/// Never more out than allowed, never a stop without an end.
#[test]
fn thousands_of_lines() {
    for seed in 0..3000_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut random = |most: u64| random.u64(..most);
        let mut pace = Pace::new(1 + random(8) as usize);
        let mut now = 0;
        for _ in 0..200 {
            now += random(300) as Millis;
            match random(4) {
                0 => pace.live(now),
                1 if pace.may_send(now).is_ok() => pace.sent(),
                _ if pace.out > 0 => {
                    let end = if random(3) == 0 { End::Trouble } else { End::Answered };
                    pace.ended(end, random(500) as Millis, now);
                }
                _ => {}
            }
            assert!(pace.out <= pace.most, "seed {seed}");
            if let Err(Some(until)) = pace.may_send(now) {
                assert!(until > now && until <= now + LONGEST, "seed {seed}");
            }
        }
        while pace.out > 0 {
            pace.ended(End::Answered, 1, now);
        }
        assert!(pace.may_send(now + LONGEST + QUIET).is_ok(), "seed {seed}");
    }
}

#[test]
fn what_stays_here_teaches_nothing() {
    let mut pace = Pace::new(4);
    for at in 0..100 {
        pace.sent();
        pace.ended(End::StayedHere, 0, at);
    }
    assert_eq!((pace.window(), pace.out), (1, 0));
    for at in 0..20 {
        pace.sent();
        pace.ended(End::Answered, 40, 100 + at);
    }
    assert_eq!(pace.window(), 4);
}
