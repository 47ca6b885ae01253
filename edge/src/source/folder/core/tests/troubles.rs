//! What the machine does not let be seen or read, and what is away for a while.

use millgate_shared::trouble::Trouble;
use proptest::prelude::*;

use super::absence::{KEPT, MOST, MOST_SURE};
use super::*;

const DELAYED: Outcome = Outcome::Delayed(Trouble::Rights);

impl Folder {
    /// A listing that sees all files that are there; `folders` by path, `None` for one that cannot be listed.
    fn list(&mut self, folders: &[(&str, Option<u64>)]) -> Vec<PathBuf> {
        let began = self.now;
        self.now += ms(1);
        let files: Vec<(PathBuf, Stat)> =
            self.files.iter().map(|(path, stat)| (path.clone(), *stat)).collect();
        for (path, stat) in &files {
            self.core.listed(path, *stat, began, self.now);
        }
        let folders = folders.iter().map(|(path, id)| (PathBuf::from(path), id.map(|id| FolderId(1, id))));
        let present = files.into_iter().map(|(path, _)| path).collect();
        self.core.prune(&Survey { present, folders: folders.collect() }, began, self.now)
    }

    /// Looks at what is due at a time, without handing anything out.
    fn look_at_due(&mut self, due: Instant) {
        self.now = due;
        for path in self.core.due(due) {
            if let Some(stat) = self.files.get(&path) {
                self.core.observe(&path, *stat, Seen::Listed, due);
            }
        }
    }

    /// A folder whose files have been decided.
    fn with_decided(names: &[&str]) -> Self {
        let mut folder = Self::new(RULES);
        for name in names {
            folder.see(name, 10, Seen::Closed);
        }
        assert_eq!(folder.run(ms(10)).len(), names.len());
        for name in names {
            folder.settle_read(name, Outcome::Done, 1);
        }
        folder.now += ms(10);
        folder
    }
}

#[test]
fn what_cannot_be_read_is_tried_again_and_again_later_each_time_and_holds_nobody_up() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)), [at(0, "a.png")]);
    let mut times = Vec::new();
    for _ in 0..9 {
        folder.settle("a.png", DELAYED);
        assert_eq!(folder.core.counts(), Counts { waiting: 1, busy: 0, delayed: 1 });
        // Another one goes its way meanwhile.
        let name = format!("{}.png", times.len());
        folder.see(&name, 10, Seen::Closed);
        let before = folder.now;
        folder.run(before - folder.start);
        folder.settle_read(&name, Outcome::Done, 1);
        while !folder.core.has_ready(folder.now) {
            let due = folder.core.next_due(folder.now).unwrap();
            folder.look_at_due(due);
        }
        assert!(folder.core.take(folder.now).is_some_and(|ready| !ready.is_last_chance));
        times.push((folder.now - before).as_secs());
    }
    assert_eq!(times, [1, 2, 4, 8, 16, 30, 30, 30, 30]);
    folder.settle_read("a.png", Outcome::Done, 1);
    assert_eq!(folder.core.counts().delayed, 0);
}

#[test]
fn where_the_process_lacks_something_the_pauses_are_short() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    let taken = folder.run(ms(0));
    let mut before = taken[0].0;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        folder.settle("a.png", Outcome::Delayed(Trouble::Descriptors));
        while !folder.core.has_ready(folder.now) {
            let due = folder.core.next_due(folder.now).unwrap();
            folder.look_at_due(due);
        }
        assert!(folder.core.take(folder.now).is_some());
        let at = (folder.now - folder.start).as_millis() as u64;
        pauses.push((at - before) / 1_000);
        before = at;
    }
    assert_eq!(pauses, [1, 2, 4, 5, 5]);
}

#[test]
fn a_file_whose_rights_are_set_right_does_not_wait_any_longer() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    for turn in 1..5 {
        assert_eq!(folder.run(ms(60_000 * turn)).len(), 1);
        folder.settle("a.png", DELAYED);
    }
    let set = folder.now;
    folder.see_stat("a.png", Stat { changed: 99, ..stat(10) }, Seen::Listed);
    let taken = folder.run(ms(600_000));
    assert!(taken[0].0 - (set - folder.start).as_millis() as u64 <= 500, "{taken:?}");
}

