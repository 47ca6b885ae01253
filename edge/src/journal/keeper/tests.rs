//! Whatever happens to one of the journal's two copies, nothing of what was committed is lost, and nothing is there twice.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use redb::TableDefinition;

use super::super::state::State;
use super::super::tests::post;
use super::super::{Begun, FILE_NAME, JournalError, Key, Known, Mark, Post, wal};
use super::*;

/// Commits of the journal that is damaged.
const COMMITS: u64 = 300;

/// A journal's directory, and what must be known of it.
struct Kept {
    dir: tempfile::TempDir,
    outbox: Vec<(u64, Post)>,
    known: Vec<Known>,
    spooled: HashMap<String, bool>,
}

/// A journal that has been at work, as a process leaves it.
fn kept() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(Journal::open(dir.path()).unwrap());
    for number in 0..COMMITS {
        let name = format!("{number}.png");
        let mut post = post(&number.to_string(), 1, Some(&name));
        post.of[0].mark = Mark::new([number as u8; 64]);
        keeper.commit(vec![Change::Post { number, post, awaits: number % 3 == 0 }]);
        if number > 20 {
            let gone = (number % 5 == 0).then(|| ("cam1".into(), Key::new(format!("{}.png", number - 20))));
            keeper.commit(vec![Change::Delivered { number: number - 20, gone: gone.into_iter().collect() }]);
        }
        if number % 7 == 0 {
            keeper.commit(vec![Change::Closed { ids: vec![number.to_string()] }]);
        }
    }
    drop(keeper);
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.begun(), Begun::On);
    let (outbox, known, spooled) =
        (journal.outbox().unwrap(), journal.known("cam1").unwrap(), journal.spooled().unwrap());
    assert!(outbox.len() == 21 + 1 || outbox.len() == 21, "{}", outbox.len());
    drop(journal);
    Kept { dir, outbox, known, spooled }
}

impl Kept {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens it, and holds what is in it against what must be.
    fn is_all_there(&self, case: &str) -> Begun {
        let journal = Journal::open(self.dir.path()).unwrap();
        assert_eq!(journal.outbox().unwrap(), self.outbox, "{case}");
        assert_eq!(journal.known("cam1").unwrap(), self.known, "{case}");
        assert_eq!(journal.spooled().unwrap(), self.spooled, "{case}");
        assert_eq!(journal.trouble(), None, "{case}");
        journal.begun()
    }

    /// Once more, after a start that has mended what there was to mend.
    fn is_good_again(&self, case: &str) {
        assert_eq!(self.is_all_there(case), Begun::On, "{case}");
    }

    fn asides(&self) -> usize {
        let names = self.dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".aside-")).count()
    }
}

#[test]
fn whatever_happens_to_one_copy_all_is_known_from_the_other() {
    let kept = kept();
    let names = [FILE_NAME, wal::FILE_NAME];
    let good = names.map(|name| std::fs::read(kept.path(name)).unwrap());
    let mut random = fastrand::Rng::with_seed(12);
    let mut mended = 0;
    for round in 0..120 {
        for (name, bytes) in names.iter().zip(&good) {
            std::fs::write(kept.path(name), bytes).unwrap();
        }
        let at = round % 2;
        let (name, bytes) = (names[at], &good[at]);
        let path = kept.path(name);
        let mut damaged = bytes.clone();
        let place = random.usize(..bytes.len());
        let case = match round / 2 % 10 {
            0 => {
                damaged.truncate(bytes.len() - 1);
                "a byte off the end"
            }
            1 => {
                damaged.truncate(place);
                "cut"
            }
            2 => {
                damaged.clear();
                "empty"
            }
            3 | 4 => {
                let page = place / 4096 * 4096;
                let end = (page + 4096).min(bytes.len());
                damaged[page..end].fill(0);
                "a page of zeros"
            }
            5 => {
                damaged[..4096.min(bytes.len())].fill(0x5a);
                "another head"
            }
            _ => {
                damaged[place] ^= 1 << random.u8(..8);
                "one bit"
            }
        };
        let case = format!("{name}, round {round}: {case} at {place}");
        std::fs::write(&path, &damaged).unwrap();
        mended += usize::from(kept.is_all_there(&case) != Begun::On);
        kept.is_good_again(&case);
    }
    assert!(mended > 40, "{mended}");
    assert!(kept.asides() <= 2 * files::KEPT_ASIDE);
}

