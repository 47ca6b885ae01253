//! Provisional decisions are amended, every one of them exactly once, whatever is cut, killed or full in between.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millgate_cloud::server::Running;
use millgate_demo::link::Link;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::shutdown::Tasks;
use serde_json::Value;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::faults::receiver::Receiver;
use system_tests::faults::volume::Volume;
use system_tests::{PATIENCE, Ran, Recorded, part, pool, recorded_of, run, skip};

/// Between two looks at the records: the agent needs the processor too.
const LOOK: Duration = Duration::from_millis(10);

/// An agent in a process of its own, with a folder, a file of records and a webhook, whose line to the pool is cut at
/// will.
struct Device {
    dir: tempfile::TempDir,
    agent: Option<EdgeProcess>,
    link: Link,
    tasks: Tasks,
    receiver: Receiver,
    put: usize,
    samples: Vec<Recorded>,
}

impl Device {
    async fn new(pool: &Running, more: &str) -> Self {
        let tasks = Tasks::new();
        let link = Link::start(pool.grpc_addr(), &tasks).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "state"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let receiver = Receiver::start(Ipv4Addr::LOCALHOST).unwrap();
        let samples = recorded_of("deeppcb", 8);
        let this = Self { dir, agent: None, link, tasks, receiver, put: 0, samples };
        this.configure(more);
        this
    }

    fn configure(&self, more: &str) {
        let offload =
            format!("cloud = \"http://{}\"\nmode = \"always\"\ndeadline = \"300ms\"", self.link.addr());
        let webhook = format!("[[sinks]]\ntype = \"webhook\"\nurl = \"{}\"\n{more}", self.receiver.url());
        EdgeToml::new(self.dir.path())
            .offload(offload)
            .sink("rotate_bytes = 40000\nkeep = 100")
            .more(webhook)
            .write();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it and waits until it says that it is ready.
    fn start(&mut self) {
        self.agent = Some(EdgeProcess::start(&self.path("edge.toml")));
    }

    fn agent(&self) -> &EdgeProcess {
        self.agent.as_ref().unwrap()
    }

    fn signal(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        self.agent.take().unwrap().signal(signal)
    }

    fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn drop_in(&mut self, count: usize) {
        for _ in 0..count {
            let sample = &self.samples[self.put % self.samples.len()];
            // Whole at once, as a camera that renames.
            let hidden = self.path("in").join(".part");
            std::fs::copy(&sample.path, &hidden).unwrap();
            std::fs::rename(hidden, self.path("in").join(format!("part_{:04}.png", self.put))).unwrap();
            self.put += 1;
        }
    }

    /// Lines of all files, oldest first; a torn last line is not counted.
    fn lines(&self) -> Vec<String> {
        let mut names: Vec<PathBuf> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("decisions.jsonl"))
            .collect();
        let number = |path: &Path| path.extension().and_then(|end| end.to_str()?.parse::<u32>().ok());
        names.sort_by_key(|path| std::cmp::Reverse(number(path).unwrap_or(0)));
        let mut lines = Vec::new();
        for name in names {
            let text = std::fs::read_to_string(name).unwrap_or_default();
            let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
            lines.extend(whole.lines().map(str::to_owned));
        }
        lines
    }

    fn tally(&self) -> Tally {
        Tally::of(self.lines().iter().map(String::as_str))
    }

