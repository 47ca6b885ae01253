use std::collections::BTreeMap;

use super::*;

const RULES: Rules = Rules { settle: ms(500), patience: ms(5_000), templates: Templates::Optional };

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn version(size: u64) -> Version {
    Version { size, modified: size as i64 }
}

/// A folder in virtual time.
struct Folder {
    core: Core,
    start: Instant,
    now: Instant,
    /// What a look at a file would find.
    files: BTreeMap<PathBuf, Version>,
    templates: BTreeMap<PathBuf, Version>,
}

impl Folder {
    fn new(rules: Rules) -> Self {
        Self::knowing(rules, Vec::new())
    }

    fn knowing(rules: Rules, known: Vec<(PathBuf, Version)>) -> Self {
        let now = Instant::now();
        let core = Core::new(rules, known, now);
        Self { core, start: now, now, files: BTreeMap::new(), templates: BTreeMap::new() }
    }

    fn see(&mut self, name: &str, size: u64, seen: Seen) {
        self.files.insert(PathBuf::from(name), version(size));
        self.core.observe(Path::new(name), version(size), seen, self.now);
    }

    fn see_template(&mut self, picture: &str, size: u64, seen: Seen) {
        self.templates.insert(PathBuf::from(picture), version(size));
        self.core.observe_template(Path::new(picture), version(size), seen, self.now);
    }

    fn settle(&mut self, name: &str, outcome: Outcome) {
        self.core.settle(Path::new(name), outcome, self.now);
    }

    /// Lets time pass until `until` (since the start); gives what was handed out, with the time.
    fn run(&mut self, until: Duration) -> Vec<(u64, String)> {
        let end = self.start + until;
        let mut taken = Vec::new();
        loop {
            for path in self.core.due(self.now) {
                if let Some(template) = self.templates.get(&path) {
                    self.core.observe_template(&path, *template, Seen::Listed, self.now);
                }
                match self.files.get(&path) {
                    Some(version) => self.core.observe(&path, *version, Seen::Listed, self.now),
                    None => self.core.gone(&path),
                }
            }
            while let Some(ready) = self.core.take(self.now) {
                let at = (self.now - self.start).as_millis() as u64;
                taken.push((at, ready.path.display().to_string()));
            }
            match self.core.next_due() {
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
    folder.see("a.png", 10, Seen::Closed);
    folder.settle("a.png", Outcome::Done);
    folder.see("a.png", 10, Seen::Listed);
    folder.see("a.png", 10, Seen::Closed);
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
    let mut folder = Folder::knowing(RULES, vec![(PathBuf::from("a.png"), version(10))]);
    folder.see("a.png", 10, Seen::Listed);
    folder.see("b.png", 10, Seen::Listed);
    assert_eq!(folder.run(ms(9_000)), [at(500, "b.png")]);
}

#[test]
fn skipped_files_are_taken_when_they_change() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    folder.core.skip(Path::new("a.png"), version(10), folder.now);
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
fn a_share_that_is_not_mounted_forgets_nothing() {
    let known = ["a.png", "b.png"].map(|name| (PathBuf::from(name), version(10)));
    let mut folder = Folder::knowing(RULES, known.to_vec());
    let began = folder.start + ms(1);
    for _ in 0..3 {
        assert!(folder.core.prune(&BTreeSet::new(), began).is_empty());
    }
    let present = BTreeSet::from([PathBuf::from("b.png")]);
    assert!(folder.core.prune(&present, began).is_empty());
    assert_eq!(folder.core.prune(&present, began), [PathBuf::from("a.png")]);
    folder.see("a.png", 10, Seen::Closed);
    assert_eq!(folder.run(ms(0)).len(), 1);
}

#[test]
fn a_listing_that_began_before_a_file_came_says_nothing_of_it() {
    let mut folder = Folder::new(RULES);
    let began = folder.now;
    folder.see("a.png", 10, Seen::Closed);
    folder.run(ms(1));
    folder.settle("a.png", Outcome::Done);
    for _ in 0..3 {
        assert!(folder.core.prune(&BTreeSet::new(), began).is_empty());
    }
    // And if it found an older version, that one is not decided again.
    folder.core.listed(Path::new("a.png"), version(9), began, folder.now);
    assert_eq!(folder.run(ms(9_000)), []);
}

#[test]
fn what_vanishes_before_its_turn_is_forgotten() {
    let mut folder = Folder::new(RULES);
    folder.see("a.png", 10, Seen::Listed);
    folder.files.clear();
    assert_eq!(folder.run(ms(9_000)), []);
    assert_eq!(folder.core.waiting(), 0);
    assert_eq!(folder.core.next_due(), None);
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
