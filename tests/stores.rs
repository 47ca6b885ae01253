//! Every store of the agent, damaged in every way that a disk and people have: the agent starts and decides, nothing that was decided is
//! decided again, and nothing is lost.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::{Recorded, recorded_of};

/// The journal's two copies.
const COPIES: [&str; 2] = ["decided.redb", "decided.wal"];

/// An agent with a watched folder, and what its sinks were told.
struct Line {
    dir: tempfile::TempDir,
    samples: Vec<Recorded>,
    given: usize,
    agent: Option<EdgeProcess>,
}

impl Line {
    fn new() -> Self {
        Self::with("")
    }

    fn with(offload: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        EdgeToml::new(dir.path()).offload(offload).write();
        Self { dir, samples: recorded_of("xsdd", 10), given: 0, agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    fn start(&mut self) {
        self.agent = Some(EdgeProcess::start(&self.path("edge.toml")));
    }

    fn agent(&self) -> &EdgeProcess {
        self.agent.as_ref().unwrap()
    }

    fn stop(&mut self, signal: Signal) {
        self.agent.take().unwrap().signal(signal);
    }

    /// Puts so many new pictures into the folder, and waits until all that were ever put there are decided.
    fn decides(&mut self, count: usize) {
        for _ in 0..count {
            let sample = &self.samples[self.given % self.samples.len()];
            std::fs::copy(&sample.path, self.path("in").join(format!("part_{}.png", self.given))).unwrap();
            self.given += 1;
        }
        until("all are decided", || self.decided().len() == self.given);
    }

    /// How many first records there are of each file.
    fn decided(&self) -> BTreeMap<String, usize> {
        let text = std::fs::read_to_string(self.path("decisions.jsonl")).unwrap_or_default();
        let mut decided = BTreeMap::new();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap_or_default();
            let path = record["sample"]["path"].as_str().or(record["path"].as_str());
            if let Some(path) = path.filter(|_| record["version"].as_u64().unwrap_or(1) <= 1) {
                *decided.entry(path.to_owned()).or_default() += 1;
            }
        }
        decided
    }

    /// Waits until the agent has looked at every file that is there.
    fn has_looked(&self) {
        let waiting = "millgate_source_waiting{source=\"cam1\"}";
        until("nothing waits", || {
            let page = self.agent().http("GET", "/metrics", "");
            let value = |name: &str| {
                let line = page.lines().find(|line| line.starts_with(name));
                line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            };
            value(waiting).is_none_or(|waiting| waiting == 0.0) && value("millgate_in_flight") == Some(0.0)
        });
    }

    fn is_once_each(&self, case: &str) {
        let decided = self.decided();
        assert_eq!(decided.len(), self.given, "{case}");
        let doubled: Vec<_> = decided.iter().filter(|(_, count)| **count != 1).collect();
        assert!(doubled.is_empty(), "{case}: {doubled:?}");
    }
}

/// Damages a file; gives in words how.
fn damage(path: &Path, kind: usize, random: &mut fastrand::Rng) -> String {
    let mut bytes = std::fs::read(path).unwrap();
    let at = random.usize(..bytes.len().max(1));
    match kind {
        0 if !bytes.is_empty() => {
            bytes[at] ^= 1 << random.u8(..8);
            std::fs::write(path, &bytes).unwrap();
            format!("a bit at {at}")
        }
        1 => {
            let page = at / 4096 * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
            std::fs::write(path, &bytes).unwrap();
            format!("zeros from {page}")
        }
        2 => {
            bytes.truncate(bytes.len().saturating_sub(1));
            std::fs::write(path, &bytes).unwrap();
            "a byte off the end".to_owned()
        }
        3 => {
            bytes.truncate(at);
            std::fs::write(path, &bytes).unwrap();
            format!("cut at {at}")
        }
        4 => {
            std::fs::remove_file(path).unwrap();
            "missing".to_owned()
        }
        5 => {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
            "a folder in its place".to_owned()
        }
        _ => {
            std::fs::write(path, "").unwrap();
            "empty".to_owned()
        }
    }
}

const KINDS: usize = 7;

#[test]
fn a_damaged_copy_of_the_journal_costs_nothing_whichever_and_however() {
    let mut line = Line::new();
    let mut random = fastrand::Rng::with_seed(12);
    line.start();
    line.decides(20);
    for round in 0..2 * KINDS + 6 {
        line.stop(if round % 3 == 0 { Signal::TERM } else { Signal::KILL });
        let name = COPIES[round % 2];
        let kind = if round < 2 * KINDS { round / 2 } else { 0 };
        let how = damage(&line.state(name), kind, &mut random);
        line.start();
        line.decides(1);
        line.has_looked();
        line.is_once_each(&format!("round {round}, {name}: {how}"));
    }
}

#[test]
fn a_journal_that_is_deleted_or_replaced_under_the_agent_doubles_nothing() {
    let mut line = Line::new();
    line.start();
    line.decides(10);
    for round in 0..8 {
        let names: &[&str] = match round % 4 {
            0 => &["decided.redb"],
            1 => &["decided.wal"],
            _ => &COPIES,
        };
        for name in names {
            std::fs::remove_file(line.state(name)).unwrap();
        }
        if round % 4 == 3 {
            std::fs::write(line.state("decided.redb"), "somebody else's").unwrap();
        }
        line.decides(2);
        line.stop(Signal::KILL);
        line.start();
        line.decides(1);
        line.has_looked();
        line.is_once_each(&format!("round {round}"));
    }
    // While nothing is decided too, within moments.
    let inode = line.state("decided.redb").metadata().unwrap().ino();
    for name in COPIES {
        std::fs::remove_file(line.state(name)).unwrap();
    }
    until("it is written anew", || {
        COPIES.iter().all(|name| line.state(name).exists())
            && line.state("decided.redb").metadata().is_ok_and(|found| found.ino() != inode)
    });
    let made = "millgate_stores_made_anew_total{store=\"journal\"}";
    until("it is counted", || line.agent().http("GET", "/metrics", "").contains(made));
    assert!(line.agent().log().contains("was deleted or replaced while it was in use"));
}

#[test]
fn where_both_copies_are_lost_the_records_say_what_was_decided() {
    for is_all in [false, true] {
        let mut line = Line::new();
        line.start();
        line.decides(12);
        line.stop(Signal::KILL);
        match is_all {
            true => std::fs::remove_dir_all(line.path("state")).unwrap(),
            false => COPIES.iter().for_each(|name| std::fs::write(line.state(name), "nothing").unwrap()),
        }
        // One that was not decided before, and one that is another picture by now.
        line.start();
        line.decides(1);
        line.has_looked();
        line.is_once_each(if is_all { "all of it" } else { "both" });
        assert!(line.agent().log().contains("does not know all that was decided"), "{}", line.agent().log());
        assert!(line.agent().metric("millgate_outbox_recognised_total") >= 12.0);
        line.stop(Signal::TERM);
        line.start();
        line.decides(1);
        line.is_once_each("and after");
    }
}

/// A state directory that takes nothing, also from root: a file stands where it should be.
#[test]
fn an_agent_that_cannot_remember_decides_and_says_so_and_remembers_when_it_can() {
    let mut line = Line::new();
    line.start();
    line.decides(3);
    let (state, away) = (line.path("state"), line.path("away"));
    std::fs::rename(&state, &away).unwrap();
    std::fs::write(&state, "no folder").unwrap();
    line.decides(5);
    let ready = line.agent().http("GET", "/readyz", "");
    assert!(ready.contains(" 200 ") && ready.contains("cannot remember"), "{ready}");
    assert_eq!(line.agent().metric("millgate_journal_remembers"), 0.0);
    assert!(line.agent().metric("millgate_journal_held") > 0.0);
    std::fs::remove_file(&state).unwrap();
    std::fs::rename(&away, &state).unwrap();
    until("it remembers", || line.agent().metric("millgate_journal_copies") == 2.0);
    assert_eq!(line.agent().metric("millgate_journal_held"), 0.0);
    line.stop(Signal::KILL);
    line.start();
    line.decides(1);
    line.has_looked();
    line.is_once_each("remembered late");

    // Where it ends before it can, whoever ends it, the records say it.
    for signal in [Signal::KILL, Signal::TERM] {
        std::fs::rename(&state, &away).unwrap();
        std::fs::write(&state, "no folder").unwrap();
        line.decides(4);
        line.stop(signal);
        std::fs::remove_file(&state).unwrap();
        std::fs::rename(&away, &state).unwrap();
        line.start();
        line.decides(1);
        line.has_looked();
        line.is_once_each("never remembered");
    }
}

/// Every store, every damage: the agent starts, decides, and doubles nothing. A pool that nobody listens for makes a spool.
#[test]
fn whatever_store_is_damaged_the_agent_starts_and_decides() {
    let mut line = Line::with("cloud = \"http://127.0.0.1:9\"\nmode = \"always\"\ndeadline = \"300ms\"");
    let mut random = fastrand::Rng::with_seed(7);
    line.start();
    line.decides(6);
    let record = line.path("state/bundles/active.toml");
    assert!(record.exists(), "the record of bundles has another name");
    std::fs::write(line.state("suspects.json"), "[]").unwrap();
    let mut round = 0;
    for kind in 0..KINDS {
        let mut stores = vec![
            line.state("in_hand"),
            line.state("suspects.json"),
            line.state("budget.json"),
            line.state("uplink.json"),
            line.state("admin.json"),
            record.clone(),
        ];
        let segments = line.state("spool").read_dir().unwrap().map(|entry| entry.unwrap().path());
        // Each start begins another one.
        stores.extend(segments.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).max());
        for store in stores {
            if !store.is_file() {
                continue;
            }
            line.stop(if round % 4 == 3 { Signal::KILL } else { Signal::TERM });
            if !store.is_file() {
                line.start();
                continue;
            }
            let how = damage(&store, kind, &mut random);
            line.start();
            line.decides(1);
            line.has_looked();
            line.is_once_each(&format!("{}: {how}", store.display()));
            round += 1;
        }
    }
    assert!(round > 2 * KINDS, "{round}");
    // The spool as a whole.
    line.stop(Signal::KILL);
    std::fs::remove_dir_all(line.state("spool")).unwrap();
    std::fs::write(line.state("spool"), "no folder").unwrap();
    line.start();
    line.decides(2);
    line.has_looked();
    line.is_once_each("a file in the spool's place");
}

