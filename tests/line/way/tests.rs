//! The line's rules, in virtual time.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Sends `count` packets, one each `gap`; gives number and arrival of those that arrive.
fn sent(
    weather: Weather,
    seed: u64,
    count: u32,
    bytes: usize,
    gap: Duration,
) -> (Vec<(u32, Duration)>, Counts) {
    let mut way = Way::new(weather, seed);
    let mut arrived = Vec::new();
    let take = |way: &mut Way<u32>, until: Duration, arrived: &mut Vec<_>| {
        while let Some(at) = way.next().filter(|at| *at <= until) {
            while let Some(number) = way.pop(at) {
                arrived.push((number, at));
            }
        }
    };
    for number in 0..count {
        let now = gap * number;
        take(&mut way, now, &mut arrived);
        way.push(now, number, bytes, Kind::Udp);
    }
    take(&mut way, Duration::MAX, &mut arrived);
    (arrived, way.counts())
}

#[test]
fn a_perfect_line_passes_everything_at_once() {
    let (arrived, counts) = sent(Weather::default(), 1, 100, 1000, MS);
    assert_eq!(arrived, (0..100).map(|at| (at, MS * at)).collect::<Vec<_>>());
    assert_eq!((counts.passed, counts.passed_bytes), (100, 100_000));
}

#[test]
fn loss_has_its_share_and_bursts_their_length() {
    for seed in 0..5 {
        for share in [0.01, 0.03, 0.1] {
            for loss in [
                Loss::Random(share),
                Loss::Bursts { share, length: 8 },
                // A quarter of the bad state's packets pass; sojourns of 8 packets.
                Loss::States {
                    to_bad: share / (0.75 - share) / 8.0,
                    to_good: 1.0 / 8.0,
                    lost_in_good: 0.0,
                    lost_in_bad: 0.75,
                },
            ] {
                let (arrived, counts) = sent(Weather { loss, ..Weather::default() }, seed, 100_000, 100, MS);
                let lost = counts.lost as f64 / 100_000.0;
                assert!((lost / share - 1.0).abs() < 0.3, "seed {seed}, {loss:?}: {lost}");
                if let Loss::Bursts { length, .. } = loss {
                    let gaps =
                        arrived.windows(2).map(|pair| pair[1].0 - pair[0].0 - 1).filter(|gap| *gap > 0);
                    assert!(gaps.into_iter().all(|gap| gap % length == 0), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn delay_and_jitter_bound_the_arrival_and_keep_the_order() {
    let weather = Weather { delay: 40 * MS, jitter: 15 * MS, ..Weather::default() };
    for seed in 0..50 {
        let (arrived, _) = sent(weather, seed, 1000, 100, MS);
        assert_eq!(arrived.len(), 1000);
        assert!(arrived.windows(2).all(|pair| pair[0].0 < pair[1].0), "seed {seed}");
        for (number, at) in arrived {
            let took = at - MS * number;
            assert!(took >= 40 * MS && took <= 55 * MS, "seed {seed}: {took:?}");
        }
    }
}

#[test]
fn a_share_is_overtaken_and_nothing_is_lost_by_it() {
    let weather = Weather { delay: 20 * MS, reorder: 0.1, held: 10 * MS, ..Weather::default() };
    let (arrived, counts) = sent(weather, 7, 10_000, 100, MS);
    assert_eq!(arrived.len(), 10_000);
    let out_of_order = arrived.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
    assert!((800..1200).contains(&(counts.overtaken as usize)), "{counts:?}");
    assert!((500..1200).contains(&out_of_order), "{out_of_order}");
}

#[test]
fn the_rate_holds_and_the_queue_drops_what_it_cannot_hold() {
    // 1 Mbit/s is 125 bytes a millisecond; twice as much is sent.
    let weather = Weather { rate: Some(1_000_000), queue: 12_500, ..Weather::default() };
    let (arrived, counts) = sent(weather, 1, 2000, 250, MS);
    let last = arrived.last().unwrap().1;
    let rate = counts.passed_bytes as f64 * 8.0 / last.as_secs_f64();
    assert!((rate / 1_000_000.0 - 1.0).abs() < 0.01, "{rate}");
    assert!((900..1000).contains(&counts.overflowed), "{counts:?}");
    // 12,500 bytes take 100 ms.
    let most = arrived.iter().map(|(number, at)| *at - MS * *number).max().unwrap();
    assert!(most <= 101 * MS && most >= 95 * MS, "{most:?}");
}

#[test]
fn a_slower_rate_does_not_hold_back_what_comes_after_it_has_passed() {
    let slow = Weather { rate: Some(80_000), ..Weather::default() };
    let mut way = Way::new(slow, 1);
    for number in 0..10 {
        // 100 ms each.
        way.push(Duration::ZERO, number, 1000, Kind::Other);
    }
    assert_eq!(way.pop(100 * MS), Some(0));
    way.set(150 * MS, Weather { rate: Some(8_000_000), ..slow });
    let mut at = 150 * MS;
    while let Some(next) = way.next() {
        at = next;
        while way.pop(next).is_some() {}
    }
    // The one under way ends as it began; the other eight take 1 ms each.
    assert_eq!(at, 208 * MS);
}

#[test]
fn a_cut_swallows_what_is_sent_and_blocked_udp_passes_the_rest() {
    let mut way = Way::new(Weather { delay: 10 * MS, ..Weather::default() }, 1);
    way.push(Duration::ZERO, 0, 100, Kind::Other);
    way.set(MS, Weather { is_cut: true, ..way.weather() });
    way.push(2 * MS, 1, 100, Kind::Other);
    way.set(3 * MS, Weather { is_cut: false, blocks_udp: true, ..way.weather() });
    way.push(4 * MS, 2, 100, Kind::Udp);
    way.push(5 * MS, 3, 100, Kind::Other);
    let mut arrived = Vec::new();
    while let Some(at) = way.next() {
        arrived.extend(way.pop(at));
    }
    assert_eq!(arrived, [0, 3]);
    assert_eq!((way.counts().cut, way.counts().blocked), (1, 1));
}

#[test]
fn a_stream_loses_nothing_whatever_the_weather() {
    let weather = Weather {
        loss: Loss::Random(0.5),
        reorder: 0.5,
        rate: Some(80_000),
        queue: 1000,
        ..Weather::default()
    };
    let mut way = Way::new(weather, 1);
    (0..50).for_each(|number| way.push(Duration::ZERO, number, 500, Kind::Stream));
    let mut arrived = Vec::new();
    while let Some(at) = way.next() {
        arrived.extend(way.pop(at));
    }
    assert_eq!(arrived, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_seed_replays() {
    let weather = Weather {
        loss: Loss::Random(0.1),
        delay: 30 * MS,
        jitter: 20 * MS,
        reorder: 0.05,
        rate: Some(2_000_000),
        ..Weather::default()
    };
    let run = |seed| sent(weather, seed, 5000, 300, MS);
    assert_eq!(run(42), run(42));
    assert_ne!(run(42), run(43));
}
