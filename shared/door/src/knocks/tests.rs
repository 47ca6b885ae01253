use super::*;

fn block(number: u32) -> Block {
    Block::of((std::net::Ipv4Addr::from_bits(number), 1).into())
}

/// Where a flood comes from, and what it says.
#[derive(Debug, Clone, Copy)]
struct Flood {
    /// Connections a second.
    rate: u32,
    /// Addresses that they come from, in turn.
    addresses: u32,
    /// Whether each says its part of the handshake at once, and then no more.
    speaks: bool,
}

/// Honest device, and the line that it comes over.
#[derive(Debug, Clone, Copy)]
struct Honest {
    /// Milliseconds to the pool and back.
    round_trip: u32,
    /// Milliseconds from its connection's first packet to its part of the handshake: a relay in between holds it back.
    silent: u32,
    /// Its address is one of the flood's.
    shares_address: bool,
}

/// How often of `tries` a handshake comes to its end through a flood, in virtual time: one millisecond a step.
fn finished(bounds: Bounds, flood: Flood, honest: Honest, tries: u32) -> f64 {
    const PATIENCE: u32 = 10_000;
    let mut rng = Rng::with_seed(u64::from(flood.rate * 1000 + honest.round_trip));
    let mut knocks = Knocks::new(bounds);
    let mut ends: std::collections::VecDeque<(u32, u64)> = std::collections::VecDeque::new();
    let (mut came, mut done, mut tried) = (0_u64, 0_u32, 0_u32);
    // Who is trying: its number, and when it began.
    let mut trying: Option<(u64, u32)> = None;
    let home = if honest.shares_address { block(1) } else { block(u32::MAX) };
    for now in 0.. {
        let due = u64::from(now) * u64::from(flood.rate) / 1000;
        while came < due {
            came += 1;
            let from = block(1 + (came % u64::from(flood.addresses)) as u32);
            let (number, left) = knocks.knock(from, &mut rng);
            if flood.speaks {
                knocks.has_spoken(number);
            }
            ends.push_back((now + PATIENCE, number));
            if trying.is_some_and(|(honest, _)| left == Some(honest)) {
                trying = None;
            }
        }
        while ends.front().is_some_and(|(end, _)| *end <= now) {
            knocks.leave(ends.pop_front().unwrap().1);
        }
        assert!(knocks.len() <= bounds.most);
        match trying {
            Some((number, began)) if now - began >= honest.silent + honest.round_trip => {
                assert!(knocks.leave(number));
                (done, trying) = (done + 1, None);
            }
            Some((number, began)) if now - began >= honest.silent => knocks.has_spoken(number),
            Some(_) => {}
            // The places are full by then.
            None if now > 5000 => {
                if tried == tries {
                    break;
                }
                tried += 1;
                let (number, _) = knocks.knock(home, &mut rng);
                if honest.silent == 0 {
                    knocks.has_spoken(number);
                }
                trying = Some((number, now));
            }
            None => {}
        }
    }
    f64::from(done) / f64::from(tries)
}

/// Bounds of a pool's doors.
const POOL: Bounds = Bounds { most: 2048, of_block: 1536 };

const fn line(round_trip: u32, silent: u32, shares_address: bool) -> Honest {
    Honest { round_trip, silent, shares_address }
}

const fn flood(rate: u32, addresses: u32, speaks: bool) -> Flood {
    Flood { rate, addresses, speaks }
}

#[test]
fn an_honest_handshake_gets_through_a_flood() {
    // The least share of tries that come to their end.
    for (flood, honest, least) in [
        // Silent connections: who has spoken is before all of them.
        (flood(500, 1, false), line(600, 0, true), 1.0),
        (flood(1000, 1, false), line(600, 0, true), 1.0),
        (flood(3000, 1, false), line(600, 0, true), 1.0),
        (flood(1000, 500, false), line(600, 0, false), 1.0),
        // The device's own part is late as well, behind a relay: it is as silent as they are until then.
        (flood(500, 1, false), line(300, 600, true), 0.75),
        (flood(1000, 1, false), line(100, 200, true), 0.80),
        (flood(1000, 1, false), line(300, 600, true), 0.60),
        // From one address that is not its own: that address pays.
        (flood(3000, 1, true), line(600, 600, false), 1.0),
        // All say their part while the device's is held back: it is not the first to go for that.
        (flood(1000, 500, true), line(300, 300, false), 0.68),
        // All say their part, and from many addresses, or from its own: of equals any leaves.
        (flood(500, 500, true), line(600, 0, false), 0.80),
        (flood(1000, 500, true), line(600, 0, false), 0.68),
        (flood(1000, 1, true), line(600, 0, true), 0.60),
        (flood(3000, 1, true), line(600, 0, true), 0.22),
    ] {
        let share = finished(POOL, flood, honest, 400);
        assert!(share >= least, "{flood:?} {honest:?}: {share}");
        // Within four tries most get in at the worst of these, and nearly all elsewhere.
        let within_four = 1.0 - (1.0 - share).powi(4);
        assert!(within_four > if least < 0.5 { 0.60 } else { 0.96 }, "{flood:?} {honest:?}: {within_four}");
    }
}

/// A random one leaves, so that the chance to stay through `n` newcomers among `m` places is (1 - 1/m)^n, whoever came
/// when: the oldest would have none at all as soon as n reaches m.
#[test]
fn the_chance_to_stay_is_that_of_an_even_draw() {
    for (most, rate, round_trip) in [(256, 500, 600), (256, 1000, 200), (1024, 1000, 600), (2048, 3000, 600)]
    {
        let bounds = Bounds { most, of_block: most };
        let share = finished(bounds, flood(rate, 1, true), line(round_trip, 0, true), 2000);
        let newcomers = f64::from(rate) * f64::from(round_trip) / 1000.0;
        let expected = (1.0 - 1.0 / most as f64).powf(newcomers);
        assert!((share - expected).abs() < 0.04, "{most} {rate} {round_trip}: {share}, not {expected}");
    }
}

#[test]
fn no_block_of_addresses_holds_more_than_its_bound() {
    let bounds = Bounds { most: 64, of_block: 48 };
    let (mut knocks, mut rng) = (Knocks::new(bounds), Rng::with_seed(1));
    let (honest, _) = knocks.knock(block(2), &mut rng);
    for _ in 0..1000 {
        let (_, left) = knocks.knock(block(1), &mut rng);
        assert_ne!(left, Some(honest), "its own leave");
    }
    assert_eq!((knocks.len(), knocks.of_block[&block(1)].len()), (49, 48));
    while let Some(left) = knocks.shed(&mut rng) {
        assert!(!knocks.leave(left));
    }
    assert!(knocks.of_block.is_empty());
}
