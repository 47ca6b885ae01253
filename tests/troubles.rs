//! The machine in trouble: files that may not be read, no free descriptor, folders that are away, bundles half copied. All of
//! it delays; nothing of it decides a sample, a bundle or a file's absence.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;
use system_tests::broken::Copy;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::faults::volume::Volume;
use system_tests::{Recorded, binary, recorded_of, run, skip};

/// A user who has nothing: `nobody` on most systems.
const NOBODY: u32 = 65_534;
/// Delays of one file after which it must still not be taken for an error: the first pauses are 1 s and 2 s.
const TRIES: f64 = 3.0;

/// An agent with one watched folder and one file of records.
struct Line {
    dir: tempfile::TempDir,
    agent: Option<EdgeProcess>,
    /// Folders that have been moved in, so that a listing is known to have been made since.
    listed: usize,
}

impl Line {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "in/sub", "state", "away"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        EdgeToml::new(dir.path()).write();
        Self { dir, agent: None, listed: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self) {
        self.agent = Some(EdgeProcess::start(&self.path("edge.toml")));
    }

    fn agent(&self) -> &EdgeProcess {
        self.agent.as_ref().unwrap()
    }

    fn stop(&mut self) {
        assert_eq!(self.agent.take().unwrap().signal(Signal::TERM).code(), Some(0));
    }

    /// Puts a picture there at once, with its permissions.
    fn put(&self, name: &str, picture: &Path, mode: u32) {
        let part = self.path("away/.part");
        std::fs::copy(picture, &part).unwrap();
        std::fs::set_permissions(&part, Permissions::from_mode(mode)).unwrap();
        std::fs::rename(part, self.path(name)).unwrap();
    }

    fn set_mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// By name below the line's directory, the records of each picture; a torn last line is not counted.
    fn records(&self) -> BTreeMap<String, Vec<Value>> {
        let text = std::fs::read_to_string(self.path("decisions.jsonl")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let mut records: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in whole.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let path = record["sample"]["path"].as_str().or(record["path"].as_str()).unwrap();
            let name = Path::new(path).strip_prefix(self.dir.path()).unwrap().display().to_string();
            records.entry(name).or_default().push(record);
        }
        records
    }

    fn is_recorded(&self, name: &str) -> bool {
        self.records().contains_key(name)
    }

    /// Each picture has one record, and that is a decision.
    fn assert_each_once(&self, count: usize) {
        let records = self.records();
        assert_eq!(records.len(), count);
        for (name, records) in records {
            assert!(records.len() == 1 && records[0]["error"].is_null(), "{name}: {records:?}");
        }
    }

    /// Waits until the folder has been listed anew some times: a folder that is moved in is found by a listing.
    fn wait_for_listings(&mut self, picture: &Recorded) {
        for _ in 0..3 {
            let (folder, number) = (format!("moved-{}", self.listed), self.listed);
            std::fs::create_dir(self.path("away").join(&folder)).unwrap();
            self.put(&format!("away/{folder}/{number}.png"), &picture.path, 0o644);
            std::fs::rename(self.path("away").join(&folder), self.path("in").join(&folder)).unwrap();
            let name = format!("in/{folder}/{number}.png");
            until("a folder that was moved in is found", || self.is_recorded(&name));
            self.listed += 1;
        }
    }
}

/// The agent as a user whom permissions keep out; `None` where there is no such user to be had.
fn as_somebody() -> Option<Command> {
    let mut command = Command::new(binary("millgate-edge"));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
        let mut version = Command::new(binary("millgate-edge"));
        version.uid(NOBODY).gid(NOBODY).arg("--version").stdout(Stdio::null());
        if !version.status().is_ok_and(|status| status.success()) {
            return None;
        }
    }
    Some(command)
}

