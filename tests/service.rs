//! The agent as a service: folders in, records out, through half-written files, kill -9 and SIGTERM.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::{PATIENCE, Recorded, recorded_of, run};

/// A service with one watched folder and one file of records.
struct Line {
    dir: tempfile::TempDir,
    agent: Option<EdgeProcess>,
}

impl Line {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "state"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        EdgeToml::new(dir.path()).write();
        Self { dir, agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it and waits until it says that it is ready.
    fn start(&mut self) {
        self.agent = Some(EdgeProcess::start(&self.path("edge.toml")));
    }

    fn signal(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        self.agent.take().unwrap().signal(signal)
    }

    /// By decision id, the paths decided; a torn last line is not counted.
    fn decided(&self) -> BTreeMap<String, Vec<String>> {
        let text = std::fs::read_to_string(self.path("decisions.jsonl")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let mut decided: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in whole.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            let path = record["sample"]["path"].as_str().or(record["path"].as_str()).unwrap().to_owned();
            let id = if record["error"].is_object() { "error" } else { record["id"].as_str().unwrap() };
            decided.entry(path).or_default().push(id.to_owned());
        }
        decided
    }

    /// Waits for records of `count` files, by the file system's own pace.
    fn wait_for(&self, count: usize) -> BTreeMap<String, Vec<String>> {
        until(&format!("{count} are decided"), || self.decided().len() >= count);
        self.decided()
    }

    fn drop_in(&self, name: &str, sample: &Recorded) {
        std::fs::copy(&sample.path, self.path("in").join(name)).unwrap();
    }
}

#[test]
fn new_pictures_are_decided_once_each_and_sigterm_drains() {
    let samples = recorded_of("xsdd", 10);
    let mut line = Line::new();
    line.drop_in("before.png", &samples[0]);
    line.start();
    for (at, sample) in samples.iter().enumerate().skip(1) {
        line.drop_in(&format!("part_{at}.png"), sample);
    }
    line.wait_for(samples.len());
    assert_eq!(line.signal(rustix::process::Signal::TERM).code(), Some(0));
    let decided = line.decided();
    assert!(decided.len() == samples.len() && decided.values().all(|ids| ids.len() == 1), "{decided:?}");
}

#[test]
fn a_file_that_is_still_being_written_is_left_alone() {
    let samples = recorded_of("xsdd", 2);
    let bytes = std::fs::read(&samples[0].path).unwrap();
    let mut line = Line::new();
    line.start();
    let mut half = std::fs::File::create(line.path("in").join("slow.png")).unwrap();
    half.write_all(&bytes[..bytes.len() / 2]).unwrap();
    half.flush().unwrap();
    line.drop_in("quick.png", &samples[1]);
    assert_eq!(line.wait_for(1).len(), 1);
    half.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(half);
    let decided = line.wait_for(2);
    assert!(decided.values().all(|ids| ids.len() == 1 && ids[0] != "error"), "{decided:?}");
}

#[test]
fn a_broken_file_is_recorded_and_the_next_is_decided() {
    let samples = recorded_of("xsdd", 1);
    let mut line = Line::new();
    line.start();
    std::fs::write(line.path("in").join("a.png"), b"no picture").unwrap();
    line.drop_in("b.png", &samples[0]);
    let decided = line.wait_for(2);
    let a = decided.iter().find(|(path, _)| path.ends_with("a.png")).unwrap();
    assert_eq!(a.1, &["error"]);
}

#[test]
fn kill_9_loses_nothing_and_doubles_nothing() {
    let samples = recorded_of("xsdd", 40);
    let mut line = Line::new();
    line.start();
    for (at, sample) in samples.iter().enumerate() {
        line.drop_in(&format!("part_{at}.png"), sample);
        if at % 13 == 12 {
            line.signal(rustix::process::Signal::KILL);
            line.start();
        }
    }
    line.wait_for(samples.len());
    // After the drain: one that comes late would be seen too.
    assert_eq!(line.signal(rustix::process::Signal::TERM).code(), Some(0));
    let decided = line.decided();
    assert_eq!(decided.len(), samples.len());
    for (path, ids) in &decided {
        assert_eq!(ids.len(), 1, "{path} was recorded more than once: {ids:?}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_named_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    for (text, word) in [
        ("bundel = \"x\"", "bundel"),
        ("[offload]\nrisk = 2.0", "offload.risk"),
        ("[offload]\ncloud = \"ftp://x\"", "offload.cloud"),
        ("[api]\nlisten = \"0.0.0.0:8011\"", "plaintext_beyond_loopback"),
        ("threads = \"many\"", "threads"),
    ] {
        std::fs::write(&config, text).unwrap();
        let ran = run("millgate-edge", &["run", "--config", config.to_str().unwrap()]);
        assert_eq!(ran.code, 3, "{text}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{text}: {}", ran.stderr);
    }
}

#[test]
fn check_names_what_is_wrong_and_what_to_do() {
    let line = Line::new();
    let config = line.path("edge.toml");
    let good = run("millgate-edge", &["check", "--config", config.to_str().unwrap(), "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&good.stdout).unwrap();
    assert_eq!(good.code, 0, "{report:#}");
    let bad = run(
        "millgate-edge",
        &["check", "--config", config.to_str().unwrap(), "--cloud", "http://127.0.0.1:1", "--output", "json"],
    );
    assert_eq!(bad.code, 1);
    let report: serde_json::Value = serde_json::from_str(&bad.stdout).unwrap();
    let failed: Vec<&serde_json::Value> =
        report["items"].as_array().unwrap().iter().filter(|item| item["advice"].is_string()).collect();
    assert!(failed.iter().any(|item| item["name"].as_str().unwrap().contains("pool")), "{report:#}");
}

#[test]
fn half_a_second_is_enough_to_hear_of_a_stop_while_nothing_happens() {
    let mut line = Line::new();
    line.start();
    let started = Instant::now();
    assert_eq!(line.signal(rustix::process::Signal::TERM).code(), Some(0));
    assert!(started.elapsed() < PATIENCE.min(Duration::from_secs(10)));
    assert!(Path::new(&line.path("state")).exists());
}

#[test]
fn signals_that_mean_no_stop_end_nothing() {
    use rustix::process::Signal;
    let samples = recorded_of("xsdd", 2);
    let mut line = Line::new();
    line.start();
    for (at, signal) in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::ALARM, Signal::PIPE, Signal::XFSZ]
        .into_iter()
        .enumerate()
    {
        line.agent.as_ref().unwrap().send(signal);
        line.drop_in(&format!("part_{at}.png"), &samples[at % 2]);
        line.wait_for(at + 1);
    }
    assert_eq!(line.signal(Signal::QUIT).code(), Some(0));
}

/// Whether the agent's notes say that a file of this name is in hand: a slot that was let go keeps its text, with a length
/// of 0.
fn is_in_hand(line: &Line, name: &str) -> bool {
    let notes = std::fs::read(line.path("state/in_hand")).unwrap_or_default();
    let mut slots = notes.chunks(2048);
    slots.any(|slot| {
        let Some((length, rest)) = slot.split_first_chunk() else { return false };
        let text = &rest[4.min(rest.len())..];
        let text = &text[..text.len().min(u32::from_le_bytes(*length) as usize)];
        text.windows(name.len()).any(|part| part == name.as_bytes())
    })
}

/// Kills the agent while it has a file in hand, as a decoder that crashes does. True if it did, false if `is_over` came
/// first. The agent is stopped before its notes are read for good: it might let go of the file before the signal comes.
fn kill_over(line: &Line, name: &str, is_over: impl Fn() -> bool) -> bool {
    use rustix::process::{Signal, kill_process};
    let pid = line.agent.as_ref().unwrap().pid();
    let begun = Instant::now();
    loop {
        if is_in_hand(line, name) {
            kill_process(pid, Signal::STOP).unwrap();
            until("it has stopped", || is_stopped(pid));
            if is_in_hand(line, name) {
                kill_process(pid, Signal::KILL).unwrap();
                return true;
            }
            kill_process(pid, Signal::CONT).unwrap();
        }
        if is_over() {
            return false;
        }
        assert!(begun.elapsed() < PATIENCE, "neither");
        std::thread::yield_now();
    }
}

/// Whether the kernel has stopped every thread of a process.
fn is_stopped(pid: rustix::process::Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    threads.flatten().all(|thread| {
        // A thread may have ended since it was listed.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('T'))
    })
}

/// A picture whose decoding takes long enough to be caught at it.
fn drop_in_large(line: &Line, name: &str, sample: &Recorded) {
    let picture = image::open(&sample.path).unwrap();
    let large = picture.resize_exact(4000, 4000, image::imageops::FilterType::Nearest);
    let made = line.path("large.png");
    large.save(&made).unwrap();
    std::fs::rename(made, line.path("in").join(name)).unwrap();
}

#[test]
fn a_picture_that_ends_the_agent_comes_last_and_then_aside_with_a_record() {
    let samples = recorded_of("xsdd", 6);
    let mut line = Line::new();
    // The oldest, so that it would come first.
    drop_in_large(&line, "bad.png", &samples[0]);
    for (at, sample) in samples.iter().enumerate().skip(1) {
        line.drop_in(&format!("good_{at}.png"), sample);
    }
    let mut deaths = 0;
    loop {
        line.start();
        if !kill_over(&line, "bad.png", || line.decided().len() == samples.len()) {
            break;
        }
        deaths += 1;
        line.signal(rustix::process::Signal::KILL);
        // Those that were in hand with it are suspects too, but only once: from then on it has the hand for itself. How far
        // their records have come by then is the disk's affair.
        if deaths > 2 {
            assert!(!is_in_hand(&line, "good_"), "all others have left the hand before it is tried again");
        }
    }
    assert_eq!(deaths, 3);
    assert_eq!(line.signal(rustix::process::Signal::TERM).code(), Some(0));
    let text = std::fs::read_to_string(line.path("decisions.jsonl")).unwrap();
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors: Vec<&serde_json::Value> =
        records.iter().filter(|record| record["error"].is_object()).collect();
    assert_eq!((records.len(), errors.len()), (samples.len(), 1));
    assert_eq!(errors[0]["error"]["code"], "crashed");
    assert!(errors[0]["path"].as_str().unwrap().ends_with("bad.png"));
    assert!(errors[0]["error"]["message"].as_str().unwrap().contains("died 3 times"), "{}", errors[0]);

    // It is left alone until it changes.
    line.start();
    line.drop_in("next.png", &samples[1]);
    line.wait_for(samples.len() + 1);
    std::fs::remove_file(line.path("in/bad.png")).unwrap();
    line.drop_in("bad.png", &samples[2]);
    until("the new one is decided", || line.decided().values().any(|ids| ids.len() == 2));
}
