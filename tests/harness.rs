//! What the system tests share: the shipped bundle and samples, pools and agents on free ports, the real binaries, and
//! bundles that are broken on purpose.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::time::Duration;

use millgate_cloud::config::CloudConfig;
use millgate_cloud::server::{Running, Server};
use millgate_edge::agent::{Agent, AgentConfig, Ask, BytesConfig};
use millgate_edge::input::{Input, Naming};
use millgate_edge::uplink::Pools;
use millgate_shared::bundle::Bundle;
use millgate_shared::deciding::Mode;
use millgate_shared::decision::Decision;
use millgate_shared::part::Part;
use millgate_shared::proto::v1;
use millgate_shared::shutdown::Tasks;
use millgate_shared::wire::write_part;

pub mod asking;
pub mod broken;
pub mod cloud_process;
pub mod edge_process;
pub mod enrolled;
pub mod faults;
pub mod features;
pub mod flooding;
pub mod line;
pub mod onnx;
pub mod python;
pub mod recorder;
pub mod tensors;
pub mod tinted;

/// Long enough for a loaded machine; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_path_buf()
}

/// The bundle that ships with the project.
pub fn bundle() -> PathBuf {
    root().join("models/factory")
}

/// A recorded picture of the demo and its label.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub path: PathBuf,
    pub label: String,
}

/// The demo's recorded pictures, in the order of their list.
pub fn recorded() -> Vec<Recorded> {
    let dir = root().join("deploy/demo/samples");
    let list = std::fs::read_to_string(dir.join("labels.jsonl")).expect("the samples are committed");
    let read = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let text = |key: &str| entry[key].as_str().expect("path and label are text").to_owned();
        Recorded { path: dir.join(text("path")), label: text("label") }
    };
    list.lines().map(read).collect()
}

/// The first `count` recorded pictures of a product.
pub fn recorded_of(product: &str, count: usize) -> Vec<Recorded> {
    let of_product = |sample: &Recorded| sample.label.starts_with(&format!("{product}/"));
    let found: Vec<Recorded> = recorded().into_iter().filter(of_product).take(count).collect();
    assert_eq!(found.len(), count, "too few samples of {product}");
    found
}

/// How the shipped bundle's files are named.
pub fn naming() -> &'static Naming {
    static NAMING: OnceLock<Naming> = OnceLock::new();
    NAMING.get_or_init(|| Naming::of(Bundle::open(&bundle()).expect("the shipped bundle").manifest()))
}

pub fn input(path: &Path) -> Input {
    Input::from_file(path, naming(), &[], None).expect("a readable picture")
}

/// A recorded picture and its template, as they lie on the disk.
pub fn parts(path: &Path) -> Vec<v1::Part> {
    input(path).parts.into_iter().map(write_part).collect()
}

/// A file's bytes as a part.
pub fn part(modality: &str, data: Vec<u8>) -> v1::Part {
    write_part(Part::file(modality, data))
}

/// A pool on free ports.
pub async fn pool() -> Running {
    pool_with(|_| {}).await
}

pub async fn pool_with(change: impl FnOnce(&mut CloudConfig)) -> Running {
    static BRIEF: Once = Once::new();
    BRIEF.call_once(millgate_shared::panics::report_briefly);
    let mut config = CloudConfig {
        bundle: bundle(),
        grpc: ([127, 0, 0, 1], 0).into(),
        http: ([127, 0, 0, 1], 0).into(),
        metrics: ([127, 0, 0, 1], 0).into(),
        ..CloudConfig::default()
    };
    change(&mut config);
    Server::start(config).await.expect("the pool starts")
}

/// The pool's address, as an agent wants it.
pub fn url(pool: &Running) -> String {
    format!("http://{}", pool.grpc_addr())
}

/// An agent and the tasks that it lives on.
#[derive(Debug)]
pub struct TestAgent {
    pub agent: Agent,
    pub tasks: Tasks,
}

impl TestAgent {
    pub async fn decide(&self, path: &Path) -> Decision {
        self.agent.decide(input(path), Ask::default()).await.expect("a decision")
    }
}

pub async fn agent(cloud: Option<String>, mode: Mode) -> TestAgent {
    agent_with(cloud, |config| config.mode = mode).await
}

/// Starts an agent with pools in any shape.
pub async fn agent_of(pools: Pools, change: impl FnOnce(&mut AgentConfig)) -> TestAgent {
    agent_with(None, |config| {
        config.cloud = Some(pools);
        change(config);
    })
    .await
}

pub async fn agent_with(cloud: Option<String>, change: impl FnOnce(&mut AgentConfig)) -> TestAgent {
    let mut config = AgentConfig {
        bundle: bundle(),
        cloud: cloud.map(Into::into),
        task: "inspect".to_owned(),
        mode: Mode::Confidence,
        risk: None,
        deadline: PATIENCE,
        grace: Duration::from_millis(10),
        threads: 1,
        queue: 64,
        bytes: BytesConfig::default(),
        bit_depths: BTreeMap::new(),
        wishes: Default::default(),
        engine: millgate_edge::engines::usual(),
    };
    change(&mut config);
    let tasks = Tasks::new();
    let agent = Agent::start(config, &tasks).expect("the agent starts");
    agent.link_settled(PATIENCE).await;
    TestAgent { agent, tasks }
}

/// A real binary of the workspace, built with the profile of the tests.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its path");
        let profile = test.ancestors().nth(2).expect("<target>/<profile>/deps/<test>").to_path_buf();
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut build = Command::new(cargo);
        // As `cargo test --workspace` does, so that features unify alike and next to nothing is compiled again.
        build.args(["build", "--locked", "--workspace", "--bins", "--examples"]);
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        build.current_dir(root()).env("CARGO_TARGET_DIR", profile.parent().expect("<target>"));
        assert!(build.status().expect("cargo runs").success(), "the binaries do not build");
        profile
    });
    dir.join(name)
}

/// Says, past the test's captured output, that something cannot be tested on this machine. With `MILLGATE_SKIP_NOTHING`
/// set, as where everything is known to be there, that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("MILLGATE_SKIP_NOTHING").is_none(), "cannot be tested here: {why}");
    let said =
        std::io::Write::write_all(&mut std::io::stdout().lock(), format!("skipped: {why}\n").as_bytes());
    said.expect("standard output");
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Each line of standard output as JSON.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }
}

/// Runs a binary to its end, from the repository's root.
pub fn run(name: &str, args: &[&str]) -> Ran {
    let output =
        Command::new(binary(name)).args(args).current_dir(root()).output().expect("the binary starts");
    Ran {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
