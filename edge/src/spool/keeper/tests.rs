use super::*;
use crate::journal::Journal;
use crate::spool::entry::tests::entry;
use crate::spool::faulty::Faulty;

fn config() -> SpoolConfig {
    SpoolConfig { max_bytes: 1 << 20, ..SpoolConfig::default() }
}

/// A keeper on a faulty disk, with a journal of its own; jobs are done one by one.
struct Bench {
    _dir: tempfile::TempDir,
    journal: JournalHandle,
    keeper: Keeper<Faulty>,
    orphans: Vec<String>,
}

fn bench(disk: &Faulty, spooled: &[(&str, bool)], undelivered: &[&str]) -> Bench {
    bench_with(disk, &config(), spooled, undelivered)
}

fn bench_with(disk: &Faulty, config: &SpoolConfig, spooled: &[(&str, bool)], undelivered: &[&str]) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap().start(64).unwrap();
    let spooled = spooled.iter().map(|(id, is_closed)| ((*id).to_owned(), *is_closed)).collect();
    let undelivered = undelivered.iter().map(|id| (*id).to_owned()).collect();
    let metrics = SpoolMetrics::default();
    let opened = Keeper::open(
        disk.clone(),
        config,
        journal.clone(),
        spooled,
        &undelivered,
        |_| None,
        metrics,
        &Hand::default(),
        Ticking::unkept(),
    );
    let (keeper, orphans) = opened.unwrap();
    let orphans = orphans.into_iter().map(|orphan| orphan.id).collect();
    Bench { _dir: dir, journal, keeper, orphans }
}

impl Bench {
    #[expect(clippy::unwrap_in_result, reason = "the result is the answer, not this test's")]
    fn put(&mut self, entry: &Entry) -> Result<(), PutError> {
        let (done, mut wait) = oneshot::channel();
        let body = entry.write().expect("it can be written").into();
        self.keeper.work(Job::Put { head: entry.head.clone(), body, done });
        wait.try_recv().expect("it is answered at once")
    }

    fn take(&mut self) -> Option<Work> {
        let now = self.keeper.now();
        self.keeper.take(now)
    }

    fn ids(&self) -> Vec<String> {
        self.keeper.index.iter().map(|(_, known)| known.id.clone()).collect()
    }
}

fn api(id: &str) -> Entry {
    let mut entry = entry(id, 10);
    entry.head.origin = Origin::Api;
    entry
}

#[tokio::test]
async fn an_entry_is_asked_once_it_is_released_and_goes_once_it_is_closed() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    it.put(&entry("a", 100)).unwrap();
    assert!(it.take().is_none(), "its first decision is still on its way");
    it.keeper.work(Job::Release("a".to_owned()));
    let work = it.take().unwrap();
    assert_eq!(work.entry, entry("a", 100));
    assert!(it.take().is_none());
    it.keeper.work(Job::Retry { seq: work.seq, pause: Duration::ZERO, why: Again::Failed });
    assert_eq!(it.take().unwrap().tries, 1);
    it.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
    assert_eq!(disk.with(|state| state.files.len()), 0);
    assert!(it.journal.flush().await);
}

#[tokio::test]
async fn a_start_goes_by_what_the_journal_knows() {
    let disk = Faulty::default();
    let mut first = bench(&disk, &[], &[]);
    for id in ["waits", "undelivered", "closed", "uncommitted"] {
        first.put(&entry(id, 10)).unwrap();
    }
    first.put(&api("call")).unwrap();
    first.put(&api("closed-call")).unwrap();
    drop(first);
    let known =
        [("waits", false), ("undelivered", false), ("closed", true), ("closed-call", true), ("lost", false)];
    let mut second = bench(&disk, &known, &["undelivered"]);
    assert_eq!(second.ids(), ["waits", "undelivered", "call"]);
    assert_eq!(second.orphans, ["call"]);
    assert_eq!(second.keeper.closed["damaged"], 1);
    assert_eq!(second.take().unwrap().entry.head.id, "waits");
    assert!(second.take().is_none());
    for id in ["undelivered", "call"] {
        second.keeper.work(Job::Release(id.to_owned()));
        assert_eq!(second.take().unwrap().entry.head.id, id);
    }
}