#[test]
fn one_that_was_not_to_be_read_and_is_not_whole_is_given_its_patience() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    folder.run(ms(500));
    folder.settle("a.png", DELAYED);
    for until in [1_500, 3_500, 7_500, 15_500] {
        assert_eq!(folder.run(ms(until)), [at(until, "a.png")]);
        folder.settle("a.png", DELAYED);
    }
    let taken = folder.run_all(ms(31_500));
    assert!(!taken[0].1.is_last_chance);
    folder.settle_read("a.png", Outcome::Incomplete, 1);
    let taken = folder.run_all(ms(60_000));
    assert!(taken[0].0 == 36_500 && taken[0].1.is_last_chance);
}

#[test]
fn one_that_cannot_be_looked_at_waits_and_is_not_gone() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    folder.now += ms(500);
    for path in folder.core.due(folder.now) {
        folder.core.unseen(&path, Trouble::Device, folder.now);
    }
    assert!(!folder.core.has_ready(folder.now) && folder.core.counts().delayed == 1);
    assert_eq!(folder.run(ms(10_000)), [at(1_500, "a.png")]);
}

#[test]
fn a_decided_file_that_cannot_be_compared_stays_in_doubt() {
    let mut folder = Folder::with_decided(&["a.png"]);
    folder.see_stat("a.png", Stat { inode: 2, changed: 11, ..stat(10) }, Seen::Closed);
    for turn in 1..4 {
        let taken = folder.run_all(ms(100_000 * turn));
        assert_eq!(taken[0].1.decided.unwrap().content, Content([1; 32]));
        folder.settle("a.png", DELAYED);
    }
    assert!(folder.run_all(ms(400_000))[0].1.decided.is_some());
}

