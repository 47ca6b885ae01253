use std::collections::BTreeMap;

use super::*;

mod troubles;

const RULES: Rules = Rules { settle: ms(500), patience: ms(5_000), templates: Templates::Optional };

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn version(size: u64) -> Version {
    Version { size, modified: size as i64 }
}

fn stat(size: u64) -> Stat {
    Stat { version: version(size), inode: 1, changed: size as i64 }
}

/// A file as it was decided, holding what is called by that number.
fn reading(stat: Stat, content: u8) -> Option<Reading> {
    Some(Reading { stat, content: Content([content; 32]) })
}

fn known(name: &str, reading: Option<Reading>) -> Known {
    Known { relative: PathBuf::from(name), version: version(10), reading }
}

/// A folder in virtual time.
struct Folder {
    core: Core,
    start: Instant,
    now: Instant,
    /// What a look at a file would find.
    files: BTreeMap<PathBuf, Stat>,
    templates: BTreeMap<PathBuf, Stat>,
}

impl Folder {
    fn new(rules: Rules) -> Self {
        Self::knowing(rules, &[])
    }

    fn knowing(rules: Rules, known: &[Known]) -> Self {
        Self::after(rules, known, HashMap::new())
    }

    fn after(rules: Rules, known: &[Known], risks: HashMap<PathBuf, (Version, Risk)>) -> Self {
        let now = Instant::now();
        let core = Core::new(rules, known, risks, now);
        Self { core, start: now, now, files: BTreeMap::new(), templates: BTreeMap::new() }
    }

    fn see(&mut self, name: &str, size: u64, seen: Seen) {
        self.see_stat(name, stat(size), seen);
    }

    fn see_stat(&mut self, name: &str, stat: Stat, seen: Seen) {
        self.files.insert(PathBuf::from(name), stat);
        self.core.observe(Path::new(name), stat, seen, self.now);
    }

    fn see_template(&mut self, picture: &str, size: u64, seen: Seen) {
        self.templates.insert(PathBuf::from(picture), stat(size));
        self.core.observe_template(Path::new(picture), stat(size), seen, self.now);
    }

    fn settle(&mut self, name: &str, outcome: Outcome) {
        self.core.settle(Path::new(name), outcome, None, self.now);
    }

    /// Settles a file that was read as it is now and holds what is called by that number.
    fn settle_read(&mut self, name: &str, outcome: Outcome, content: u8) {
        let reading = reading(self.files[Path::new(name)], content);
        self.core.settle(Path::new(name), outcome, reading, self.now);
    }

    /// Lets time pass until `until` (since the start); gives what was handed out, with the time.
    fn run(&mut self, until: Duration) -> Vec<(u64, String)> {
        self.run_all(until).into_iter().map(|(at, ready)| (at, ready.path.display().to_string())).collect()
    }

    fn run_all(&mut self, until: Duration) -> Vec<(u64, Ready)> {
        let end = self.start + until;
        let mut taken = Vec::new();
        loop {
            for path in self.core.due(self.now) {
                if let Some(template) = self.templates.get(&path) {
                    self.core.observe_template(&path, *template, Seen::Listed, self.now);
                }
                match self.files.get(&path) {
                    Some(stat) => self.core.observe(&path, *stat, Seen::Listed, self.now),
                    None => self.core.gone(&path),
                }
            }
            while let Some(ready) = self.core.take(self.now) {
                let at = (self.now - self.start).as_millis() as u64;
                taken.push((at, ready));
            }
            match self.core.next_due(self.now) {
                Some(next) if next <= end => self.now = next,
                _ => {
                    self.now = end;
                    return taken;
                }
            }
        }
    }
}

fn at(millis: u64, name: &str) -> (u64, String) {
    (millis, name.to_owned())
}

#[test]
fn a_closed_file_is_ready_at_once() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)), [at(0, "a.png")]);
}

#[test]
fn a_file_that_nobody_closed_must_settle() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    assert_eq!(folder.run(ms(499)), []);
    assert_eq!(folder.run(ms(10_000)), [at(500, "a.png")]);
}

