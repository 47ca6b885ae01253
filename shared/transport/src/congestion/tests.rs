//! Laws, each over lines drawn at random. A failing seed is printed, and replays.

use super::line::{Line, Random, Shape};

const SECOND: u64 = 1_000_000;
/// Raise it for a longer look.
const SEEDS: u64 = 400;

/// 0.1-100 Mbit/s, 5-400 ms, queues from a tenth of what the line holds to four times that.
fn any(random: &mut Random) -> Shape {
    let shape = Shape::new(random.spread(0.1, 100.0), random.spread(5.0, 400.0));
    let holds = shape.rate * shape.round_trip as f64 / 1e6;
    Shape { queue: (holds * random.spread(0.1, 4.0)).max(9_600.0), ..shape }
}

/// Long enough for the start and a while of steady sending, in packets or in round trips.
fn long(shape: &Shape) -> u64 {
    let packets = (4_000.0 * 1_200.0 / shape.rate * 1e6) as u64;
    packets.clamp(40 * shape.round_trip, 120 * shape.round_trip).max(2 * SECOND)
}

fn each(law: impl Fn(&mut Random, u64)) {
    for seed in 0..SEEDS {
        law(&mut Random::new(seed), seed);
    }
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[test]
fn the_line_is_used_whatever_is_lost() {
    each(|random, seed| {
        let shape = any(random);
        let loss = random.share() * 0.1;
        let burst = if random.share() < 0.5 { 1 } else { 8 };
        let shape = Shape { loss, burst, ..shape };
        let until = long(&shape);
        let mut line = Line::new(shape.clone(), seed, &[0]);
        line.run(until);
        let used = line.rate(0, until / 2, until) / shape.rate;
        // Where the line holds but a few packets there are seldom three behind a lost one, which would tell of it.
        let least = if shape.rate * shape.round_trip as f64 / 1e6 < 6_000.0 { 0.3 } else { 0.5 };
        assert!(used > least, "seed {seed}: {used:.2} of the line is used: {shape:?}");
    });
}

#[test]
fn the_queue_stays_short() {
    each(|random, seed| {
        let shape = Shape { loss: random.share() * 0.05, ..any(random) };
        let until = long(&shape);
        let mut line = Line::new(shape.clone(), seed, &[0]);
        line.run(until);
        // A quarter of what the line holds, and the packets that any sender may have under way.
        let packets = (14.0 * 1200.0 / shape.rate * 1e6) as u64;
        let most = shape.round_trip * 6 / 10 + packets + 10_000;
        let wait = line.wait(0.95, until / 2);
        assert!(wait <= most, "seed {seed}: {} ms, at most {}: {shape:?}", ms(wait), ms(most));
    });
}

#[test]
fn it_recovers_after_a_cut() {
    each(|random, seed| {
        let shape = any(random);
        let begins = long(&shape);
        let ends = begins + (random.spread(0.2, 2.0) * SECOND as f64) as u64;
        let shape = Shape { cut: (begins, ends), loss: random.share() * 0.03, ..shape };
        let mut line = Line::new(shape.clone(), seed, &[0]);
        // Probes back off: the first one after the cut may come as late again as the cut was long.
        let again = ends + (ends - begins) * 2 + 20 * shape.round_trip + SECOND;
        let until = again + 20 * shape.round_trip + SECOND;
        line.run(until);
        let used = line.rate(0, again, until) / shape.rate;
        assert!(used > 0.6, "seed {seed}: {used:.2} of the line is used: {shape:?}");
    });
}

#[test]
fn it_follows_a_line_that_changes() {
    each(|random, seed| {
        let shape = any(random);
        let at = long(&shape);
        let rate = shape.rate * random.spread(0.1, 10.0);
        let round_trip = (shape.round_trip as f64 * random.spread(0.3, 4.0)) as u64;
        let slower = shape.rate.min(rate);
        let longer = shape.round_trip.max(round_trip);
        let shape = Shape { later: Some((at, rate, round_trip)), ..shape };
        let mut line = Line::new(shape.clone(), seed, &[0]);
        let queue = (shape.queue / slower * 1e6) as u64;
        let again = at + 12 * SECOND + 30 * longer + 3 * queue;
        let until = again + 2 * SECOND + 10 * longer;
        if rate * (until - at) as f64 / 1e6 / 1200.0 > 40_000.0 {
            return;
        }
        line.run(until);
        let used = line.rate(0, again, until) / rate;
        assert!(used > 0.5, "seed {seed}: {used:.2} of the line is used: {shape:?}");
    });
}

#[test]
fn delay_that_comes_and_goes_is_not_taken_for_a_queue() {
    for seed in 0..SEEDS / 10 {
        let mut random = Random::new(seed);
        let shape = Shape::new(random.spread(1.0, 20.0), random.spread(20.0, 100.0));
        let shape = Shape { jitter: (shape.round_trip as f64 * random.share()) as u64, ..shape };
        let mut line = Line::new(shape.clone(), seed, &[0]);
        line.run(20 * SECOND);
        let used = line.rate(0, 5 * SECOND, 20 * SECOND) / shape.rate;
        assert!(used > 0.45, "seed {seed}: {used:.2} of the line is used: {shape:?}");
    }
}

#[test]
fn two_share_a_line() {
    for seed in 0..SEEDS / 20 {
        let mut random = Random::new(seed);
        let mut shape = Shape::new(random.spread(2.0, 20.0), random.spread(10.0, 100.0));
        shape.queue = shape.rate * shape.round_trip as f64 / 1e6 * 2.0 + 30_000.0;
        shape.loss = random.share() * 0.03;
        let later = (random.share() * 5e6) as u64;
        let mut line = Line::new(shape.clone(), seed, &[0, later]);
        line.run(40 * SECOND);
        let rates = [0, 1].map(|flow| line.rate(flow, 20 * SECOND, 40 * SECOND));
        let less = rates[0].min(rates[1]) / (rates[0] + rates[1]);
        assert!(less > 0.2, "seed {seed}: {rates:?}: {shape:?}");
    }
}

#[test]
fn the_window_never_closes() {
    each(|random, seed| {
        let shape = Shape { loss: 0.5 + random.share() * 0.5, ..any(random) };
        let mut line = Line::new(shape, seed, &[0]);
        line.run(3 * SECOND);
        assert!(line.flows[0].link.window() >= 5 * 1200, "seed {seed}");
    });
}

#[test]
fn small_calls_are_not_held_back() {
    each(|random, seed| {
        let loss = random.share() * 0.03;
        let burst = if random.share() < 0.5 { 1 } else { 8 };
        let shape = Shape { loss, burst, ..Shape::new(random.spread(5.0, 100.0), random.spread(5.0, 80.0)) };
        // Alone, and beside bulk on a connection of its own.
        for starts in [&[0][..], &[0, SECOND]] {
            let mut line = Line::new(shape.clone(), seed, starts);
            line.call(0, 25_000);
            line.run(3 * SECOND);
            let held = &mut line.flows[0].held;
            held.sort_unstable();
            let (half, most) = (held[held.len() / 2], held[held.len() * 98 / 100]);
            let window = line.flows[0].link.window();
            assert!(half < 5_000, "seed {seed}: {} ms, window {window}: {shape:?}", ms(half));
            assert!(most < 300_000, "seed {seed}: {} ms, window {window}: {shape:?}", ms(most));
        }
    });
}