#[tokio::test]
async fn a_file_that_is_decided_again_replaces_its_uncommitted_entry() {
    let disk = Faulty::default();
    let mut first = bench(&disk, &[], &[]);
    first.put(&entry("a", 10)).unwrap();
    drop(first);
    let mut second = bench(&disk, &[], &[]);
    assert!(second.ids().is_empty());
    second.put(&entry("a", 20)).unwrap();
    second.put(&entry("a", 30)).unwrap();
    assert_eq!(second.ids(), ["a"]);
    drop(second);
    let mut third = bench(&disk, &[("a", false)], &[]);
    assert_eq!(third.take().unwrap().entry, entry("a", 30));
}

#[tokio::test]
async fn a_full_spool_refuses_or_drops_and_says_so() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    let mut taken = 0;
    while it.put(&entry(&taken.to_string(), 40_000)).is_ok() {
        taken += 1;
    }
    assert!((20..30).contains(&taken), "{taken}");
    assert_eq!(it.put(&entry("more", 40_000)), Err(PutError::Full));
    assert_eq!(it.keeper.refused_full, 2);
    assert_eq!(it.ids().len(), taken);
    drop(it);

    let disk = Faulty::default();
    let dropping = SpoolConfig { when_full: crate::spool::SpoolFull::DropOldest, ..config() };
    let mut it = bench_with(&disk, &dropping, &[], &[]);
    for at in 0..100 {
        it.put(&entry(&at.to_string(), 40_000)).unwrap();
    }
    let ids = it.ids();
    assert_eq!(ids.last().unwrap(), "99");
    assert_eq!(it.keeper.closed["dropped"] as usize, 100 - ids.len());
    assert!(disk.with(|state| state.files.values().map(|file| file.bytes.len()).sum::<usize>()) <= 1 << 20);
    // One that is larger than all of it is refused whatever the policy.
    assert_eq!(it.put(&entry("huge", 2 << 20)), Err(PutError::Full));
}

#[tokio::test]
async fn a_full_disk_is_said_and_passes() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    disk.with(|state| state.room = Some(50));
    assert!(matches!(it.put(&entry("a", 100)), Err(PutError::Disk(_))));
    disk.with(|state| state.room = None);
    it.put(&entry("a", 100)).unwrap();
    drop(it);
    assert_eq!(bench(&disk, &[("a", false)], &[]).ids(), ["a"]);
}

#[tokio::test]
async fn a_damaged_entry_is_closed_and_the_next_is_asked() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    for id in ["a", "b"] {
        it.put(&entry(id, 100)).unwrap();
        it.keeper.work(Job::Release(id.to_owned()));
    }
    disk.with(|state| state.files.values_mut().next().unwrap().bytes[60] ^= 1);
    assert_eq!(it.take().unwrap().entry.head.id, "b");
    assert_eq!(it.keeper.closed["damaged"], 1);
    assert_eq!(disk.with(|state| state.aside.len()), 1);
    let now = it.keeper.now();
    assert_eq!(it.keeper.status(now).quarantined, 1);
}

#[tokio::test]
async fn a_disk_that_does_not_read_is_tried_again() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    it.put(&entry("a", 100)).unwrap();
    it.keeper.work(Job::Release("a".to_owned()));
    disk.with(|state| state.reads_short = true);
    assert!(it.take().is_none());
    assert_eq!(it.ids(), ["a"]);
    disk.with(|state| state.reads_short = false);
    it.keeper.work(Job::Wake);
    assert_eq!(it.take().unwrap().entry.head.id, "a");
    drop(it);
    // A start that cannot read it keeps it, and what the journal knows of it.
    disk.with(|state| state.reads_short = true);
    assert!(bench(&disk, &[("a", false)], &[]).ids().is_empty());
    disk.with(|state| state.reads_short = false);
    assert_eq!(bench(&disk, &[("a", false)], &[]).ids(), ["a"]);
}

