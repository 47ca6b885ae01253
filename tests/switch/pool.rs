//! A pool that changes its bundle while it runs: under load, back again, killed at every step, and refused.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millgate_cloud::command::bundle::{rollback, status, switch};
use millgate_cloud::command::identity::StateArgs;
use millgate_cloud::command::{CommandError, Output};
use millgate_cloud::config::CloudConfig;
use millgate_cloud::server::{Running, Server};
use millgate_shared::bundle::Bundle;
use millgate_shared::deciding::Mode;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{ModelInferRequest, ModelInferResponse};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use system_tests::broken::Copy;
use system_tests::{PATIENCE, agent_with, binary, recorded_of, run, url};
use tonic::transport::Channel;

type Client = GrpcInferenceServiceClient<Channel>;

pub(super) fn version(version: &str) -> Copy {
    let text = std::fs::read_to_string(system_tests::bundle().join("bundle.toml")).unwrap();
    let own = text.lines().find(|line| line.starts_with("version = ")).unwrap();
    Copy::new().manifest(own, &format!("version = \"{version}\""))
}

pub(super) fn digest(bundle: &Copy) -> String {
    Bundle::digest_at(bundle.path()).unwrap().to_string()
}

/// A pool in this process, as `serve` starts one.
pub(super) async fn switchable(bundle: &Copy, state_dir: &Path, idle_ms: u64) -> Running {
    let any = "127.0.0.1:0".parse().unwrap();
    let config = CloudConfig {
        bundle: bundle.path().to_owned(),
        state_dir: state_dir.to_owned(),
        previous_bundle_idle_ms: idle_ms,
        threads: 2,
        queue: 4096,
        grpc: any,
        http: any,
        metrics: any,
        ..CloudConfig::default()
    };
    Server::start_switchable(config).await.unwrap()
}

/// What an operator's command does, off the async threads.
async fn command(
    state_dir: &Path,
    tell: impl FnOnce(&StateArgs, &mut Vec<u8>) -> Result<(), CommandError> + Send + 'static,
) -> Result<Value, CommandError> {
    let state = StateArgs { config: None, state_dir: Some(state_dir.to_owned()) };
    let done = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        tell(&state, &mut out).map(|()| out)
    });
    Ok(serde_json::from_slice(&done.await.unwrap()?).unwrap())
}

pub(super) async fn switch_to(state_dir: &Path, path: &Path) -> Result<Value, CommandError> {
    let path = path.to_owned();
    command(state_dir, move |state, out| switch(&path, state, Output::Json, out)).await
}

async fn roll_back(state_dir: &Path) -> Result<Value, CommandError> {
    command(state_dir, |state, out| rollback(state, Output::Json, out)).await
}

async fn told(state_dir: &Path) -> Value {
    command(state_dir, |state, out| status(state, Output::Json, out)).await.unwrap()
}

/// One picture for the task as a model.
fn question(file: &[u8]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "image".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        ..Default::default()
    };
    let element = [&(file.len() as u32).to_le_bytes()[..], file].concat();
    ModelInferRequest {
        model_name: "inspect".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![element.into()],
        ..Default::default()
    }
}

/// The whole record of the decision in an answer.
fn decision(response: &ModelInferResponse) -> Value {
    let at = response.outputs.iter().position(|output| output.name == "decision").unwrap();
    serde_json::from_slice(&response.raw_output_contents[at][4..]).unwrap()
}

