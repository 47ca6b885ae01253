//! Bytes a sample under each policy, over the demo's recorded samples, and whether the verdicts are those of FP32.
//!
//! `cargo bench -p system-tests --bench bytes`

#![expect(clippy::print_stdout, reason = "the table is the point")]

use millgate_edge::uplink::upload::{Form, SendConfig, SendForm};
use millgate_shared::deciding::Mode;
use millgate_shared::decision::Decision;
use millgate_shared::wire::Numbers;
use system_tests::{Recorded, TestAgent, agent_with, features, pool_with, recorded, url};

const PRODUCTS: [&str; 2] = ["deeppcb", "xsdd"];

/// A line of the table.
struct Policy {
    name: &'static str,
    send: SendConfig,
    mode: Mode,
}

fn policy(name: &'static str, default: impl Into<SendForm>, datatype: Numbers) -> Policy {
    let send = SendConfig { default: default.into(), datatype, ..SendConfig::default() };
    Policy { name, send, mode: Mode::Always }
}

fn features(name: &'static str, datatype: Numbers) -> Policy {
    let mode = Mode::Pinned(vec![features::EXPERT.to_owned()]);
    Policy { mode, ..policy(name, Form::Features, datatype) }
}

async fn decide(agent: &TestAgent, samples: &[Recorded]) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(samples.len());
    for sample in samples {
        decisions.push(agent.decide(&sample.path).await);
    }
    decisions
}

/// Mean, 95th percentile and most.
fn spread(mut bytes: Vec<u64>) -> (f64, u64, u64) {
    bytes.sort_unstable();
    let mean = bytes.iter().sum::<u64>() as f64 / bytes.len().max(1) as f64;
    let at =
        |share: f64| bytes.get(((bytes.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(0);
    (mean, at(0.95), at(1.0))
}

#[tokio::main]
async fn main() {
    let bundle = features::bundle();
    let path = bundle.path().to_path_buf();
    let pool = pool_with(|config| config.bundle = path.clone()).await;
    let policies = [
        policy("auto", SendForm::Auto, Numbers::Fp32),
        policy("raw", Form::Raw, Numbers::Fp32),
        policy("tensor, fp32", Form::Tensor, Numbers::Fp32),
        policy("tensor, fp16", Form::Tensor, Numbers::Fp16),
        policy("tensor, int8", Form::Tensor, Numbers::Int8),
        features("features, fp32", Numbers::Fp32),
        features("features, fp16", Numbers::Fp16),
        features("features, int8", Numbers::Int8),
    ];
    println!(
        "| policy | product | bytes a sample, mean | p95 | most | same verdict as fp32 | probability off by, mean (most) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for product in PRODUCTS {
        let samples: Vec<Recorded> =
            recorded().into_iter().filter(|sample| sample.label.starts_with(product)).collect();
        let mut reference: Vec<Decision> = Vec::new();
        for Policy { name, send, mode } in policies.iter().map(clone) {
            let is_exact = send.datatype == Numbers::Fp32;
            let agent = agent_with(Some(url(&pool)), |config| {
                config.bundle = path.clone();
                config.mode = mode;
                config.bytes.send = send;
            })
            .await;
            // The first call of a line names the bundle, and is not like the others.
            decide(&agent, &samples[..1]).await;
            let decisions = decide(&agent, &samples).await;
            if is_exact && name != "tensor, fp32" {
                reference = decisions.clone();
            }
            let pairs = || decisions.iter().zip(&reference);
            let same = pairs().filter(|(got, wanted)| got.verdict.label == wanted.verdict.label).count();
            let off = |(got, wanted): (&Decision, &Decision)| {
                (got.verdict.probability.unwrap_or(0.0) - wanted.verdict.probability.unwrap_or(0.0)).abs()
            };
            let most_off = pairs().map(off).fold(0.0, f64::max);
            let mean_off = pairs().map(off).sum::<f64>() / samples.len() as f64;
            let bytes = decisions.iter().map(|decision| decision.uplink_bytes).collect();
            let (mean, p95, most) = spread(bytes);
            println!(
                "| {name} | {product} | {mean:.0} | {p95} | {most} | {same} of {} | {mean_off:.1e} ({most_off:.1e}) |",
                samples.len()
            );
        }
    }
}

fn clone(policy: &Policy) -> Policy {
    Policy { name: policy.name, send: policy.send.clone(), mode: policy.mode.clone() }
}
