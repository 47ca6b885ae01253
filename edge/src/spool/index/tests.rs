use super::*;

fn digest(byte: u8) -> BundleDigest {
    BundleDigest::from_bytes(&[byte; 32]).unwrap()
}

fn limits(when_full: SpoolFull) -> Limits {
    Limits { bytes: 1000, age: 10_000, when_full }
}

fn entry(id: &str, segment: u64, at: u64, len: u64, born: Millis) -> Entry {
    let place = Place { segment, at, len };
    Entry { id: id.to_owned(), place, born, digest: digest(1), state: State::Held, tries: 0 }
}

fn index(when_full: SpoolFull) -> Index {
    Index::new(limits(when_full))
}

#[test]
fn entries_are_asked_in_order_once_their_first_decision_has_arrived() {
    let mut index = index(SpoolFull::RefuseNew);
    for (seq, id) in ["a", "b", "c"].into_iter().enumerate() {
        index.insert(seq as u64, entry(id, 0, seq as u64 * 10, 10, 0));
    }
    assert_eq!(index.take(5), None);
    index.release("b", 5);
    index.release("a", 5);
    assert_eq!(index.take(5).unwrap().0, 0);
    assert_eq!(index.take(5).unwrap().0, 1);
    assert_eq!(index.take(5), None);
    index.retry(0, 50, Again::Trouble);
    assert_eq!((index.take(49), index.next_due()), (None, Some(50)));
    index.release("c", 49);
    assert_eq!(index.take(49).unwrap().0, 2);
    index.wake(49);
    assert_eq!(index.take(49).unwrap().0, 0);
    assert_eq!(index.get(0).unwrap().tries, 0);
}

#[test]
fn a_line_that_comes_and_goes_shortens_no_pause_but_its_own() {
    let mut index = index(SpoolFull::RefuseNew);
    for (seq, id) in ["lost", "absent", "failed"].into_iter().enumerate() {
        index.insert(seq as u64, entry(id, 0, seq as u64 * 10, 10, 0));
        index.release(id, 0);
        index.take(0).unwrap();
    }
    index.retry(0, 1000, Again::Trouble);
    index.retry(1, 2000, Again::NotHere);
    index.retry(2, 3000, Again::Failed);
    for now in 1..100 {
        index.wake(now);
    }
    assert_eq!(index.take(100).unwrap().0, 0);
    assert_eq!((index.take(1999), index.next_due()), (None, Some(2000)));
    assert_eq!(index.take(2000).unwrap().0, 1);
    assert_eq!(index.take(3000).unwrap().0, 2);
    assert_eq!([0, 1, 2].map(|seq| index.get(seq).unwrap().tries), [0, 0, 1]);
}

#[test]
fn a_segment_that_stays_is_counted_and_neither_moved_nor_dropped() {
    let mut index = index(SpoolFull::DropOldest);
    index.insert(0, entry("a", 0, 0, 900, 0));
    let emptied = index.remove(0).unwrap();
    index.keep(emptied, 900);
    assert_eq!((index.bytes(), index.len()), (900, 0));
    assert_eq!(index.room(200, None, &BTreeSet::new()), Room::Refused);
    assert_eq!(index.empty_segments(), [Emptied { segment: 0, closed: vec!["a".to_owned()] }]);
}

#[test]
fn entries_of_several_bundles_are_asked_in_one_order() {
    let mut index = index(SpoolFull::RefuseNew);
    index.insert(0, entry("a", 0, 0, 10, 0));
    index.insert(1, Entry { digest: digest(2), ..entry("b", 0, 10, 10, 0) });
    index.insert(2, entry("c", 0, 20, 10, 0));
    assert_eq!(index.bundles(), BTreeMap::from([(digest(1), 2), (digest(2), 1)]));
    for id in ["a", "b", "c"] {
        index.release(id, 0);
    }
    assert_eq!([0, 1, 2].map(|_| index.take(100).unwrap().0), [0, 1, 2]);
    index.remove(0);
    index.remove(2);
    assert_eq!(index.bundles(), BTreeMap::from([(digest(2), 1)]));
}

