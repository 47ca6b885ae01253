use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::spool::faulty::{Faulty, salt};

const SEGMENT: u64 = 200;

fn open(disk: &Faulty, sync: Sync) -> (Log<Faulty>, BTreeMap<u64, Vec<u8>>) {
    let mut found = BTreeMap::new();
    let log = Log::open(
        disk.clone(),
        sync,
        SEGMENT,
        salt,
        |_| Some(()),
        |entry| {
            found.insert(entry.seq, entry.body);
            true
        },
    );
    (log.unwrap(), found)
}

fn body(at: u8) -> Vec<u8> {
    vec![at; 10 + usize::from(at) * 7 % 60]
}

/// A run of groups; gives what was acknowledged, by number.
fn run(log: &mut Log<Faulty>, groups: &[Vec<u8>]) -> BTreeMap<u64, Vec<u8>> {
    let mut acknowledged = BTreeMap::new();
    for group in groups {
        let bodies: Vec<Vec<u8>> = group.iter().map(|at| body(*at)).collect();
        let borrowed: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        if let Ok(places) = log.append(&borrowed) {
            for ((seq, place), body) in places.into_iter().zip(bodies) {
                assert_eq!(log.read(seq, place).unwrap().as_ref(), Some(&body));
                acknowledged.insert(seq, body);
            }
        }
    }
    acknowledged
}

fn groups() -> Vec<Vec<u8>> {
    (0..8).map(|group| (0..=group % 3).map(|at| group * 10 + at).collect()).collect()
}

fn assert_has_all(
    found: &BTreeMap<u64, Vec<u8>>,
    acknowledged: &BTreeMap<u64, Vec<u8>>,
    at: &dyn std::fmt::Debug,
) {
    for (seq, body) in acknowledged {
        assert_eq!(found.get(seq), Some(body), "entry {seq} is lost; {at:?}");
    }
}

#[test]
fn what_was_appended_is_found_after_a_restart() {
    let disk = Faulty::default();
    let (mut log, found) = open(&disk, Sync::Always);
    assert!(found.is_empty());
    let acknowledged = run(&mut log, &groups());
    let (mut log, found) = open(&disk, Sync::Always);
    assert_eq!(found, acknowledged);
    assert!(log.segments().count() > 1, "the segments are small");
    // Numbers go on, and old segments are not touched.
    let more = run(&mut log, &groups());
    let (_, found) = open(&disk, Sync::Always);
    assert_has_all(&found, &acknowledged, &"first");
    assert_has_all(&found, &more, &"second");
}

#[test]
fn a_kill_at_every_write_boundary_loses_nothing_that_was_acknowledged() {
    for sync in [Sync::Always, Sync::Second, Sync::Never] {
        let mut lives = 0;
        loop {
            let mut has_ended = true;
            for torn in [0, 1, 23, 24, 30, usize::MAX] {
                let disk = Faulty::default();
                disk.with(|state| (state.lives, state.torn) = (Some(lives), torn));
                let (mut log, _) = open(&disk, sync);
                let acknowledged = run(&mut log, &groups());
                has_ended &= disk.with(|state| state.lives != Some(0));
                disk.with(|state| state.lives = None);
                let (mut log, found) = open(&disk, sync);
                assert_has_all(&found, &acknowledged, &(sync, lives, torn));
                assert_eq!(log.counts.damaged, 0, "a kill is no damage; {:?}", (sync, lives, torn));
                // And it goes on.
                let more = run(&mut log, &groups());
                let (_, found) = open(&disk, sync);
                assert_has_all(&found, &more, &(sync, lives, torn));
            }
            if has_ended {
                break;
            }
            lives += 1;
        }
        assert!(lives > 8);
    }
}