#[test]
fn what_holds_samples_or_records_is_nobody_elses_whatever_the_umask() {
    let mut line = Line::with("cloud = \"http://127.0.0.1:9\"\nmode = \"always\"\ndeadline = \"300ms\"");
    let start = |line: &Line| {
        let mut command = std::process::Command::new("sh");
        let program = system_tests::binary("millgate-edge");
        command.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(program);
        EdgeProcess::start_by(command, &line.path("edge.toml"))
    };
    line.agent = Some(start(&line));
    line.decides(3);
    let open = || {
        let mut open = Vec::new();
        let mut folders = vec![line.path("state")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(line.path("state")).unwrap().display().to_string();
                let is_meant = ["decided.", "spool", "in_hand", "suspects", "admin.json"];
                if is_meant.iter().any(|meant| name.starts_with(meant))
                    && path.metadata().unwrap().permissions().mode() & 0o077 != 0
                {
                    open.push(name);
                }
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        open
    };
    assert_eq!(open(), Vec::<String>::new());
    assert_eq!(line.path("state").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(line.path("decisions.jsonl").metadata().unwrap().permissions().mode() & 0o777, 0o640);
    // What an earlier agent has left wider is narrowed.
    line.stop(Signal::KILL);
    for name in COPIES {
        std::fs::set_permissions(line.state(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    for entry in line.state("spool").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(line.path("decisions.jsonl"), wide).unwrap();
    line.agent = Some(start(&line));
    line.decides(1);
    let open = || {
        let names = COPIES.map(|name| line.state(name));
        let spool = line.state("spool").read_dir().unwrap().map(|entry| entry.unwrap().path());
        let wide =
            |path: &PathBuf| path.metadata().is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
        names.into_iter().chain(spool).filter(wide).collect::<Vec<_>>()
    };
    assert_eq!(open(), Vec::<PathBuf>::new());
    assert_eq!(line.path("decisions.jsonl").metadata().unwrap().permissions().mode() & 0o777, 0o640);
}
