//! An agent that changes its bundle while it runs: under load with amendments queued, killed at any moment, on a full disk,
//! and refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use millgate_demo::link::Link;
use millgate_shared::shutdown::Tasks;
use rustix::process::Signal;
use serde_json::Value;
use system_tests::broken::Copy;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::faults::volume::Volume;
use system_tests::{Ran, binary, recorded_of, run, skip};

use super::pool::{digest, switch_to, switchable, version};

/// Switches of the long run.
const SWITCHES: usize = 50;
/// What a switch may leave behind in memory, and what an agent may grow by while it works, MiB.
const GROWTH: f64 = 48.0;

/// An agent's directory, and what it decided.
struct Device {
    dir: tempfile::TempDir,
    put: usize,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "state"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self { dir, put: 0 }
    }

    fn configure(&self, bundle: &Path, offload: &str) -> PathBuf {
        EdgeToml::new(self.dir.path()).bundle(bundle).offload(offload).write()
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("edge.toml")
    }

    fn start(&self) -> EdgeProcess {
        EdgeProcess::start(&self.config())
    }

    fn drop_in(&mut self, count: usize) {
        let samples = recorded_of("deeppcb", 8);
        for _ in 0..count {
            let sample = &samples[self.put % samples.len()];
            // Whole at once, as a camera that renames.
            let folder = self.dir.path().join("in");
            std::fs::copy(&sample.path, folder.join(".part")).unwrap();
            std::fs::rename(folder.join(".part"), folder.join(format!("part_{:04}.png", self.put))).unwrap();
            self.put += 1;
        }
    }

    fn bundle(&self, args: &[&str]) -> Ran {
        let config = self.config();
        run("millgate-edge", &[&["bundle"], args, &["--config", config.to_str().unwrap()]].concat())
    }

    fn status(&self) -> Value {
        let ran = self.bundle(&["status", "--output", "json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    fn active(&self) -> String {
        self.status()["active"]["digest"].as_str().unwrap().to_owned()
    }

    /// By id and version; a torn last line is not counted. Panics where one is there twice and differs.
    fn records(&self) -> BTreeMap<(String, u64), Value> {
        let text = std::fs::read_to_string(self.dir.path().join("decisions.jsonl")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let mut records = BTreeMap::new();
        for line in whole.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let key = (record["id"].as_str().unwrap().to_owned(), record["version"].as_u64().unwrap());
            // What is delivered again after a kill is the same, byte for byte.
            if let Some(before) = records.insert(key, record.clone()) {
                assert_eq!(before, record, "doubled");
            }
        }
        records
    }

    fn decided(&self) -> usize {
        self.records().keys().filter(|(_, version)| *version == 1).count()
    }

    fn until_all_decided(&self) {
        until("every file is decided", || self.decided() == self.put);
    }

    /// Every file has one decision, each provisional one one amendment, of the bundle that it was decided with. Without a
    /// pool nobody amends.
    fn assert_whole(&self, bundles: &[&Copy]) {
        let has_pool = std::fs::read_to_string(self.config()).unwrap().contains("cloud =");
        let amended = |records: &BTreeMap<(String, u64), Value>| {
            let provisional = records.values().filter(|record| record["state"] == "provisional");
            let wanted = if has_pool { provisional.count() } else { 0 };
            wanted == records.keys().filter(|(_, version)| *version == 2).count()
        };
        until("every file is decided, and what was provisional is amended", || {
            self.decided() == self.put && amended(&self.records())
        });
        let records = self.records();
        let named = |record: &Value| {
            let of = |key: &str| record["bundle"][key].as_str().unwrap().to_owned();
            (of("digest"), of("version"))
        };
        let known: BTreeMap<String, String> = bundles
            .iter()
            .map(|bundle| {
                let opened = millgate_shared::bundle::Bundle::open(bundle.path()).unwrap();
                (opened.digest().to_string(), opened.manifest().version.clone())
            })
            .collect();
        for ((id, at), record) in &records {
            let (digest, version) = named(record);
            assert_eq!(known.get(&digest), Some(&version), "{record}");
            if *at == 2 {
                let first = &records[&(id.clone(), 1)];
                assert_eq!(named(first), (digest, version), "amended by another bundle: {record}");
                assert_eq!(record["degraded"], Value::Null, "{record}");
            }
        }
    }
}

/// Resident memory of a process, MiB.
fn resident(agent: &EdgeProcess) -> f64 {
    let pid = agent.pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_switches_with_amendments_queued_lose_and_mix_nothing() {
    let (old, new) = (version("2.0.1"), version("2.0.2"));
    let pool_state = tempfile::tempdir().unwrap();
    let pool = switchable(&new, pool_state.path(), 600_000).await;
    // It answers for both from now on.
    switch_to(pool_state.path(), old.path()).await.unwrap();
    let tasks = Tasks::new();
    let link = Link::start(pool.grpc_addr(), &tasks).await.unwrap();
    let mut device = Device::new();
    let offload = format!("cloud = \"http://{}\"\nmode = \"always\"\ndeadline = \"300ms\"", link.addr());
    device.configure(old.path(), &offload);
    let agent = device.start();
    let mut early = 0.0;
    for turn in 0..SWITCHES {
        // The line is away for three switches of five, so that entries of both bundles wait.
        match turn % 5 {
            1 => link.cut_hard(),
            4 => link.restore(),
            _ => {}
        }
        device.drop_in(3);
        let target = if turn % 2 == 0 { &new } else { &old };
        let done = match turn % 4 {
            3 => device.bundle(&["rollback"]),
            _ => device.bundle(&["switch", target.text_path()]),
        };
        assert_eq!(done.code, 0, "{turn}: {done:?}");
        assert!(done.stdout.contains(&digest(target)), "{turn}: {done:?}");
        if turn == SWITCHES / 5 {
            early = resident(&agent);
        }
    }
    link.restore();
    device.assert_whole(&[&old, &new]);
    let provisional = device.records().values().filter(|record| record["state"] == "provisional").count();
    assert!(provisional > SWITCHES / 4, "{provisional} amendments");
    let late = resident(&agent);
    assert!(late < early + GROWTH, "{early} MiB after {} switches, {late} after {SWITCHES}", SWITCHES / 5);
    let switched = agent.metric("millgate_bundle_switches_total{result=\"switched\"}");
    assert_eq!(switched, SWITCHES as f64);
    tasks.stop();
}

#[test]
fn a_kill_at_any_moment_of_a_switch_leaves_the_old_bundle_or_the_new_one() {
    let (old, new) = (version("2.1.1"), version("2.1.2"));
    let mut device = Device::new();
    let config = device.configure(old.path(), "");
    for wait in [0, 5, 15, 30, 60, 120, 250, 500, 1000, 2000] {
        let agent = device.start();
        let before = device.active();
        let target = if before == digest(&old) { &new } else { &old };
        device.drop_in(2);
        let switching = Command::new(binary("millgate-edge"))
            .args(["bundle", "switch", target.text_path(), "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_millis(wait));
        agent.kill();
        let reported = switching.unwrap().wait().unwrap().success();
        let after = device.active();
        assert!(after == digest(&old) || after == digest(&new), "{after}");
        assert!(!reported || after == digest(target), "what was reported as switched is");
    }
    let agent = device.start();
    device.until_all_decided();
    device.assert_whole(&[&old, &new]);
    let store = device.dir.path().join("state/bundles");
    let names = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.count() <= 3, "two bundles and the record");
    agent.kill();
}

#[test]
fn what_fails_its_checks_changes_nothing_and_is_named() {
    let old = version("2.2.1");
    let mut device = Device::new();
    device.configure(old.path(), "");
    let path = old.text_path();
    let nobody = device.bundle(&["switch", path]);
    assert!(nobody.code == 1 && nobody.stderr.contains("no agent runs"), "{nobody:?}");

    let agent = device.start();
    let damaged = version("2.2.2").tampered("gate/1/model.onnx", |bytes| bytes.truncate(100));
    let other_task = version("2.2.3").manifest("name = \"inspect\"", "name = \"look\"");
    let cases = [
        (damaged.text_path(), "gate/1/model.onnx"),
        ("/nowhere", "/nowhere"),
        (other_task.text_path(), "inspect"),
    ];
    for (path, word) in cases {
        device.drop_in(1);
        let refused = device.bundle(&["switch", path]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
    let nothing = device.bundle(&["rollback"]);
    assert!(nothing.code == 1 && nothing.stderr.contains("no bundle to go back to"), "{nothing:?}");
    let same = device.bundle(&["switch", old.text_path()]);
    assert!(same.code == 0 && same.stdout.contains("already active"), "{same:?}");
    device.until_all_decided();
    device.assert_whole(&[&old]);
    assert_eq!(agent.metric("millgate_bundle_switches_total{result=\"refused\"}"), 3.0);
    let active =
        format!("millgate_bundle_info{{digest=\"{}\",version=\"2.2.1\",state=\"active\"}}", digest(&old));
    assert_eq!(agent.metric(&active), 1.0);
}

#[test]
fn a_switch_holds_until_another_bundle_is_configured() {
    let (old, new) = (version("2.3.1"), version("2.3.2"));
    let device = Device::new();
    device.configure(old.path(), "");
    let agent = device.start();
    assert_eq!(device.bundle(&["switch", new.text_path()]).code, 0);
    assert_eq!(agent.signal(Signal::TERM).code(), Some(0));
    // The path that was switched to is not needed any more, nor is the configured one.
    let gone = digest(&new);
    drop(new);
    let agent = device.start();
    assert_eq!(device.active(), gone);
    agent.send(Signal::HUP);

    // Another bundle lies at the configured path.
    let text = std::fs::read_to_string(old.file("bundle.toml")).unwrap().replacen("2.3.1", "2.3.3", 1);
    std::fs::write(old.file("bundle.toml"), text).unwrap();
    agent.send(Signal::HUP);
    until("the configuration is followed", || device.status()["active"]["version"] == "2.3.3");
    agent.kill();

    // One that does not run can be told to go back, and does so at its start.
    let back = device.bundle(&["rollback"]);
    assert!(back.code == 0 && back.stdout.contains(&gone), "{back:?}");
    let agent = device.start();
    assert_eq!(device.active(), gone);
    agent.kill();

    // A configured bundle that is no good leaves what there is.
    std::fs::write(old.file("bundle.toml"), "format = 0\n").unwrap();
    let agent = device.start();
    assert_eq!(device.active(), gone);
    assert_eq!(device.bundle(&["rollback"]).code, 0);
    assert_eq!(device.status()["active"]["version"], "2.3.3");
    agent.kill();
}

#[test]
fn a_full_disk_leaves_the_old_bundle_and_a_named_error() {
    let (old, new) = (version("2.4.1"), version("2.4.2"));
    let mut device = Device::new();
    device.configure(old.path(), "");
    let Some(volume) = Volume::mount(&device.dir.path().join("state"), 64 << 20) else {
        return skip("nothing can be mounted");
    };
    let agent = device.start();
    volume.fill().unwrap();
    let refused = device.bundle(&["switch", new.text_path()]);
    assert!(refused.code == 1 && refused.stderr.contains("bundles"), "{refused:?}");
    assert_eq!(device.active(), digest(&old));
    volume.empty().unwrap();
    let done = device.bundle(&["switch", new.text_path()]);
    assert_eq!(done.code, 0, "{done:?}");
    device.drop_in(3);
    device.until_all_decided();
    device.assert_whole(&[&new]);
    agent.kill();
}