#[tokio::test]
async fn a_segment_that_cannot_be_moved_refuses_nothing_but_its_own_room() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    let mut taken = 0;
    while it.put(&entry(&taken.to_string(), 20_000)).is_ok() {
        it.keeper.work(Job::Release(taken.to_string()));
        taken += 1;
    }
    // Two thirds of each segment are not needed any more.
    for at in 0..taken {
        let work = it.take().unwrap();
        if at % 3 != 0 {
            it.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
        }
    }
    disk.with(|state| state.reads_short = true);
    let refused = it.put(&entry("more", 100_000)).unwrap_err();
    assert!(matches!(refused, PutError::Disk(_)), "{refused}");
    assert_eq!(it.keeper.refused_full, 1, "only the one that filled it");
    disk.with(|state| state.reads_short = false);
    it.keeper.work(Job::Tick);
    it.put(&entry("more", 100_000)).unwrap();
}

#[tokio::test]
async fn a_disk_that_removes_nothing_costs_one_segment_and_not_all() {
    let disk = Faulty::default();
    let config = SpoolConfig { when_full: crate::spool::SpoolFull::DropOldest, ..config() };
    let mut it = bench_with(&disk, &config, &[], &[]);
    let mut taken = 0;
    while it.keeper.closed.is_empty() {
        it.put(&entry(&taken.to_string(), 9_000)).unwrap();
        taken += 1;
    }
    let (held, dropped) = (it.ids().len(), it.keeper.closed["dropped"]);
    disk.with(|state| state.remove_fails = true);
    let refused = (0..20).find_map(|at| it.put(&entry(&format!("more {at}"), 9_000)).err()).unwrap();
    assert!(matches!(refused, PutError::Disk(_)), "{refused}");
    assert!(it.keeper.closed["dropped"] <= 2 * dropped && it.ids().len() + 2 * dropped as usize > held);
    disk.with(|state| state.remove_fails = false);
    it.keeper.work(Job::Tick);
    it.put(&entry("last", 9_000)).unwrap();
}

#[tokio::test]
async fn a_segment_is_moved_in_one_write_that_is_synced_before_the_old_one_goes() {
    let disk = Faulty::default();
    let mut it = bench_with(&disk, &SpoolConfig { sync: Sync::Never, ..config() }, &[], &[]);
    let mut ids = Vec::new();
    while it.put(&entry(&ids.len().to_string(), 9_000)).is_ok() {
        it.keeper.work(Job::Release(ids.len().to_string()));
        ids.push(ids.len().to_string());
    }
    for at in 0..ids.len() {
        let work = it.take().unwrap();
        if at % 3 != 0 {
            it.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
        }
    }
    // What lies there is long on the disk; what comes now is not waited for.
    disk.with(|state| state.files.values_mut().for_each(|file| file.synced = file.bytes.len()));
    let names = || disk.with(|state| state.files.keys().cloned().collect::<Vec<_>>());
    let (before, mut writes) = (names(), 0);
    for at in 0.. {
        let so_far = disk.with(|state| state.writes);
        it.put(&entry(&format!("more {at}"), 9_000)).unwrap();
        let after = names();
        if before.iter().any(|name| !after.contains(name)) {
            writes = disk.with(|state| state.writes) - so_far;
            break;
        }
    }
    // Moved: append, sync, names; the old one: remove, names; then the new entry's own.
    assert!(writes <= 7, "{writes}");
    disk.power_cut(0, false);
    let known: Vec<(&str, bool)> = ids.iter().map(|id| (id.as_str(), false)).collect();
    let again = bench(&disk, &known, &[]);
    let kept: Vec<String> = ids.iter().step_by(3).cloned().collect();
    assert!(kept.iter().all(|id| again.ids().contains(id)), "{:?}", again.ids());
}

#[tokio::test]
async fn what_may_come_back_stays_known_as_closed() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    it.put(&api("a")).unwrap();
    it.keeper.work(Job::Release("a".to_owned()));
    let work = it.take().unwrap();
    disk.with(|state| state.names_fail = true);
    it.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
    assert!(it.keeper.telling.is_empty(), "its segment may come back");
    it.keeper.work(Job::Tick);
    assert!(it.keeper.telling.is_empty());
    disk.with(|state| state.names_fail = false);
    it.keeper.work(Job::Tick);
    assert!(matches!(&it.keeper.telling[0], Telling::Pruned(ids) if *ids == ["a"]));
    disk.power_cut(0, false);
    assert!(bench(&disk, &[], &[]).orphans.is_empty());
}