#[test]
fn a_segment_goes_with_its_last_entry() {
    let mut index = index(SpoolFull::RefuseNew);
    index.insert(0, entry("a", 0, 0, 10, 0));
    index.insert(1, entry("b", 0, 10, 10, 0));
    assert_eq!(index.remove(0), None);
    let closed = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(index.remove(1), Some(Emptied { segment: 0, closed }));
    assert_eq!((index.bytes(), index.len()), (0, 0));
}

#[test]
fn when_it_is_full_the_policy_decides() {
    let fill = |when_full| {
        let mut index = index(when_full);
        for seq in 0..10 {
            index.insert(seq, entry(&seq.to_string(), seq / 2, seq % 2 * 100, 100, 0));
        }
        index
    };
    let none = BTreeSet::new();
    let refusing = fill(SpoolFull::RefuseNew);
    assert_eq!(refusing.room(1, Some(4), &none), Room::Refused);
    let mut dropping = fill(SpoolFull::DropOldest);
    assert_eq!(dropping.room(2000, Some(4), &none), Room::Refused);
    assert_eq!(dropping.room(1, Some(4), &none), Room::Drop(vec![0, 1]));
    // What is being asked stays.
    dropping.release("1", 0);
    dropping.take(0).unwrap();
    assert_eq!(dropping.room(1, Some(4), &none), Room::Drop(vec![2, 3]));
    // A segment that is half empty is worth moving.
    dropping.remove(6);
    assert_eq!(dropping.room(1, Some(4), &none), Room::Compact(3));
    assert_eq!(dropping.room(1, Some(3), &none), Room::Drop(vec![2, 3]));
    assert_eq!(dropping.room(1, Some(4), &BTreeSet::from([3])), Room::Drop(vec![2, 3]));
}

#[test]
fn a_moved_entry_keeps_its_number_and_its_old_place_is_free() {
    let mut index = index(SpoolFull::RefuseNew);
    index.insert(7, entry("a", 0, 0, 10, 0));
    let moved = index.insert(7, entry("a", 1, 0, 10, 0));
    assert_eq!(moved, Some(Emptied { segment: 0, closed: vec![] }));
    assert_eq!((index.len(), index.bytes()), (1, 10));
}

#[test]
fn an_entry_that_is_replaced_within_its_segment_does_not_take_it_along() {
    let mut index = index(SpoolFull::RefuseNew);
    index.insert(0, entry("a", 0, 0, 10, 0));
    assert_eq!(index.insert(1, entry("a", 0, 10, 20, 0)), None);
    assert_eq!((index.len(), index.live_bytes(), index.bytes()), (1, 20, 30));
    assert_eq!(index.remove(1).unwrap().closed, ["a"]);
}

/// What must hold at any time.
fn check(index: &Index, seed: u64) {
    let live: u64 = index.entries.values().map(|entry| entry.place.len).sum();
    assert_eq!(index.live_bytes(), live, "seed {seed}");
    assert!(index.live_bytes() <= index.bytes(), "seed {seed}");
    assert!(index.bytes() <= index.limits.bytes, "seed {seed}");
    assert_eq!(index.by_id.len(), index.entries.len(), "seed {seed}");
    assert_eq!(index.by_age.len(), index.entries.len(), "seed {seed}");
    let waiting = index.entries.values().filter(|entry| matches!(entry.state, State::Waiting { .. })).count();
    assert_eq!(index.waiting.len(), waiting, "seed {seed}");
    assert!(index.segments.values().all(|segment| !segment.live.is_empty()), "seed {seed}");
}