    async fn until(&self, what: &str, is_met: impl Fn(&Tally) -> bool) -> Tally {
        let until = Instant::now() + PATIENCE;
        loop {
            let tally = self.tally();
            if is_met(&tally) {
                return tally;
            }
            assert!(Instant::now() < until, "never: {what}; {tally:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Every sample has been decided, and each that was provisional has been amended; every sink has each of them once.
    async fn assert_all_amended(&self) -> Tally {
        let count = self.put;
        let tally = self
            .until("all amended", |tally| {
                tally.of_version(1) == count && tally.provisional() == tally.of_version(2)
            })
            .await;
        tally.assert_once();
        let until = Instant::now() + PATIENCE;
        while self.receiver.kept().bodies.len() < tally.seen.len() {
            let has = self.receiver.kept().bodies.len();
            assert!(Instant::now() < until, "the webhook has {has} of {}", tally.seen.len());
            tokio::time::sleep(LOOK).await;
        }
        // What was sent again was the same, byte for byte.
        assert_eq!(self.receiver.kept().wrong, Vec::<String>::new());
        tally
    }

    /// One decision over gRPC.
    async fn call(&self) -> v1::Decision {
        let url = format!("http://{}", self.agent().grpc.unwrap());
        let mut client = InferenceServiceClient::connect(url).await.unwrap();
        let part = part("image", std::fs::read(&self.samples[0].path).unwrap());
        let sample = v1::Sample { parts: vec![part], ..Default::default() };
        let request = v1::DecideRequest { sample: Some(sample), ..Default::default() };
        client.decide(request).await.unwrap().into_inner().decision.unwrap()
    }

    fn queue(&self, args: &[&str]) -> Ran {
        let config = self.path("edge.toml");
        run("millgate-edge", &[&["queue", "--config", config.to_str().unwrap()], args].concat())
    }

    fn status(&self) -> Value {
        let ran = self.queue(&["--output", "json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// What stands in the records.
#[derive(Debug, Default)]
struct Tally {
    /// By id and version: states, once a line.
    seen: BTreeMap<(String, u64), Vec<String>>,
    /// Decisions that say that they will be amended.
    spooled: usize,
    /// First decisions on files, not on calls.
    files: usize,
}

impl Tally {
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut this = Self::default();
        for line in lines {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            let id = record["id"].as_str().unwrap().to_owned();
            let version = record["version"].as_u64().unwrap();
            let state = record["state"].as_str().unwrap().to_owned();
            assert_eq!(version == 2, state == "amended", "{line}");
            assert_eq!(record["historical"].is_object(), state == "amended", "{line}");
            this.files += usize::from(version == 1 && record["sample"]["path"] != "");
            if state == "provisional" {
                let later = &record["degraded"]["later"];
                let is_call = record["sample"]["path"] == "";
                assert!(later == "spooled" || is_call && later == "disk", "{line}");
                this.spooled += usize::from(later == "spooled");
            }
            this.seen.entry((id, version)).or_default().push(state);
        }
        this
    }

    fn of_version(&self, version: u64) -> usize {
        self.seen.keys().filter(|(_, of)| *of == version).count()
    }

    fn provisional(&self) -> usize {
        self.seen.values().filter(|states| states[0] == "provisional").count()
    }

    fn assert_once(&self) {
        for (key, states) in &self.seen {
            assert_eq!(states.len(), 1, "{key:?} is doubled: {states:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_decided_while_the_line_is_cut_is_amended_once_it_is_back() {
    let pool = pool().await;
    let mut device = Device::new(&pool, "").await;
    device.link.cut_hard();
    device.start();
    device.drop_in(12);
    device.until("provisional", |tally| tally.provisional() == 12).await;
    let status = device.status();
    assert_eq!((&status["entries"], &status["running"]), (&12.into(), &true.into()), "{status}");
    assert!(status["oldest_seconds"].as_f64().unwrap() > 0.0);
    assert!(status["write_amplification"].as_f64().unwrap() < 1.1, "{status}");
    device.link.restore();
    let tally = device.assert_all_amended().await;
    assert_eq!(tally.of_version(2), 12);
    let amended = device.lines().into_iter().find(|line| line.contains("\"amended\"")).unwrap();
    let amended: Value = serde_json::from_str(&amended).unwrap();
    let is_cloud = |expert: &Value| expert["where"].as_str().unwrap().starts_with("cloud:");
    assert!(amended["experts"].as_array().unwrap().iter().any(is_cloud), "{amended:#}");
    assert_eq!(amended["degraded"], Value::Null);
    assert_eq!(amended["historical"]["replaces"], 1);
    assert_eq!(device.signal(rustix::process::Signal::TERM).code(), Some(0));
    let status = device.status();
    assert_eq!(
        (&status["entries"], &status["bytes"], &status["running"]),
        (&0.into(), &0.into(), &false.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_points_loses_and_doubles_nothing() {
    let mut pool = Some(pool().await);
    let address = pool.as_ref().unwrap().grpc_addr();
    let mut device = Device::new(pool.as_ref().unwrap(), "").await;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut below = |most: u64| random.u64(..most);
    for round in 0..10 {
        match below(3) {
            0 => device.link.cut_hard(),
            1 => device.link.cut(),
            _ => device.link.restore(),
        }
        device.start();
        device.drop_in(1 + below(6) as usize);
        // A point in time, not an event, is what is random here.
        tokio::time::sleep(Duration::from_millis(below(700))).await;
        if below(4) == 0 {
            device.link.restore();
            tokio::time::sleep(Duration::from_millis(below(300))).await;
        }
        device.kill();
        if round == 5 {
            // The other side, too.
            pool.take().unwrap().drain(Duration::ZERO).await;
            pool = Some(system_tests::pool_with(|config| config.grpc = address).await);
        }
    }
    device.link.restore();
    device.start();
    device.assert_all_amended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_and_flipped_bytes_cost_their_entry_and_no_other() {
    let pool = pool().await;
    let mut device = Device::new(&pool, "").await;
    device.link.cut_hard();
    device.start();
    device.drop_in(6);
    device.until("provisional", |tally| tally.provisional() == 6).await;
    device.kill();
    let spool = device.path("state/spool");
    let segment = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|end| end == "seg")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[200] ^= 0x40;
    // And a write that was cut off.
    let torn = bytes[..40].to_vec();
    bytes.extend(torn);
    std::fs::write(&segment, bytes).unwrap();
    device.start();
    let status = device.status();
    assert_eq!((&status["entries"], &status["quarantined"]), (&5.into(), &1.into()), "{status}");
    assert_eq!(status["closed"]["damaged"], 1);
    device.link.restore();
    let tally = device.until("five amended", |tally| tally.of_version(2) == 5).await;
    tally.assert_once();
    assert_eq!(tally.of_version(1), 6);
    assert_eq!(device.status()["quarantined"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_shown_exported_and_dropped_also_while_the_agent_runs() {
    let pool = pool().await;
    let mut device = Device::new(&pool, "").await;
    device.link.cut_hard();
    device.start();
    device.drop_in(4);
    device.until("provisional", |tally| tally.provisional() == 4).await;
    for is_running in [true, false] {
        let shown = device.queue(&["show", "--entries"]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        assert!(shown.stdout.contains("await"), "{}", shown.stdout);
        let status: Value =
            serde_json::from_str(&device.queue(&["show", "--entries", "--output", "json"]).stdout).unwrap();
        assert_eq!(status["running"], is_running);
        let list = status["list"].as_array().unwrap();
        let id = list[0]["id"].as_str().unwrap().to_owned();
        let dir = device.path(&format!("export-{is_running}"));
        let exported = device.queue(&["export", dir.to_str().unwrap()]);
        assert_eq!(exported.code, 0, "{}", exported.stderr);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), list.len());
        let record = std::fs::read_to_string(dir.join(&id).join("record.json")).unwrap();
        assert!(device.lines().contains(&record.trim_end().to_owned()), "byte for byte");
        assert!(dir.join(&id).join("request-0.pb").metadata().unwrap().len() > 0);
        let dropped = device.queue(&["drop", "--id", &id, "--output", "json"]);
        assert_eq!(dropped.stdout.trim(), r#"{"dropped":1}"#, "{}", dropped.stderr);
        assert_eq!(device.status()["entries"], list.len() - 1);
        if is_running {
            device.kill();
        }
    }
    assert_eq!(device.queue(&["drop"]).code, 2);
    device.start();
    assert_eq!(device.status()["entries"], 2);
    assert_eq!(device.queue(&["drop", "--all"]).stdout.trim(), "2 dropped");
    assert_eq!(device.status()["entries"], 0);
    device.kill();
    device.start();
    assert_eq!(device.status()["entries"], 0);
    // Nobody else may ask.
    let door: Value =
        serde_json::from_str(&std::fs::read_to_string(device.path("state/admin.json")).unwrap()).unwrap();
    assert_eq!(door["addr"].as_str().unwrap(), device.agent().admin.unwrap().to_string());
    assert!(device.agent().http("GET", "/queue", "").starts_with("HTTP/1.1 401"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_call_and_loses_no_file() {
    let pool = pool().await;
    let mut device = Device::new(&pool, "").await;
    let Some(disk) = Volume::mount(&device.path("state"), 8 << 20) else {
        return skip("no tmpfs can be mounted here");
    };
    device.link.cut_hard();
    device.start();
    device.drop_in(3);
    device.until("provisional", |tally| tally.provisional() == 3).await;
    // A caller has its answer, which says whether there will be an amendment: the last blocks may have room for some.
    let refused = |device: &Device| device.agent().metric("millgate_spool_refused_disk_total");
    let mut calls = 0;
    while refused(&device) == 0.0 {
        disk.fill().unwrap();
        let later = device.call().await.degraded.unwrap().later;
        assert!((later == "disk" || later == "spooled") && calls < 100, "{later}");
        calls += 1;
    }
    let before = refused(&device);
    device.drop_in(6);
    until("a file finds the disk full", || refused(&device) > before);
    assert!(device.tally().files < 9, "files wait");
    disk.empty().unwrap();
    // With the calls' own records, which had to wait for the journal.
    let tally = device.until("all decided", |tally| tally.of_version(1) == 9 + calls).await;
    tally.assert_once();
    assert!(tally.spooled >= 9, "each file waited until there was room for its sample: {}", tally.spooled);
    device.link.restore();
    device.until("amended", |tally| tally.of_version(2) == tally.spooled).await.assert_once();
    device.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisional_answer_to_a_call_is_amended_in_the_sinks_also_after_a_kill() {
    let pool = pool().await;
    let mut device = Device::new(&pool, "").await;
    device.link.cut_hard();
    device.start();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let decision = device.call().await;
        assert_eq!(decision.degraded.unwrap().later, "spooled");
        ids.push(decision.id);
    }
    // At once: its record may not be in the journal yet.
    device.kill();
    device.start();
    device.link.restore();
    let tally = device.until("all amended", |tally| tally.of_version(2) == 3).await;
    tally.assert_once();
    assert!(ids.iter().all(|id| tally.seen.contains_key(&(id.clone(), 1))));
    assert_eq!(tally.spooled, 3, "the records say the same");
}