#[test]
fn a_copy_that_is_missing_or_no_file_is_made_anew_private() {
    let kept = kept();
    for name in [FILE_NAME, wal::FILE_NAME] {
        let path = kept.path(name);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kept.is_all_there(name), Begun::Mended { lost: 0 });
        kept.is_good_again(name);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(kept.is_all_there(name), Begun::Mended { lost: 0 });
        kept.is_good_again(name);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(kept.path("nowhere"), &path).unwrap();
        assert_eq!(kept.is_all_there(name), Begun::Mended { lost: 0 });
        kept.is_good_again(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        kept.is_good_again(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn an_older_database_catches_up_from_the_log_and_an_older_log_is_written_anew() {
    let kept = kept();
    let names = [FILE_NAME, wal::FILE_NAME];
    let before = names.map(|name| std::fs::read(kept.path(name)).unwrap());
    let mut keeper = Keeper::new(Journal::open(kept.dir.path()).unwrap());
    for number in COMMITS..COMMITS + 5 {
        let post = post(&number.to_string(), 1, Some("late.png"));
        keeper.commit(vec![Change::Post { number, post, awaits: false }]);
    }
    drop(keeper);
    let after = names.map(|name| std::fs::read(kept.path(name)).unwrap());
    for (older, begun) in [(0, Begun::Mended { lost: 0 }), (1, Begun::On)] {
        for at in 0..2 {
            let bytes = if at == older { &before[at] } else { &after[at] };
            std::fs::write(kept.path(names[at]), bytes).unwrap();
        }
        let journal = Journal::open(kept.dir.path()).unwrap();
        assert_eq!(journal.outbox().unwrap().len(), kept.outbox.len() + 5, "{older}");
        assert_eq!(journal.begun(), begun, "{older}");
        drop(journal);
        assert_eq!(Journal::open(kept.dir.path()).unwrap().begun(), Begun::On);
    }
}

#[test]
fn what_is_deleted_or_replaced_under_the_agent_is_written_anew_before_the_next_commit_counts() {
    let kept = kept();
    let dir = kept.dir.path();
    let names: [&[&str]; 4] = [&[FILE_NAME], &[wal::FILE_NAME], &[FILE_NAME, wal::FILE_NAME], &["."]];
    let mut keeper = Keeper::new(Journal::open(dir).unwrap());
    let mut next = COMMITS;
    for gone in names.iter().cycle().take(12) {
        for name in *gone {
            match *name {
                "." => std::fs::remove_dir_all(dir).unwrap(),
                name if next.is_multiple_of(2) => {
                    std::fs::rename(kept.path(name), kept.path("elsewhere")).unwrap()
                }
                name => {
                    std::fs::remove_file(kept.path(name)).unwrap();
                    std::fs::write(kept.path(name), "another file").unwrap();
                }
            }
        }
        let name = format!("{next}.png");
        let change = Change::Post { number: next, post: post(&name, 1, Some(&name)), awaits: false };
        next += 1;
        keeper.commit(vec![change]);
        assert!(keeper.held.is_empty() && keeper.journal.memory() == Memory::Whole, "{gone:?}");
        // As a kill would leave it: whichever of the two a start reads, all of it is there.
        for alone in [FILE_NAME, wal::FILE_NAME] {
            let copy = tempfile::tempdir().unwrap();
            std::fs::copy(kept.path(alone), copy.path().join(alone)).unwrap();
            let journal = Journal::open(copy.path()).unwrap();
            let known = journal.known("cam1").unwrap();
            assert_eq!(known.len() as u64, kept.known.len() as u64 + next - COMMITS, "{gone:?} {alone}");
        }
    }
}

/// A folder that takes no file, also from root: its name is a file's.
#[test]
fn what_no_disk_takes_is_held_and_committed_when_one_does() {
    let kept = kept();
    let dir = kept.dir.path();
    let mut keeper = Keeper::new(Journal::open(dir).unwrap());
    std::fs::remove_dir_all(dir).unwrap();
    std::fs::write(dir, "no folder").unwrap();
    for number in COMMITS..COMMITS + 10 {
        let post = post(&number.to_string(), 1, Some(&format!("{number}.png")));
        keeper.commit(vec![Change::Post { number, post, awaits: false }]);
        if number % 2 == 0 {
            keeper.commit(vec![Change::Delivered { number, gone: Vec::new() }]);
        }
    }
    // An amendment goes back to whoever has made it, and comes again.
    let amended = Change::Amended { number: 1000, post: post("300", 2, None) };
    assert_eq!(keeper.commit(vec![amended.clone()]), [false]);
    keeper.say();
    assert!(!keeper.held.is_empty());
    let trouble = keeper.journal.counts.trouble().unwrap();
    assert!(trouble.contains("cannot remember"), "{trouble}");
    std::fs::remove_file(dir).unwrap();
    keeper.next_attempt = Instant::now();
    keeper.look();
    assert!(keeper.held.is_empty(), "{:?}", keeper.journal.why);
    assert_eq!(keeper.journal.counts.trouble(), None);
    assert_eq!(keeper.commit(vec![amended]), [true]);
    drop(keeper);
    let journal = Journal::open(dir).unwrap();
    assert_eq!(journal.known("cam1").unwrap().len(), kept.known.len() + 10);
    let left = journal.outbox().unwrap();
    assert!(left.len() > kept.outbox.len() + 5, "{}", left.len());
    assert!(left.iter().any(|(number, post)| *number == 1000 && post.version == 2));
}

#[test]
fn an_agent_starts_and_holds_what_it_decides_where_there_is_no_folder_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "no folder").unwrap();
    let journal = Journal::open(&state).unwrap();
    assert_eq!((journal.begun(), journal.known("cam1").unwrap()), (Begun::Blind, vec![]));
    let mut keeper = Keeper::new(journal);
    keeper.commit(vec![Change::Post { number: 0, post: post("a", 1, Some("a.png")), awaits: false }]);
    assert_eq!(keeper.held.len(), 1);
    std::fs::remove_file(&state).unwrap();
    keeper.next_attempt = Instant::now();
    keeper.look();
    drop(keeper);
    assert_eq!(Journal::open(&state).unwrap().known("cam1").unwrap().len(), 1);
}

#[test]
fn where_nothing_can_be_read_it_is_begun_anew_and_says_so() {
    let kept = kept();
    for name in [FILE_NAME, wal::FILE_NAME] {
        std::fs::write(kept.path(name), "nothing of ours").unwrap();
    }
    let journal = Journal::open(kept.dir.path()).unwrap();
    assert_eq!((journal.begun(), journal.known("cam1").unwrap()), (Begun::Anew, vec![]));
    drop(journal);
    assert_eq!(kept.asides(), 2);
    let journal = Journal::open(kept.dir.path()).unwrap();
    assert_eq!(journal.begun(), Begun::On);
}

#[test]
fn an_agent_that_has_lost_its_database_keeps_others_out_all_the_same() {
    let kept = kept();
    let mut journal = Journal::open(kept.dir.path()).unwrap();
    journal.base = None;
    let is_refused = |opened: Result<(), JournalError>| matches!(opened, Err(JournalError::InUse { .. }));
    assert!(is_refused(Journal::open(kept.dir.path()).map(drop)));
    assert!(is_refused(Journal::existing(kept.dir.path()).map(drop)));
    drop(journal);
    kept.is_good_again("left");
}

#[test]
fn a_look_changes_nothing_and_reads_the_log_where_the_database_is_damaged() {
    let kept = kept();
    std::fs::write(kept.path(FILE_NAME), "no journal").unwrap();
    for _ in 0..2 {
        let journal = Journal::existing(kept.dir.path()).unwrap().unwrap();
        assert_eq!(journal.known("cam1").unwrap(), kept.known);
        assert!(journal.trouble().is_some() && journal.close_now(&["0".to_owned()]).is_err());
    }
    assert_eq!(std::fs::read(kept.path(FILE_NAME)).unwrap(), b"no journal");
    assert_eq!(kept.asides(), 0);
    assert!(Journal::existing(&kept.path("nowhere")).unwrap().is_none());
}

/// A journal as agents wrote it that knew files alone, and one of a later day.
#[test]
fn a_journal_of_another_format_is_set_aside() {
    const DECIDED: TableDefinition<'_, (&str, &[u8]), (u64, i64)> = TableDefinition::new("decided");
    const FORMATS: TableDefinition<'_, u32, u32> = TableDefinition::new("format");
    for found in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let other = redb::Database::create(dir.path().join(FILE_NAME)).unwrap();
        let transaction = other.begin_write().unwrap();
        match found {
            1 => drop(transaction.open_table(DECIDED).unwrap().insert(("cam1", &b"a.png"[..]), (10, 20))),
            _ => drop(transaction.open_table(FORMATS).unwrap().insert(0, found)),
        }
        transaction.commit().unwrap();
        drop(other);
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!((journal.begun(), journal.known("cam1").unwrap()), (Begun::Anew, vec![]), "{found}");
        assert!(dir.path().join(format!("{FILE_NAME}.aside-1")).exists());
    }
}