#[test]
fn growth_restarts_the_time() {
    let mut folder = Folder::new(RULES);
    for size in 1..10 {
        folder.see("a.png", size, Seen::Listed);
        assert_eq!(folder.run(ms(size * 400)), []);
    }
    assert_eq!(folder.run(ms(60_000)), [at(3_700, "a.png")]);
}

#[test]
fn a_writer_that_pauses_is_waited_for() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Written);
    assert_eq!(folder.run(ms(30_000)), []);
    folder.see("a.png", 20, Seen::Written);
    folder.see("a.png", 20, Seen::Closed);
    assert_eq!(folder.run(ms(30_000)), [at(30_000, "a.png")]);
}

#[test]
fn a_writer_that_never_closes_is_not_waited_for_for_ever() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Written);
    assert_eq!(folder.run(ms(90_000)), [at(60_000, "a.png")]);
}

#[test]
fn an_empty_file_gets_the_patience() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 0, Seen::Closed);
    assert_eq!(folder.run(ms(9_000)), [at(5_000, "a.png")]);
}

#[test]
fn an_incomplete_file_is_tried_again_when_it_has_changed_and_else_once_more() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert!(!folder.core.take(folder.now).unwrap().is_last_chance);
    folder.settle("a.png", Outcome::Incomplete);
    assert_eq!(folder.run(ms(1_000)), []);
    folder.see("a.png", 20, Seen::Closed);
    assert!(!folder.core.take(folder.now).unwrap().is_last_chance);
    folder.settle("a.png", Outcome::Incomplete);
    assert_eq!(folder.run(ms(5_999)), []);
    folder.now = folder.start + ms(6_000);
    folder.core.due(folder.now);
    folder.see("a.png", 20, Seen::Listed);
    assert!(folder.core.take(folder.now).unwrap().is_last_chance);
}

#[test]
fn a_version_is_handed_out_once() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)).len(), 1);
    folder.settle_read("a.png", Outcome::Done, 1);
    folder.see("a.png", 10, Seen::Listed);
    folder.see("a.png", 10, Seen::Written);
    assert_eq!(folder.run(ms(20_000)), []);
    folder.see("a.png", 11, Seen::Closed);
    assert_eq!(folder.run(ms(20_000)), [at(20_000, "a.png")]);
}

#[test]
fn a_change_while_it_is_decided_makes_a_second_turn() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)).len(), 1);
    folder.see("a.png", 20, Seen::Written);
    folder.see("a.png", 20, Seen::Closed);
    assert_eq!(folder.run(ms(2_000)), []);
    folder.settle("a.png", Outcome::Done);
    assert_eq!(folder.run(ms(9_000)), [at(2_000, "a.png")]);
}

#[test]
fn what_an_earlier_run_decided_is_left_alone() {
    let mut folder = Folder::knowing(RULES, &[known("a.png", None)]);
    folder.see("a.png", 10, Seen::Listed);
    folder.see("b.png", 10, Seen::Listed);
    assert_eq!(folder.run(ms(9_000)), [at(500, "b.png")]);
}

#[test]
fn skipped_files_are_taken_when_they_change() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    folder.core.skip(Path::new("a.png"), version(10));
    assert_eq!(folder.run(ms(9_000)), []);
    folder.see("a.png", 11, Seen::Closed);
    assert_eq!(folder.run(ms(9_000)).len(), 1);
}

#[test]
fn a_template_that_is_being_written_is_waited_for() {
    let mut folder = Folder::new(RULES);
    folder.see_template("a.png", 5, Seen::Written);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(3_000)), []);
    folder.see_template("a.png", 9, Seen::Closed);
    assert_eq!(folder.run(ms(3_000)), [at(3_000, "a.png")]);
}