#[tokio::test]
async fn an_id_that_was_decided_again_is_not_pruned_with_its_old_entry() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[("a", false)], &[]);
    it.put(&entry("a", 10)).unwrap();
    it.keeper.work(Job::Release("a".to_owned()));
    let work = it.take().unwrap();
    it.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
    it.put(&entry("a", 20)).unwrap();
    let number = it.journal.post(post("a"), true).await.unwrap();
    it.journal.delivered(number, vec![]).await;
    it.keeper.tell();
    assert!(it.journal.flush().await);
    let Bench { _dir: dir, journal, keeper, .. } = it;
    drop((journal, keeper));
    let journal = Journal::open_soon(dir.path(), &crate::journal::Counts::default()).await.unwrap();
    assert_eq!(journal.spooled().unwrap().get("a"), Some(&false));
}

fn post(id: &str) -> crate::journal::Post {
    crate::journal::Post { id: id.to_owned(), version: 1, line: b"{}\n".to_vec(), of: Vec::new() }
}

#[tokio::test]
async fn an_entry_of_another_format_is_left_alone() {
    let disk = Faulty::default();
    let mut it = bench(&disk, &[], &[]);
    let (done, _) = oneshot::channel();
    let mut body = entry("a", 10).write().unwrap();
    body[0] = 9;
    it.keeper.work(Job::Put { head: entry("a", 10).head, body: body.into(), done });
    drop(it);
    let second = bench(&disk, &[("a", false)], &[]);
    assert!(second.ids().is_empty());
    assert_eq!(disk.with(|state| state.files.len()), 1, "an agent that reads it may come");
    assert!(second.keeper.telling.is_empty(), "and what the journal knows of it stays");
}

/// The whole protocol, killed at every write boundary of the spool's disk, by a kill or by a power cut: what was committed
/// is asked in the end, what was closed is not asked again, and nothing that is forgotten comes back.
#[tokio::test]
async fn a_kill_at_every_write_boundary_keeps_the_promise() {
    for lives in 0..60 {
        for (torn, is_power_cut) in [(0, false), (30, false), (usize::MAX, false), (usize::MAX, true)] {
            let at = format!("lives {lives}, torn {torn}, power {is_power_cut}");
            let disk = Faulty::default();
            disk.with(|state| (state.lives, state.torn) = (Some(lives), torn));
            // The journal is a transaction: here a map that the test commits to.
            let mut committed: HashMap<String, bool> = HashMap::new();
            let mut closed = Vec::new();
            let mut first = bench(&disk, &[], &[]);
            for at in 0..12 {
                let id = at.to_string();
                let mut new = entry(&id, 30_000);
                if at % 2 == 1 {
                    new.head.origin = Origin::Api;
                }
                if first.put(&new).is_ok() {
                    committed.insert(id.clone(), false);
                    first.keeper.work(Job::Release(id));
                }
                if at % 3 == 2
                    && let Some(work) = first.take()
                {
                    closed.push(work.entry.head.id.clone());
                    committed.insert(work.entry.head.id.clone(), true);
                    first.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
                }
                for telling in first.keeper.telling.drain(..) {
                    if let Telling::Pruned(ids) = telling {
                        committed.retain(|id, _| !ids.contains(id));
                    }
                }
            }
            drop(first);
            match is_power_cut {
                true => disk.power_cut(0, false),
                false => disk.with(|state| state.lives = None),
            }
            let known: Vec<(&str, bool)> =
                committed.iter().map(|(id, closed)| (id.as_str(), *closed)).collect();
            let mut second = bench(&disk, &known, &[]);
            let orphans = second.orphans.clone();
            assert!(!orphans.iter().any(|id| closed.contains(id)), "{at}: {orphans:?} again");
            orphans.iter().for_each(|id| second.keeper.work(Job::Release(id.clone())));
            let mut asked = Vec::new();
            while let Some(work) = second.take() {
                asked.push(work.entry.head.id.clone());
                second.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
            }
            let open = committed.into_iter().filter(|(_, closed)| !closed).map(|(id, _)| id);
            let mut expected: Vec<String> = open.chain(orphans).collect();
            asked.sort();
            expected.sort();
            assert_eq!(asked, expected, "{at}");
            assert_eq!(disk.with(|state| state.files.len()), 0, "{at}");
        }
    }
}