#[test]
fn pictures_that_may_not_be_read_yet_are_decided_once_they_may() {
    let Some(command) = as_somebody() else {
        return skip("another user may not run the agent from where it was built");
    };
    let pictures = recorded_of("deeppcb", 4);
    let mut line = Line::new();
    for name in ["", "in", "in/sub", "state"] {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(line.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    line.put("in/locked.png", &pictures[0].path, 0);
    line.put("in/pair.template.png", &pictures[1].path, 0);
    line.put("in/pair.png", &pictures[1].path, 0o644);
    line.put("in/sub/hidden.png", &pictures[2].path, 0o644);
    line.set_mode("in/sub", 0);
    line.agent = Some(EdgeProcess::start_by(command, &line.path("edge.toml")));
    let delayed = "millgate_source_files_total{source=\"cam1\",outcome=\"delayed\"}";
    until("it has been tried again and again", || line.agent().metric(delayed) >= 2.0 * TRIES);
    // Others go their way meanwhile.
    line.put("in/open.png", &pictures[3].path, 0o644);
    until("the open one is decided", || line.is_recorded("in/open.png"));
    line.assert_each_once(1);
    // One that is being tried again does not wait.
    let waiting = || line.agent().metric("millgate_source_delayed{source=\"cam1\"}");
    until("both wait", || waiting() == 2.0);
    assert!(line.agent().metric("millgate_source_troubles_total{source=\"cam1\",trouble=\"rights\"}") > 0.0);
    let said = line.agent().log().matches("does not let files be read").count();
    assert_eq!(said, 1, "once for all of a kind: {}", line.agent().log());
    for (name, mode) in [("in/locked.png", 0o644), ("in/pair.template.png", 0o644), ("in/sub", 0o755)] {
        line.set_mode(name, mode);
    }
    until("all are decided", || line.records().len() == 4);
    line.assert_each_once(4);
    let pair = &line.records()["in/pair.png"][0];
    assert_eq!(pair["sample"]["modalities"], serde_json::json!(["image", "template"]));
    line.stop();
}

#[test]
fn without_a_free_descriptor_pictures_wait_and_none_is_an_error() {
    let pictures = recorded_of("xsdd", 6);
    let mut line = Line::new();
    line.start();
    line.put("in/before.png", &pictures[0].path, 0o644);
    until("the first is decided", || line.is_recorded("in/before.png"));
    let pid = Some(line.agent().pid());
    let usual = getrlimit(Resource::Nofile);
    let none_free = Rlimit { current: Some(3), maximum: usual.maximum };
    let before = prlimit(pid, Resource::Nofile, none_free).unwrap();
    for (at, picture) in pictures.iter().enumerate().skip(1) {
        line.put(&format!("in/{at}.png"), &picture.path, 0o644);
    }
    until("it is an alarm", || line.agent().log().contains("\"descriptors\""));
    line.assert_each_once(1);
    prlimit(pid, Resource::Nofile, before).unwrap();
    until("all are decided", || line.records().len() == pictures.len());
    line.assert_each_once(pictures.len());
    line.stop();
}

#[test]
fn a_folder_that_was_away_is_known_again() {
    let pictures = recorded_of("xsdd", 8);
    let mut line = Line::new();
    line.put("in/beside.png", &pictures[0].path, 0o644);
    for (at, picture) in pictures.iter().enumerate().skip(1) {
        line.put(&format!("in/sub/{at}.png"), &picture.path, 0o644);
    }
    line.start();
    until("all are decided", || line.records().len() == pictures.len());
    // Moved away.
    std::fs::rename(line.path("in/sub"), line.path("away/sub")).unwrap();
    line.wait_for_listings(&pictures[0]);
    std::fs::rename(line.path("away/sub"), line.path("in/sub")).unwrap();
    line.wait_for_listings(&pictures[0]);
    line.assert_each_once(pictures.len() + line.listed);
    // Another file system lies over it.
    match Volume::mount(&line.path("in/sub"), 1 << 20) {
        None => skip("only root may mount; a folder under another one was not tried"),
        Some(volume) => {
            line.wait_for_listings(&pictures[0]);
            drop(volume);
        }
    }
    line.wait_for_listings(&pictures[0]);
    // Its files alone, and over a restart.
    for at in 1..pictures.len() {
        let name = format!("{at}.png");
        std::fs::rename(line.path("in/sub").join(&name), line.path("away").join(&name)).unwrap();
    }
    line.wait_for_listings(&pictures[0]);
    line.stop();
    line.start();
    line.wait_for_listings(&pictures[0]);
    for at in 1..pictures.len() {
        let name = format!("{at}.png");
        std::fs::rename(line.path("away").join(&name), line.path("in/sub").join(&name)).unwrap();
    }
    line.wait_for_listings(&pictures[0]);
    line.assert_each_once(pictures.len() + line.listed);
    line.stop();
}

/// A bundle of another version than the shipped one.
fn other_version() -> Copy {
    let text = std::fs::read_to_string(system_tests::bundle().join("bundle.toml")).unwrap();
    let own = text.lines().find(|line| line.starts_with("version = ")).unwrap();
    Copy::new().manifest(own, "version = \"9.9.9\"")
}

const MODEL: &str = "pcb-s/1/model.onnx";

#[test]
fn a_bundle_that_is_half_copied_ends_a_start_so_that_it_is_tried_again() {
    let line = Line::new();
    let bundle = Copy::new();
    let whole = std::fs::read(bundle.file(MODEL)).unwrap();
    let config = EdgeToml::new(line.dir.path()).bundle(bundle.path()).write();
    let config = config.to_str().unwrap();
    let ports = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    let pool = line.path("cloud.toml");
    std::fs::write(&pool, format!("state_dir = {:?}\n", line.path("pool-state"))).unwrap();
    let serve = ["serve", "--bundle", bundle.text_path(), "--config", pool.to_str().unwrap()];
    let serve = [&serve[..], &ports[..]].concat();
    let states: [(&str, &dyn Fn()); 3] = [
        ("cut short", &|| std::fs::write(bundle.file(MODEL), &whole[..whole.len() / 2]).unwrap()),
        ("not there yet", &|| std::fs::remove_file(bundle.file(MODEL)).unwrap()),
        ("no manifest", &|| std::fs::remove_file(bundle.file("bundle.toml")).unwrap()),
    ];
    for (state, make_it_so) in states {
        make_it_so();
        let agent = run("millgate-edge", &["run", "--config", config]);
        assert_eq!(agent.code, 1, "{state}: {}", agent.stderr);
        let pool = run("millgate-cloud", &serve);
        assert_eq!(pool.code, 1, "{state}: {}", pool.stderr);
    }
    // What only a person can change ends it for good.
    std::fs::write(line.path("wrong.toml"), "bundel = \"x\"\n").unwrap();
    let wrong = line.path("wrong.toml").display().to_string();
    assert_eq!(run("millgate-edge", &["run", "--config", &wrong]).code, 3);
    assert_eq!(run("millgate-cloud", &["serve", "--config", &wrong]).code, 2);
}

#[test]
fn while_a_bundle_is_being_copied_the_one_before_decides_and_then_it_is_followed() {
    let picture = &recorded_of("xsdd", 2)[0];
    let mut line = Line::new();
    let (first, second) = (Copy::new(), other_version());
    let whole = std::fs::read(second.file(MODEL)).unwrap();
    EdgeToml::new(line.dir.path()).bundle(first.path()).write();
    line.start();
    line.put("in/one.png", &picture.path, 0o644);
    until("it is decided", || line.is_recorded("in/one.png"));
    line.stop();
    std::fs::remove_file(second.file(MODEL)).unwrap();
    EdgeToml::new(line.dir.path()).bundle(second.path()).write();
    line.start();
    line.put("in/two.png", &recorded_of("xsdd", 2)[1].path, 0o644);
    until("the bundle before decides", || line.is_recorded("in/two.png"));
    let version = |name: &str| line.records()[name][0]["bundle"]["version"].clone();
    assert_eq!(version("in/two.png"), version("in/one.png"));
    assert!(line.agent().log().contains("deciding with the one before"), "{}", line.agent().log());
    std::fs::write(second.file(MODEL), whole).unwrap();
    until("it is followed by itself", || line.agent().log().contains("the bundle was switched"));
    let three = &recorded_of("deeppcb", 1)[0];
    line.put("in/three.png", &three.path, 0o644);
    until("the new one decides", || line.is_recorded("in/three.png"));
    assert_eq!(line.records()["in/three.png"][0]["bundle"]["version"], "9.9.9");
    line.stop();
}
