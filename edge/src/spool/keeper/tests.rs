use std::sync::Mutex;

use super::*;
use crate::source::journal::Journal;
use crate::spool::entry::tests::entry;
use crate::spool::faulty::Faulty;

fn digest() -> BundleDigest {
    BundleDigest::from_bytes(&[1; 32]).unwrap()
}

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
    let opened =
        Keeper::open(disk.clone(), config, digest(), journal.clone(), spooled, &undelivered, metrics);
    let (keeper, orphans) = opened.unwrap();
    let orphans = orphans.into_iter().map(|orphan| orphan.id).collect();
    Bench { _dir: dir, journal, keeper, orphans }
}

impl Bench {
    #[expect(clippy::unwrap_in_result, reason = "the result is the answer, not this test's")]
    fn put(&mut self, entry: &Entry) -> Result<(), PutError> {
        let (done, mut wait) = oneshot::channel();
        let body = entry.write().expect("it can be written");
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
    it.keeper.work(Job::Retry { seq: work.seq, pause: Duration::ZERO, counts_as_try: true });
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
    let dropping = SpoolConfig { when_full: crate::config::SpoolFull::DropOldest, ..config() };
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

/// The whole protocol, killed at every write boundary of the spool's disk: what was committed is asked in the end, and
/// what was closed is not asked again.
#[tokio::test]
async fn a_kill_at_every_write_boundary_keeps_the_promise() {
    for lives in 0..60 {
        for torn in [0, 30, usize::MAX] {
            let disk = Faulty::default();
            disk.with(|state| (state.lives, state.torn) = (Some(lives), torn));
            // The journal is a transaction: here a map that the test commits to.
            let committed: Mutex<HashMap<String, bool>> = Mutex::default();
            let mut first = bench(&disk, &[], &[]);
            for at in 0..12 {
                let id = at.to_string();
                if first.put(&entry(&id, 30_000)).is_err() {
                    continue;
                }
                committed.lock().unwrap().insert(id.clone(), false);
                first.keeper.work(Job::Release(id));
                if at % 3 == 2
                    && let Some(work) = first.take()
                {
                    committed.lock().unwrap().insert(work.entry.head.id.clone(), true);
                    first.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
                }
            }
            drop(first);
            disk.with(|state| state.lives = None);
            let committed = committed.into_inner().unwrap();
            let known: Vec<(&str, bool)> =
                committed.iter().map(|(id, closed)| (id.as_str(), *closed)).collect();
            let mut second = bench(&disk, &known, &[]);
            let mut asked = Vec::new();
            while let Some(work) = second.take() {
                asked.push(work.entry.head.id.clone());
                second.keeper.work(Job::Close { seq: work.seq, why: Closed::Amended });
            }
            let mut expected: Vec<String> =
                committed.into_iter().filter(|(_, closed)| !closed).map(|(id, _)| id).collect();
            asked.sort();
            expected.sort();
            assert_eq!(asked, expected, "lives {lives}, torn {torn}");
            assert_eq!(disk.with(|state| state.files.len()), 0, "lives {lives}, torn {torn}");
        }
    }
}