#[test]
fn a_template_that_has_not_come_is_waited_for_if_asked() {
    let mut folder = Folder::new(Rules { templates: Templates::Wait, ..RULES });
    folder.see("a.png", 10, Seen::Closed);
    folder.see("b.png", 11, Seen::Closed);
    assert_eq!(folder.run(ms(200)), []);
    folder.see_template("b.png", 9, Seen::Closed);
    assert_eq!(folder.run(ms(9_000)), [at(200, "b.png"), at(500, "a.png")]);
}

#[test]
fn the_oldest_goes_first() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 30, Seen::Closed);
    folder.see("b.png", 10, Seen::Closed);
    folder.see("c.png", 20, Seen::Closed);
    assert_eq!(folder.run(ms(0)), [at(0, "b.png"), at(0, "c.png"), at(0, "a.png")]);
}

#[test]
fn a_listing_that_began_before_a_file_came_says_nothing_of_it() {
    let mut folder = Folder::new(RULES);
    let began = folder.now;
    folder.see("a.png", 10, Seen::Closed);
    folder.run(ms(1));
    folder.settle("a.png", Outcome::Done);
    let folders = BTreeMap::from([(PathBuf::new(), Some(FolderId(1, 1)))]);
    let survey = Survey { present: BTreeSet::new(), folders };
    for days in 0..30 {
        assert!(folder.core.prune(&survey, began, folder.now + absence::KEPT * days).is_empty());
    }
    // And if it found an older version, that one is not decided again.
    folder.core.listed(Path::new("a.png"), stat(9), began, folder.now);
    assert_eq!(folder.run(ms(9_000)), []);
}

#[test]
fn what_vanishes_before_its_turn_is_forgotten() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    folder.files.clear();
    assert_eq!(folder.run(ms(9_000)), []);
    assert_eq!(folder.core.counts(), Counts { waiting: 0, busy: 0, delayed: 0 });
    assert_eq!(folder.core.next_due(folder.now), None);
}

#[test]
fn a_removed_file_may_come_again_with_the_same_face() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)).len(), 1);
    folder.settle("a.png", Outcome::Removed);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)).len(), 1);
}

/// A decided file that has another face of the same version.
fn decided() -> Folder {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run_all(ms(0))[0].1.decided, None);
    folder.settle_read("a.png", Outcome::Done, 1);
    folder
}

#[test]
fn a_second_picture_of_the_same_name_size_and_time_is_handed_out_with_what_was_decided() {
    let faces = [
        // Overwritten in place on a file system that tells no more than size and time: only the closing is seen.
        (stat(10), Seen::Closed),
        // Replaced by a rename, whose event was seen or was not.
        (Stat { inode: 2, changed: 11, ..stat(10) }, Seen::Closed),
        (Stat { inode: 2, changed: 11, ..stat(10) }, Seen::Listed),
        // Its times were set back behind the writing.
        (Stat { changed: 11, ..stat(10) }, Seen::Listed),
        // On a share that does not tell of changes of anything.
        (Stat { inode: 2, ..stat(10) }, Seen::Listed),
    ];
    for (face, seen) in faces {
        let mut folder = decided();
        folder.see_stat("a.png", face, seen);
        let taken = folder.run_all(ms(1_000));
        let again = taken[0].1.decided.unwrap();
        assert_eq!((taken.len(), again.content), (1, Content([1; 32])), "{face:?} {seen:?}");
        assert_eq!(again.is_kept, face.changed != 10 || seen == Seen::Closed);
        // Whether it is another picture is for whoever reads it to say.
        folder.settle_read("a.png", Outcome::Done, 2);
        folder.see_stat("a.png", face, Seen::Listed);
        assert_eq!(folder.run(ms(60_000)), []);
    }
}

#[test]
fn one_that_is_what_it_was_is_not_looked_at_again() {
    let mut folder = decided();
    let touched = Stat { changed: 11, ..stat(10) };
    folder.see_stat("a.png", touched, Seen::Listed);
    assert_eq!(folder.run(ms(1_000)).len(), 1);
    folder.settle_read("a.png", Outcome::Same, 1);
    folder.see_stat("a.png", touched, Seen::Listed);
    assert_eq!(folder.run(ms(60_000)), []);
    // It still knows what it held.
    folder.see_stat("a.png", Stat { changed: 12, ..touched }, Seen::Listed);
    assert_eq!(folder.run_all(ms(70_000))[0].1.decided.unwrap().content, Content([1; 32]));
}