#[test]
fn a_power_cut_at_every_write_boundary_loses_nothing_that_was_synced() {
    for lives in 0..40 {
        for (keep, zeros) in [(0, false), (5, false), (30, false), (0, true), (30, true)] {
            let disk = Faulty::default();
            disk.with(|state| (state.lives, state.torn) = (Some(lives), usize::MAX));
            let (mut log, _) = open(&disk, Sync::Always);
            let acknowledged = run(&mut log, &groups());
            disk.power_cut(keep, zeros);
            let (_, found) = open(&disk, Sync::Always);
            assert_has_all(&found, &acknowledged, &(lives, keep, zeros));
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_half_entries() {
    for room in 0..400 {
        let disk = Faulty::default();
        disk.with(|state| state.room = Some(room));
        let (mut log, _) = open(&disk, Sync::Always);
        let mut acknowledged = run(&mut log, &groups());
        disk.with(|state| state.room = None);
        acknowledged.extend(run(&mut log, &groups()));
        let (log, found) = open(&disk, Sync::Always);
        assert_eq!(found, acknowledged, "room {room}");
        assert_eq!(log.counts.damaged, 0);
    }
}

#[test]
fn garbage_that_cannot_be_cut_off_is_left_behind() {
    let disk = Faulty::default();
    let (mut log, _) = open(&disk, Sync::Always);
    let mut acknowledged = run(&mut log, &groups()[..2]);
    disk.with(|state| (state.room, state.truncate_fails) = (Some(10), true));
    assert!(run(&mut log, &groups()[..1]).is_empty());
    disk.with(|state| (state.room, state.truncate_fails) = (None, false));
    acknowledged.extend(run(&mut log, &groups()));
    let (_, found) = open(&disk, Sync::Always);
    assert_eq!(found, acknowledged);
}

#[test]
fn a_failed_sync_is_an_error_and_its_entries_are_taken_back() {
    let disk = Faulty::default();
    let (mut log, _) = open(&disk, Sync::Always);
    disk.with(|state| state.sync_fails = true);
    assert!(log.append(&[b"lost"]).is_err());
    disk.with(|state| state.sync_fails = false);
    let acknowledged = run(&mut log, &groups());
    assert_eq!(open(&disk, Sync::Always).1, acknowledged);
}

#[test]
fn a_number_is_not_used_again_after_a_failure_that_left_its_bytes() {
    let disk = Faulty::default();
    let (mut log, _) = open(&disk, Sync::Always);
    run(&mut log, &groups()[..1]);
    disk.with(|state| (state.sync_fails, state.truncate_fails) = (true, true));
    assert!(log.append(&[b"left behind"]).is_err());
    disk.with(|state| (state.sync_fails, state.truncate_fails) = (false, false));
    log.append(&[b"next"]).unwrap();
    let mut found = Vec::new();
    Log::open(
        disk,
        Sync::Always,
        SEGMENT,
        salt,
        |_| Some(()),
        |entry| {
            found.push((entry.seq, entry.body));
            true
        },
    )
    .unwrap();
    assert_eq!(found[1..], [(1, b"left behind".to_vec()), (2, b"next".to_vec())]);
}

#[test]
fn a_segment_that_never_took_a_write_is_none() {
    let disk = Faulty::default();
    let (mut log, _) = open(&disk, Sync::Always);
    disk.with(|state| state.room = Some(10));
    assert!(log.append(&[b"too much for it"]).is_err());
    assert_eq!((log.segments().count(), disk.with(|state| state.files.len())), (0, 0));
}

#[test]
fn short_reads_are_errors_and_no_crash() {
    let disk = Faulty::default();
    let (mut log, _) = open(&disk, Sync::Always);
    let (seq, place) = log.append(&[b"one"]).unwrap()[0];
    disk.with(|state| state.reads_short = true);
    assert!(log.read(seq, place).is_err());
    let (log, found) = open(&disk, Sync::Always);
    assert!(found.is_empty());
    assert_eq!(log.counts.damaged, 1);
    // It was not thrown away.
    disk.with(|state| state.reads_short = false);
    assert_eq!(open(&disk, Sync::Always).1.len(), 1);
}

#[test]
fn a_removed_segment_is_gone_and_its_number_is_not_used_again_while_others_are_there() {
    let disk = Faulty::default();
    let (mut log, _) = open(&disk, Sync::Always);
    run(&mut log, &groups());
    let numbers: Vec<u64> = log.segments().collect();
    assert!(log.remove(numbers[0]));
    let before = log.bytes();
    run(&mut log, &groups());
    assert!(log.bytes() > before);
    assert!(!log.segments().any(|number| number == numbers[0]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    /// One flipped byte anywhere costs at most one entry, is counted once however often the spool is opened, and is
    /// noticed also by a reader that had the entry's place from before.
    #[test]
    fn a_flipped_byte_costs_at_most_one_entry(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let disk = Faulty::default();
        let (mut log, _) = open(&disk, Sync::Always);
        let acknowledged = run(&mut log, &groups());
        disk.with(|state| {
            let total: usize = state.files.values().map(|file| file.bytes.len()).sum();
            let mut at = at.index(total);
            for file in state.files.values_mut() {
                if at < file.bytes.len() {
                    file.bytes[at] ^= flip;
                    break;
                }
                at -= file.bytes.len();
            }
        });
        let (log, found) = open(&disk, Sync::Always);
        prop_assert_eq!(acknowledged.len() - found.len(), 1);
        prop_assert!(found.iter().all(|(seq, body)| acknowledged.get(seq) == Some(body)));
        prop_assert_eq!(log.counts.damaged, 1);
        prop_assert_eq!(disk.with(|state| state.aside.len()), 1);
        let (log, _) = open(&disk, Sync::Always);
        prop_assert_eq!(log.counts.damaged, 0);
    }
}