/// A journal of an agent that wrote no log.
#[test]
fn a_journal_without_a_log_gets_one() {
    let kept = kept();
    std::fs::remove_file(kept.path(wal::FILE_NAME)).unwrap();
    kept.is_all_there("without");
    let mut state = State::default();
    let read = wal::read(
        kept.dir.path(),
        |_| true,
        |_, changes| {
            changes.into_iter().for_each(|change| state.apply(change));
            Ok(())
        },
    );
    assert!(read.unwrap().unwrap().is_whole());
    assert_eq!(state.known("cam1"), kept.known);
    assert_eq!((state.outbox(), state.spooled()), (kept.outbox.clone(), kept.spooled.clone()));
}

#[tokio::test]
async fn the_log_does_not_outgrow_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let (jobs, receiver) = mpsc::channel(4);
    let keeper = Keeper::new(Journal::open(dir.path()).unwrap());
    let work = std::thread::spawn(move || keeper.run(receiver));
    let path = dir.path().join(wal::FILE_NAME);
    let line = vec![b'x'; 1 << 20];
    for number in 0..12 {
        for change in [
            Change::Post {
                number,
                post: Post { line: line.clone(), ..post("a", 1, Some("a.png")) },
                awaits: false,
            },
            Change::Delivered { number, gone: Vec::new() },
        ] {
            let (done, wait) = oneshot::channel();
            jobs.send(Job::Change { change, done }).await.unwrap();
            wait.await.unwrap();
        }
        jobs.send(Job::Look).await.unwrap();
    }
    drop(jobs);
    work.join().unwrap();
    let len = path.metadata().unwrap().len();
    assert!(len < 7 << 20, "{len}");
    assert_eq!(Journal::open(dir.path()).unwrap().known("cam1").unwrap().len(), 1);
}