#[test]
fn one_that_is_closed_while_it_is_decided_is_looked_at_once_more() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Closed);
    folder.run(ms(0));
    folder.see("a.png", 10, Seen::Written);
    folder.see("a.png", 10, Seen::Closed);
    folder.settle_read("a.png", Outcome::Done, 1);
    assert_eq!(folder.run_all(ms(2_000))[0].1.decided.unwrap().content, Content([1; 32]));
}

#[test]
fn over_a_restart_what_was_read_is_compared_and_one_that_was_set_aside_unread_is_believed() {
    let of_now = known("a.png", reading(stat(10), 1));
    let mut folder = Folder::knowing(RULES, &[of_now, known("b.png", None)]);
    folder.see("a.png", 10, Seen::Listed);
    folder.see("b.png", 10, Seen::Listed);
    assert_eq!(folder.run(ms(9_000)), []);
    for name in ["a.png", "b.png"] {
        // Permissions, and a share that has been mounted anew.
        folder.see_stat(name, Stat { changed: 11, ..stat(10) }, Seen::Listed);
    }
    let taken = folder.run_all(ms(20_000));
    assert!(taken.len() == 1 && taken[0].1.path == Path::new("a.png") && taken[0].1.decided.is_some());
    // Another file under that name is another picture, as far as anyone can tell.
    folder.see_stat("b.png", Stat { inode: 2, changed: 12, ..stat(10) }, Seen::Listed);
    assert_eq!(folder.run_all(ms(30_000))[0].1.decided, None);
}

#[test]
fn over_a_restart_a_file_system_that_counts_seconds_is_not_believed() {
    let coarse = Stat { changed: 2_000_000_000, ..stat(10) };
    let mut folder = Folder::knowing(RULES, &[known("a.bmp", reading(coarse, 1))]);
    folder.see_stat("a.bmp", coarse, Seen::Listed);
    let again = folder.run_all(ms(1_000))[0].1.decided.unwrap();
    assert!(again.content == Content([1; 32]) && !again.is_kept);
    folder.settle_read("a.bmp", Outcome::Same, 1);
    folder.see_stat("a.bmp", coarse, Seen::Listed);
    assert_eq!(folder.run(ms(60_000)), [], "once a start is enough: from then on closings are seen");
}

#[test]
fn looks_at_decided_files_go_one_at_a_time_and_behind_the_others() {
    let names = ["a.png", "b.png", "c.png"];
    let mut folder = Folder::knowing(RULES, &names.map(|name| known(name, reading(stat(10), 1))));
    for name in names {
        folder.see_stat(name, Stat { inode: 7, ..stat(10) }, Seen::Listed);
    }
    folder.see("fresh.png", 99, Seen::Listed);
    assert_eq!(folder.run(ms(1_000)), [at(500, "fresh.png"), at(500, "a.png")]);
    folder.settle_read("fresh.png", Outcome::Done, 9);
    assert_eq!(folder.run(ms(2_000)), []);
    // It took 1.5 s: four times as long nothing follows, since only made-up numbers are the reason.
    folder.settle_read("a.png", Outcome::Same, 1);
    assert_eq!(folder.run(ms(7_999)), []);
    assert_eq!(folder.run(ms(60_000)), [at(8_000, "b.png")]);
    folder.settle("b.png", Outcome::Changed);
    folder.files.clear();
    assert_eq!(folder.run(ms(400_000)), [at(268_000, "c.png")]);
    folder.core.settle(Path::new("c.png"), Outcome::Changed, None, folder.now);
    assert_eq!(folder.run(ms(500_000)), []);
    // Gone for now, and still known.
    assert_eq!(folder.core.counts(), Counts { waiting: 0, busy: 0, delayed: 0 });
    folder.see_stat("b.png", Stat { inode: 7, ..stat(10) }, Seen::Listed);
    assert_eq!(folder.run_all(ms(1_000_000))[0].1.decided.unwrap().content, Content([1; 32]));
}