/// A life of the spool in virtual time: whatever comes in whatever order, each entry that was taken is asked and closed
/// exactly once, expires, or is dropped by name; the bound holds; nothing is asked before its time.
fn life(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let when_full = if random.u64(..2) == 0 { SpoolFull::RefuseNew } else { SpoolFull::DropOldest };
    let mut index = index(when_full);
    let (mut now, mut next, mut segment, mut at): (Millis, u64, u64, u64) = (0, 0, 0, 0);
    let (mut taken, mut closed, mut expired, mut dropped) = (0, 0, 0, 0);
    let mut out: Vec<u64> = Vec::new();
    for _ in 0..300 {
        now += random.u64(..400) as Millis;
        match random.u64(..8) {
            0..=2 => {
                let len = 1 + random.u64(..120);
                loop {
                    match index.room(len, Some(segment), &BTreeSet::new()) {
                        Room::Fits => {
                            if at + len > 200 {
                                (segment, at) = (segment + 1, 0);
                            }
                            index.insert(next, entry(&next.to_string(), segment, at, len, now));
                            (next, at, taken) = (next + 1, at + len, taken + 1);
                        }
                        Room::Compact(sparse) => {
                            (segment, at) = (segment + 1, 0);
                            for seq in index.live(sparse) {
                                let mut moved = index.get(seq).unwrap().clone();
                                moved.place = Place { segment, at, ..moved.place };
                                at += moved.place.len;
                                index.insert(seq, moved);
                            }
                            assert!(index.live(sparse).is_empty(), "seed {seed}");
                            continue;
                        }
                        Room::Drop(victims) => {
                            assert!(!victims.is_empty(), "seed {seed}");
                            for seq in victims {
                                assert!(!out.contains(&seq), "seed {seed}: asked and dropped");
                                if index.remove(seq).is_some_and(|emptied| emptied.segment == segment) {
                                    (segment, at) = (segment + 1, 0);
                                }
                                dropped += 1;
                            }
                            continue;
                        }
                        Room::Refused => {}
                    }
                    break;
                }
            }
            3 => {
                let id = random.u64(..next.max(1)).to_string();
                index.release(&id, now);
            }
            4 => {
                if let Some((seq, _)) = index.take(now) {
                    assert!(!out.contains(&seq), "seed {seed}: asked twice at once");
                    out.push(seq);
                }
            }
            5 if !out.is_empty() => {
                let seq = out.swap_remove(random.u64(..out.len() as u64) as usize);
                if index.remove(seq).is_some_and(|emptied| emptied.segment == segment) {
                    (segment, at) = (segment + 1, 0);
                }
                closed += 1;
            }
            6 if !out.is_empty() => {
                let seq = out.swap_remove(random.u64(..out.len() as u64) as usize);
                let due = now + random.u64(..2000) as Millis;
                index.retry(seq, due, Again::Failed);
                assert!(
                    index.take(due - 1).is_none_or(|(other, _)| {
                        out.push(other);
                        other != seq
                    }),
                    "seed {seed}: asked before its time"
                );
            }
            _ => {
                for seq in index.expired(now, Some(0)) {
                    assert!(index.get(seq).unwrap().born + 10_000 <= now, "seed {seed}");
                    if index.remove(seq).is_some_and(|emptied| emptied.segment == segment) {
                        (segment, at) = (segment + 1, 0);
                    }
                    expired += 1;
                }
            }
        }
        check(&index, seed);
        assert_eq!(taken, closed + expired + dropped + index.len(), "seed {seed}");
    }
}

#[test]
fn entries_of_earlier_runs_are_as_old_as_is_known() {
    let mut index = Index::new(Limits { bytes: 1 << 20, age: 1_000, when_full: SpoolFull::RefuseNew });
    // Two days old by the clock at the start, young, and of this run.
    for (seq, born) in [(1, -2_000), (2, -10), (3, 0), (4, 500)] {
        let place = Place { segment: 1, at: seq * 10, len: 10 };
        let state = State::Waiting { due: 0, is_firm: false };
        let digest = BundleDigest::of(b"");
        index.insert(seq, Entry { id: seq.to_string(), place, born, digest, state, tries: 0 });
    }
    let expired = |now, shift| {
        let mut expired = index.expired(now, shift);
        expired.sort_unstable();
        expired
    };
    assert_eq!(expired(1, Some(0)), [1]);
    assert_eq!(expired(990, Some(0)), [1, 2]);
    // Nobody knows what the clock at the start was worth.
    assert!(expired(999, None).is_empty());
    assert_eq!(expired(1_000, None), [1, 2, 3]);
    // It was ahead, or behind.
    assert!(expired(1, Some(-1_500)).is_empty());
    assert_eq!(expired(1, Some(995)), [1, 2]);
    assert_eq!(expired(1_500, Some(-5_000)), [3, 4]);
}

#[test]
fn thousands_of_lives() {
    for seed in 0..4000 {
        life(seed);
    }
}