#[test]
fn what_is_away_is_known_again_and_forgotten_only_after_days() {
    let both = [("", Some(1)), ("sub", Some(2))];
    type Folders<'a> = &'a [(&'a str, Option<u64>)];
    let ways: [(&str, Folders<'_>); 5] = [
        ("deleted from a folder that is used", &both),
        ("its folder was moved away", &[("", Some(1))]),
        ("another file system lies over its folder", &[("", Some(1)), ("sub", Some(3))]),
        ("its folder cannot be listed", &[("", Some(1)), ("sub", None)]),
        ("nothing can be listed", &[("", None)]),
    ];
    for (way, folders) in ways {
        let mut folder = Folder::with_decided(&["a.png", "sub/b.png", "sub/c.png"]);
        assert!(folder.list(&both).is_empty());
        let away = folder.files.remove(Path::new("sub/b.png")).unwrap();
        if folders != both {
            folder.files.remove(Path::new("sub/c.png"));
        }
        for _ in 0..1_000 {
            assert!(folder.list(folders).is_empty(), "{way}");
            folder.now += ms(5_000);
        }
        folder.see_stat("sub/b.png", away, Seen::Listed);
        assert_eq!(folder.run(folder.now - folder.start + ms(60_000)), [], "{way}");
        // Away for good.
        folder.files.remove(Path::new("sub/b.png"));
        folder.list(folders);
        folder.now += KEPT;
        let forgotten = folder.list(folders);
        let is_known = folders.iter().any(|(_, id)| id.is_none());
        assert_eq!(forgotten.contains(&PathBuf::from("sub/b.png")), !is_known, "{way}");
    }
}

#[test]
fn too_many_that_are_surely_gone_are_forgotten_before_those_that_may_only_be_away() {
    let name = |folder: &str, at: usize| format!("{folder}/{at}.png");
    let known_as = |name: String| known(&name, reading(stat(10), 1));
    let mut all: Vec<Known> = (0..MOST_SURE + 10).map(|at| known_as(name("used", at))).collect();
    all.extend((0..MOST_SURE + 10).map(|at| known_as(name("away", at))));
    let mut folder = Folder::knowing(RULES, &all);
    folder.files.insert(PathBuf::from("used/0.png"), stat(10));
    let listed = [("", Some(1)), ("used", Some(2))];
    folder.now += ms(10);
    folder.list(&listed);
    folder.now += ms(5_000);
    // From the second listing on the folder is known to be the same.
    let forgotten = folder.list(&listed);
    assert_eq!(forgotten.len(), 9);
    assert!(forgotten.iter().all(|path| path.starts_with("used")));
    const { assert!(MOST > 2 * MOST_SURE) };
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A folder is moved away, or is back as it was.
    Move(usize),
    /// Another file system is mounted over a folder, or taken away again.
    Mount(usize),
    /// A folder cannot be listed, or can again.
    Lock(usize),
    /// A file is taken away, or comes back, perhaps as a new file that holds the same.
    Take { folder: usize, file: usize, is_copied: bool },
    /// Nothing is heard of for so many seconds.
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..2usize).prop_map(Event::Move),
        (0..2usize).prop_map(Event::Mount),
        (0..2usize).prop_map(Event::Lock),
        (0..2usize, 0..3usize, any::<bool>()).prop_map(|(folder, file, is_copied)| Event::Take {
            folder,
            file,
            is_copied
        }),
        (0..5_000u64).prop_map(Event::Wait),
    ]
}

proptest! {
    /// Whatever goes away and comes back as it was within days is decided once.
    #[test]
    fn each_file_is_decided_once_however_often_it_is_away(events in prop::collection::vec(event(), 1..40)) {
        let mut folder = Folder::new(RULES);
        let (mut moved, mut mounted, mut locked) = ([false; 2], [false; 2], [false; 2]);
        let mut taken = [[false; 3]; 2];
        let mut stats: BTreeMap<(usize, usize), Stat> =
            (0..6).map(|at| ((at % 2, at / 2), Stat { inode: at as u64, ..stat(10) })).collect();
        let name = |folder: usize, file: usize| PathBuf::from(format!("{folder}/{file}.png"));
        let mut decided: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for event in events {
            match event {
                Event::Move(at) => moved[at] ^= true,
                Event::Mount(at) => mounted[at] ^= true,
                Event::Lock(at) => locked[at] ^= true,
                Event::Take { folder, file, is_copied } => {
                    taken[folder][file] ^= true;
                    if let Some(stat) = stats.get_mut(&(folder, file)).filter(|_| is_copied) {
                        stat.inode += 100;
                        stat.changed += 100;
                    }
                }
                Event::Wait(seconds) => folder.now += Duration::from_secs(seconds),
            }
            for _ in 0..3 {
                let is_seen = |at: usize| !moved[at] && !mounted[at] && !locked[at];
                folder.files = stats
                    .iter()
                    .filter(|((at, file), _)| is_seen(*at) && !taken[*at][*file])
                    .map(|((at, file), stat)| (name(*at, *file), *stat))
                    .collect();
                let mut folders = vec![("", Some(1))];
                for (at, path) in [(0, "0"), (1, "1")] {
                    if !moved[at] {
                        let id = if mounted[at] { 30 } else { 10 } + at as u64;
                        folders.push((path, (!locked[at]).then_some(id)));
                    }
                }
                prop_assert!(folder.list(&folders).is_empty());
                let until = folder.now - folder.start + ms(6_000);
                for (_, ready) in folder.run_all(until) {
                    let outcome = match ready.decided {
                        Some(again) => {
                            prop_assert_eq!(again.content, Content([1; 32]));
                            Outcome::Same
                        }
                        None => {
                            *decided.entry(ready.path.clone()).or_default() += 1;
                            Outcome::Done
                        }
                    };
                    let stat = folder.files.get(&ready.path).copied().unwrap_or(stat(10));
                    folder.core.settle(&ready.path, outcome, reading(stat, 1), folder.now);
                }
            }
        }
        prop_assert!(decided.values().all(|times| *times == 1), "{:?}", decided);
    }
}