#[test]
fn a_share_that_makes_up_changes_does_not_keep_a_file_from_its_turn() {
    let mut folder = Folder::new(RULES);
    for look in 0..400 {
        folder.now = folder.start + ms(look * 250);
        folder.see_stat("a.png", Stat { inode: look, changed: look as i64, ..stat(10) }, Seen::Listed);
        if folder.core.has_ready(folder.now) {
            assert_eq!(look * 250, 60_250);
            return;
        }
    }
    panic!("it is never ready");
}

#[test]
fn content_that_changes_while_size_and_time_stand_still_is_waited_for() {
    let mut folder = Folder::new(RULES);
    folder.see("a.bmp", 10, Seen::Listed);
    assert!(!folder.run_all(ms(500))[0].1.is_last_chance);
    folder.settle_read("a.bmp", Outcome::Incomplete, 1);
    let taken = folder.run_all(ms(5_000));
    assert!(taken[0].1.is_last_chance && taken[0].1.unfinished == Some(Content([1; 32])));
    // It holds more by now, so it is not over.
    folder.settle_read("a.bmp", Outcome::Incomplete, 2);
    assert_eq!(folder.run(ms(9_999)), []);
    let taken = folder.run_all(ms(10_000));
    assert!(taken[0].1.is_last_chance && taken[0].1.unfinished == Some(Content([2; 32])));
}

#[test]
fn an_unfinished_file_whose_writer_is_at_it_gets_ten_minutes() {
    let mut folder = Folder::new(RULES);
    folder.see("a.bmp", 10, Seen::Written);
    assert!(!folder.run_all(ms(60_000))[0].1.is_last_chance);
    folder.settle_read("a.bmp", Outcome::Incomplete, 1);
    assert_eq!(folder.run(ms(599_999)), []);
    folder.see("a.bmp", 10, Seen::Closed);
    let taken = folder.run_all(ms(600_000));
    assert!(taken[0].1.is_last_chance && taken[0].1.is_closed);
}

#[test]
fn what_was_in_hand_at_a_death_comes_when_it_may_and_what_is_aside_at_once() {
    let risks = [
        (PathBuf::from("a.png"), (version(10), Risk::Alone { points: 2 })),
        (PathBuf::from("e.png"), (version(10), Risk::Alone { points: 0 })),
        (PathBuf::from("b.png"), (version(10), Risk::Aside { deaths: 3 })),
        (PathBuf::from("c.png"), (version(9), Risk::Alone { points: 0 })),
    ];
    let mut folder = Folder::after(RULES, &[], HashMap::from(risks));
    for name in ["a.png", "b.png", "c.png", "d.png", "e.png"] {
        folder.see(name, 10, Seen::Listed);
    }
    let taken = folder.run_all(ms(9_000));
    let risks: Vec<_> = taken.iter().map(|(_, ready)| (ready.path.to_str().unwrap(), ready.risk)).collect();
    // Of the third there is another version by now.
    assert_eq!(risks, [("b.png", Some(Risk::Aside { deaths: 3 })), ("c.png", None), ("d.png", None)]);
    assert!(folder.core.has_risks() && folder.core.counts() == Counts { waiting: 2, busy: 3, delayed: 0 });
    folder.core.allow_risks(true);
    // The one that has ended the agent already comes behind the one that has not.
    let risks: Vec<_> = folder.run_all(ms(9_000)).iter().map(|(_, ready)| ready.risk.unwrap()).collect();
    assert_eq!(risks, [Risk::Alone { points: 0 }, Risk::Alone { points: 2 }]);
    folder.settle_read("a.png", Outcome::Done, 1);
    // Lived through: it is a file as others are.
    folder.see("a.png", 10, Seen::Closed);
    folder.core.allow_risks(false);
    assert_eq!(folder.run_all(ms(9_000))[0].1.risk, None);
}
