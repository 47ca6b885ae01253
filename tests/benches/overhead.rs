//! What agent and pool cost on top of the engine calls they contain, measured side by side in one run.
//!
//! `cargo bench -p system-tests --bench overhead` prints medians, spreads and ratios for `docs/benchmarks.md`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_edge::agent::Ask;
use millgate_shared::array::Array;
use millgate_shared::bundle::Bundle;
use millgate_shared::deciding::Mode;
use millgate_shared::engine::Tract;
use millgate_shared::index::ExpertIx;
use millgate_shared::inputs::{expert_inputs, value_input};
use millgate_shared::part::Limits;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::runner::{Holding, Models, Runner};
use millgate_shared::sample::{self, Sample};
use millgate_shared::wire::write_tensor;
use system_tests::{agent, binary, bundle, input, pool_with, recorded_of, run, url};

const ROUNDS: usize = 400;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut out = std::io::stdout().lock();
    let mut print = |line: String| writeln!(out, "{line}").expect("standard output");
    for product in ["deeppcb", "xsdd"] {
        print(runtime.block_on(decision(product)));
    }
    print(runtime.block_on(unary()));
    print(start());
    print(memory());
}

/// Median, 10th and 90th percentile, in microseconds.
struct Spread {
    p10: f64,
    p50: f64,
    p90: f64,
}

fn spread(mut times: Vec<Duration>) -> Spread {
    times.sort();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e6;
    Spread { p10: at(0.1), p50: at(0.5), p90: at(0.9) }
}

fn compare(what: &str, ours: Vec<Duration>, bare: Vec<Duration>) -> String {
    let added = ours.iter().zip(&bare).map(|(ours, bare)| ours.saturating_sub(*bare)).collect();
    let (ours, bare, added) = (spread(ours), spread(bare), spread(added));
    format!(
        "{what}: ours {:.0} us ({:.0}-{:.0}), bare engine {:.0} us ({:.0}-{:.0}), added {:.0} us, ratio {:.3}",
        ours.p50,
        ours.p10,
        ours.p90,
        bare.p50,
        bare.p10,
        bare.p90,
        added.p50,
        ours.p50 / bare.p50
    )
}

/// A whole local decision, from the file's bytes to the record, against encoder, gate and expert alone on tensors that are
/// ready.
async fn decision(product: &str) -> String {
    let agent = agent(None, Mode::Never).await;
    let models = Arc::clone(agent.agent.epoch().models());
    let mut runner = models.runner().expect("a runner");
    let samples = recorded_of(product, 50);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 20 {
        let input = input(&samples[round % samples.len()].path);
        let sample = sample(&models, &input);
        let experts: Vec<ExpertIx> = {
            let decided = agent.agent.decide(input.clone(), Ask::default()).await.expect("a decision");
            decided.experts.iter().filter_map(|expert| models.manifest().expert_index(&expert.name)).collect()
        };
        let started = Instant::now();
        agent.agent.decide(input, Ask::default()).await.expect("a decision");
        let our = started.elapsed();
        let engine = engine_calls(&mut runner, &sample, &experts);
        if round >= 20 {
            ours.push(our);
            bare.push(engine);
        }
    }
    compare(&format!("local decision, {product}"), ours, bare)
}

/// The engine's time for a decision's models; tensors are made before the clock starts.
fn engine_calls(runner: &mut Runner, sample: &Sample, experts: &[ExpertIx]) -> Duration {
    let started = Instant::now();
    let embeddings = runner.embeddings(sample).expect("embeddings");
    runner.scores(sample, &embeddings).expect("scores");
    let mut spent = started.elapsed();
    for expert in experts {
        let inputs = expert_inputs(runner.models().manifest(), *expert, sample, &embeddings).expect("inputs");
        let started = Instant::now();
        runner.outputs(*expert, inputs).expect("outputs");
        spent += started.elapsed();
    }
    spent
}

fn sample(models: &Models, input: &millgate_edge::input::Input) -> Sample {
    let read = sample::read(&models.manifest().modalities, &input.parts, &Limits::default());
    read.expect("a sample").sample
}

/// One expert over gRPC on loopback, tensors in and logits out, against the engine alone.
async fn unary() -> String {
    let pool = pool_with(|config| config.threads = 1).await;
    let mut client = ExpertServiceClient::connect(url(&pool)).await.expect("the pool");
    let bundle = Bundle::open(&bundle()).expect("the bundle");
    let models = Arc::new(Models::load(&bundle, Holding::All, &Tract).expect("its models"));
    let mut runner = models.runner().expect("a runner");
    let expert = models.manifest().expert_index("pcb-l").expect("pcb-l");
    let spec = &models.manifest().experts[expert];
    let sample = sample(&models, &input(&recorded_of("deeppcb", 1)[0].path));
    let tensors: Vec<Array> = spec
        .inputs
        .iter()
        .map(|input| value_input(models.manifest(), input, &sample).expect("an input"))
        .collect();
    let request = v1::RunExpertsRequest {
        bundle_digest: models.digest().as_bytes().to_vec().into(),
        experts: vec![spec.name.clone()],
        tensors: spec
            .inputs
            .iter()
            .zip(&tensors)
            .map(|(input, tensor)| write_tensor(&input.modality, tensor))
            .collect(),
        ..Default::default()
    };
    let (mut ours, mut bare, mut computing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + 20 {
        let request = request.clone();
        let started = Instant::now();
        let answer = client.run_experts(request).await.expect("an answer").into_inner();
        let our = started.elapsed();
        let inputs = tensors.clone();
        let started = Instant::now();
        runner.outputs(expert, inputs).expect("outputs");
        if round >= 20 {
            ours.push(our);
            bare.push(started.elapsed());
            computing.push(Duration::from_micros(answer.answers[0].compute_us));
        }
    }
    let computing = spread(computing).p50;
    let line = compare("unary expert call, pcb-l", ours, bare);
    format!("{line}; the pool's own clock says {computing:.0} us of computing")
}

/// From starting the process to its exit after one decision: an upper bound for the first decision.
fn start() -> String {
    let path = recorded_of("deeppcb", 1)[0].path.display().to_string();
    let args = ["infer", "--mode", "never", "--threads", "1", "--output", "jsonl", &path];
    let times = (0..30).map(|_| {
        let started = Instant::now();
        assert_eq!(run("millgate-edge", &args).code, 0);
        started.elapsed()
    });
    let times = spread(times.collect());
    format!(
        "start to first decision, golden samples run: {:.0} ms ({:.0}-{:.0})",
        times.p50 / 1e3,
        times.p10 / 1e3,
        times.p90 / 1e3
    )
}

/// Memory of the service with gate and every edge expert, after 100 decisions.
fn memory() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "bundle = \"{}\"\nstate_dir = \"{dir}\"\nthreads = 1\n[[sources]]\ntype = \"folder\"\nname = \"demo\"\npath = \"{}\"\n\
         [api]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        bundle().display(),
        system_tests::root().join("deploy/demo/samples").display(),
        dir = dir.path().display(),
    );
    let path = dir.path().join("edge.toml");
    std::fs::write(&path, config).expect("written");
    let mut child = Command::new(binary("millgate-edge"))
        .args(["run", "--config"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let decided = lines.take(100).filter(Result::is_ok).count();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).expect("Linux");
    let kib = |name: &str| -> f64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    let text = format!(
        "memory of the service after {decided} decisions: RSS {:.1} MB, PSS {:.1} MB",
        kib("Rss:") / 1024.0,
        kib("Pss:") / 1024.0
    );
    child.kill().expect("killed");
    child.wait().expect("gone");
    text
}