async fn listed(pool: &Running, bundle_digest: Vec<u8>) -> Result<v1::ListExpertsResponse, tonic::Status> {
    let mut client = ExpertServiceClient::connect(url(pool)).await.unwrap();
    let request = v1::ListExpertsRequest { bundle_digest: bundle_digest.into() };
    Ok(client.list_experts(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::disallowed_methods, reason = "what each caller has seen is looked at when it ends")]
async fn under_load_no_call_fails_and_no_decision_mixes_bundles() {
    let (old, new, third) = (version("1.0.1"), version("1.0.2"), version("1.0.3"));
    let digests: BTreeSet<String> = [&old, &new, &third].map(digest).into();
    let state = tempfile::tempdir().unwrap();
    let pool = switchable(&old, state.path(), 600_000).await;
    let before = Bundle::digest_at(old.path()).unwrap();
    let device = agent_with(Some(url(&pool)), |config| {
        config.bundle = old.path().to_owned();
        config.mode = Mode::Always;
    });
    let device = Arc::new(device.await);

    let [has_left, is_over] = [(); 2].map(|()| Arc::<AtomicBool>::default());
    let [answered, asked] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
    let picture = std::fs::read(&recorded_of("xsdd", 1)[0].path).unwrap();
    let clients = (0..6).map(|_| {
        let (is_over, answered, question) = (Arc::clone(&is_over), Arc::clone(&answered), question(&picture));
        let connecting = Client::connect(url(&pool));
        tokio::spawn(async move {
            let (mut client, mut seen) = (connecting.await.unwrap(), BTreeSet::new());
            while !is_over.load(Ordering::Relaxed) {
                let answer = client.model_infer(question.clone()).await.unwrap().into_inner();
                let decision = decision(&answer);
                assert_eq!(decision["degraded"], Value::Null, "{decision}");
                seen.insert(decision["bundle"]["digest"].as_str().unwrap().to_owned());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    // A device with the old bundle is answered by that one, whatever the pool has switched to.
    let calls = {
        let (device, has_left, asked) = (Arc::clone(&device), Arc::clone(&has_left), Arc::clone(&asked));
        let path = recorded_of("xsdd", 1)[0].path.clone();
        tokio::spawn(async move {
            while !has_left.load(Ordering::Relaxed) {
                let decision = device.decide(&path).await;
                assert!(decision.degraded.is_none(), "{decision:?}");
                assert!(
                    decision.experts.iter().any(|share| share.place.starts_with("cloud")),
                    "{decision:?}"
                );
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let more = |counter: &Arc<AtomicUsize>, count: usize| {
        let (counter, goal) = (Arc::clone(counter), counter.load(Ordering::Relaxed) + count);
        async move {
            let reached = async {
                while counter.load(Ordering::Relaxed) < goal {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(PATIENCE, reached).await.expect("calls are answered");
        }
    };

    // To and fro: the first is loaded under load, the others are there already.
    for turn in 0..50 {
        let done = match turn % 3 {
            0 => switch_to(state.path(), if turn % 2 == 0 { new.path() } else { old.path() }).await,
            _ => roll_back(state.path()).await,
        };
        assert!(done.unwrap()["active"]["name"].is_string());
        more(&answered, 6).await;
        more(&asked, 1).await;
    }
    let listing = listed(&pool, before.as_bytes().to_vec()).await.unwrap();
    assert_eq!((listing.bundle_version.as_str(), listing.bundles.len()), ("1.0.1", 2));

    // A third one ends the answers for the one that is neither active nor before; what has begun ends well.
    let active = told(state.path()).await["active"]["version"].clone();
    if active == "1.0.1" {
        roll_back(state.path()).await.unwrap();
    }
    has_left.store(true, Ordering::Relaxed);
    calls.await.unwrap();
    switch_to(state.path(), third.path()).await.unwrap();
    let refused = listed(&pool, before.as_bytes().to_vec()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(
        refused.message().contains(&digest(&third)) && refused.message().contains(&digest(&new)),
        "{refused}"
    );
    let listing = listed(&pool, Vec::new()).await.unwrap();
    assert_eq!(listing.bundles.iter().map(|it| it.version.as_str()).collect::<Vec<_>>(), ["1.0.3", "1.0.2"]);
    more(&answered, 12).await;
    is_over.store(true, Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    for client in clients {
        seen.extend(client.await.unwrap());
    }
    assert_eq!(seen, digests, "each decision is of one of the three");
}

/// `millgate-cloud serve` as a process of its own.
struct Process {
    child: Child,
    grpc: String,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(binary("millgate-cloud"));
        command.args(["--log-json", "serve", "--config"]).arg(config);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut fields = lines.by_ref().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let serving = fields.find(|line| line["fields"]["message"] == "serving").expect("it serves");
        let grpc = format!("http://{}", serving["fields"]["grpc"].as_str().unwrap());
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, grpc }
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// In MiB.
    fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// The digest that it answers with.
    async fn active(&self) -> String {
        let mut client = ExpertServiceClient::connect(self.grpc.clone()).await.unwrap();
        let listed = client.list_experts(v1::ListExpertsRequest::default()).await.unwrap().into_inner();
        format!(
            "sha256:{}",
            listed.bundle_digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        )
    }
}

/// A configuration in a folder of its own.
fn configuration(dir: &Path, bundle: &Path) -> PathBuf {
    let text = format!(
        "bundle = {bundle:?}\nstate_dir = \"{}/state\"\nprevious_bundle_idle_ms = 0\nthreads = 1\n\
         grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n",
        dir.display()
    );
    std::fs::write(dir.join("cloud.toml"), text).unwrap();
    dir.join("cloud.toml")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_leaves_the_old_bundle_or_the_new_one() {
    let (old, new) = (version("1.1.1"), version("1.1.2"));
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), old.path());
    let store = dir.path().join("state/bundles");
    let copy = store.join(digest(&new).trim_start_matches("sha256:"));
    let record = store.join("active.toml");
    let names_new = || std::fs::read_to_string(&record).is_ok_and(|text| text.contains(&digest(&new)));
    // The copy is begun, it is whole, the record names it.
    let steps: [(&str, &dyn Fn() -> bool); 3] = [
        ("a copy", &|| store.join(".new").exists() || copy.exists()),
        ("a whole copy", &|| copy.exists()),
        ("a record", &names_new),
    ];
    for (what, has_come) in steps {
        let pool = Process::start(&config);
        // A kill that came late has let the switch before happen.
        if pool.active().await != digest(&old) {
            roll_back(&dir.path().join("state")).await.unwrap();
        }
        let switching = Command::new(binary("millgate-cloud"))
            .args(["bundle", "switch"])
            .arg(new.path())
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        until(what, has_come);
        pool.kill();
        switching.unwrap().wait().unwrap();
        let expected = if names_new() { digest(&new) } else { digest(&old) };
        let pool = Process::start(&config);
        assert_eq!(pool.active().await, expected, "after {what}");
        let state = told(&dir.path().join("state")).await;
        assert_eq!(state["active"]["digest"], expected.as_str());
        assert!(!store.join(".new").exists());
        pool.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_signals_switch_a_process_and_its_memory_does_not_grow_on() {
    let (old, new, third) = (version("1.2.1"), version("1.2.2"), version("1.2.3"));
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), old.path());
    let text_path = config.to_str().unwrap();
    let pool = Process::start(&config);
    let begun = pool.resident();

    let damaged = version("1.2.4").tampered("gate/1/model.onnx", |bytes| bytes.truncate(100));
    let refused = run("millgate-cloud", &["bundle", "switch", damaged.text_path(), "--config", text_path]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("gate/1/model.onnx"), "{refused:?}");
    assert_eq!(pool.active().await, digest(&old));
    let nothing = run("millgate-cloud", &["bundle", "rollback", "--config", text_path]);
    assert!(nothing.code == 1 && nothing.stderr.contains("no bundle to go back to"), "{nothing:?}");

    let turn = [&new, &third, &old];
    let mut memory = Vec::new();
    for next in turn.into_iter().cycle().take(16) {
        let done = run("millgate-cloud", &["bundle", "switch", next.text_path(), "--config", text_path]);
        assert!(done.code == 0 && done.stdout.contains(&digest(next)), "{done:?}");
        assert_eq!(pool.active().await, digest(next));
        memory.push(pool.resident());
    }
    let state = dir.path().join("state");
    let is_let_go = async { while !told(&state).await["previous"]["idle_seconds"].is_null() {} };
    tokio::time::timeout(PATIENCE, is_let_go).await.expect("the bundle before is let go");
    let after = pool.resident();
    // The allocator keeps what the first switches took, for those that follow: bundles of before do not add up.
    assert!(after < memory[6] * 1.15 + 16.0, "{begun} MiB at first, {memory:?}, {after} at last");

    // The configured path holds another bundle now.
    let path = old.file("bundle.toml");
    let text = std::fs::read_to_string(&path).unwrap().replacen("1.2.1", "1.2.5", 1);
    std::fs::write(&path, text).unwrap();
    pool.send(Signal::HUP);
    let is_followed = async { while told(&state).await["active"]["version"] != "1.2.5" {} };
    tokio::time::timeout(PATIENCE, is_followed).await.expect("the configuration is followed");
    pool.kill();
    let silent = run("millgate-cloud", &["bundle", "switch", new.text_path(), "--config", text_path]);
    assert!(silent.code == 1 && silent.stderr.contains("no pool answers"), "{silent:?}");
    let undone = run("millgate-cloud", &["bundle", "rollback", "--config", text_path]);
    assert!(undone.code == 0 && undone.stdout.contains(&digest(&new)), "{undone:?}");
    let told = run("millgate-cloud", &["bundle", "status", "--config", text_path]);
    assert!(told.code == 0 && told.stdout.contains("not running"), "{told:?}");
    let pool = Process::start(&config);
    assert_eq!(pool.active().await, digest(&new));
    pool.kill();
}
