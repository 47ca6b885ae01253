//! What goes up the line, seen from the line.

use std::collections::HashSet;
use std::path::Path;

use half::f16;
use millgate_edge::agent::BytesConfig;
use millgate_edge::uplink::ledger::{LedgerConfig, Limits, Traffic};
use millgate_edge::uplink::upload::{Form, SendConfig, SendForm};
use millgate_shared::array::{Array, Scale};
use millgate_shared::bundle::Bundle;
use millgate_shared::deciding::Mode;
use millgate_shared::decision::{Missing, State};
use millgate_shared::image::{Channels, Limits as ImageLimits, decode, prepare};
use millgate_shared::part::Value;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::shutdown::Tasks;
use millgate_shared::wire::{Numbers, read_tensor, write_packed, write_tensor};
use system_tests::recorder::Recorder;
use system_tests::{
    TestAgent, agent_with, features, input, parts, pool, pool_with, recorded, recorded_of, url,
};
use tonic::Code;

mod later;
mod process;

/// A risk that no product is certified for, so that the pool is always wanted.
const UNCERTIFIED: f64 = 0.000_1;

fn send(default: Form, datatype: Numbers) -> SendConfig {
    SendConfig { default: default.into(), datatype, ..SendConfig::default() }
}

/// Every form in which a picture's own bytes could lie on the line: its file, its pixels, and those as the experts take
/// them, in one, two and four bytes.
fn secrets(path: &Path) -> Vec<Vec<u8>> {
    let mut secrets = Vec::new();
    for part in input(path).parts {
        let picture = decode(&part.bytes, Channels::GREY, &ImageLimits::default()).unwrap();
        secrets.push(part.bytes.to_vec());
        secrets.push(picture.samples().to_vec());
        for side in [64, 128] {
            let values = prepare(&picture, &[1, side, side], &0.5.into(), &0.25.into()).unwrap();
            let tensor = Array::new(vec![1, 1, side, side], values.into()).unwrap();
            for numbers in Numbers::ALL {
                // Without compression; with it there is nothing to look for, and the messages themselves are read below.
                let scale = Scale::of_levels(0.5, 0.25);
                let wire = write_packed("x", &tensor, numbers, scale);
                let plain = read_tensor("x", &wire, tensor.shape()).unwrap();
                secrets.push(write_tensor("x", &plain).data.to_vec());
                if numbers == Numbers::Fp16 {
                    let halves =
                        plain.as_fp32().unwrap().iter().flat_map(|value| f16::from_f32(*value).to_le_bytes());
                    secrets.push(halves.collect());
                }
                if numbers == Numbers::Int8 {
                    let stored = |value: &f32| (value * 63.75 + 127.5).round() as u8;
                    secrets.push(plain.as_fp32().unwrap().iter().map(stored).collect());
                    secrets.push(
                        plain
                            .as_fp32()
                            .unwrap()
                            .iter()
                            .map(|value| stored(value).wrapping_sub(128))
                            .collect(),
                    );
                }
            }
        }
    }
    secrets
}

/// Whether any eight bytes in a row of a secret stand on the line. Few different ones say nothing: a black edge is a black
/// edge in any picture.
fn leaks(secrets: &[Vec<u8>], wire: &[u8]) -> bool {
    let told: HashSet<&[u8]> = wire.windows(8).collect();
    let says_something = |window: &[u8]| window.iter().collect::<HashSet<_>>().len() >= 4;
    secrets
        .iter()
        .flat_map(|secret| secret.windows(8))
        .any(|window| says_something(window) && told.contains(window))
}

/// An agent with the bundle of `features` behind a recorder.
async fn recorded_agent(send: SendConfig, mode: Mode, tasks: &Tasks) -> (TestAgent, Recorder) {
    let bundle = features::bundle();
    let path = bundle.path().to_path_buf();
    let pool = pool_with(|config| config.bundle = path.clone()).await;
    let recorder = Recorder::start(pool.grpc_addr(), tasks).await;
    let agent = agent_with(Some(recorder.url()), |config| {
        config.bundle = path;
        config.mode = mode;
        config.risk = Some(UNCERTIFIED);
        config.bytes.send = send;
    })
    .await;
    // The pool lives as long as the test.
    tasks.spawn(async move {
        std::future::pending::<()>().await;
        drop((pool, bundle));
    });
    (agent, recorder)
}

#[tokio::test(flavor = "multi_thread")]
async fn under_features_nothing_of_a_picture_crosses_the_line() {
    let tasks = Tasks::new();
    for (datatype, mode) in [
        (Numbers::Fp32, Mode::Always),
        (Numbers::Fp16, Mode::Confidence),
        (Numbers::Int8, Mode::Always),
        (Numbers::Int8, Mode::Gate),
    ] {
        // The gate may choose none of the pool's.
        let is_asked = mode != Mode::Gate;
        let (agent, recorder) = recorded_agent(send(Form::Features, datatype), mode, &tasks).await;
        let mut hidden = Vec::new();
        let mut answered = 0;
        for product in ["deeppcb", "xsdd"] {
            for sample in recorded_of(product, 4) {
                let decision = agent.decide(&sample.path).await;
                answered +=
                    usize::from(decision.experts.iter().any(|expert| expert.name == features::EXPERT));
                assert!(decision.experts.iter().all(|e| e.place == "edge" || e.name == features::EXPERT));
                for masked in ["pcb-l", "steel-l", "screw-l"] {
                    let why = decision.why.masked.get(masked).map(String::as_str).unwrap_or_default();
                    let by_policy = why == "policy: only features of `image` leave the device";
                    assert!(by_policy || why.starts_with("needs"), "{masked}: {why}");
                }
                hidden.extend(secrets(&sample.path));
            }
        }
        assert!(answered > 0 || !is_asked, "features are of use");
        let requests = recorder.requests();
        for request in &requests {
            assert!(request.parts.is_empty());
            for tensor in &request.tensors {
                assert_eq!((&*tensor.name, &*tensor.shape), ("embedding", &[1, 64][..]));
                assert!(tensor.data.len() <= 256, "{}", tensor.data.len());
            }
        }
        let is_sent = requests.iter().any(|request| !request.tensors.is_empty());
        assert_eq!(is_sent, answered > 0);
        assert!(!leaks(&hidden, &recorder.bytes()));
    }
    // The test can tell: under the other policies it finds them.
    let sample = &recorded_of("xsdd", 1)[0].path;
    for send in [send(Form::Raw, Numbers::Fp32), send(Form::Tensor, Numbers::Fp32)] {
        let is_raw = send.default == SendForm::Raw;
        let (agent, recorder) = recorded_agent(send, Mode::Always, &tasks).await;
        agent.decide(sample).await;
        let is_there = recorder.requests().iter().any(|request| match is_raw {
            true => request.parts.iter().any(|part| part.modality == "image"),
            false => {
                request.tensors.iter().any(|tensor| tensor.name == "image" || tensor.name == "embedding")
            }
        });
        assert!(is_there);
        if is_raw {
            assert!(leaks(&secrets(sample), &recorder.bytes()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_png_and_a_jpeg_cross_the_line_untouched() {
    let tasks = Tasks::new();
    let dir = tempfile::tempdir().unwrap();
    let png = recorded_of("xsdd", 1)[0].path.clone();
    let picture = image::open(&png).unwrap().resize_exact(600, 400, image::imageops::FilterType::Nearest);
    let jpeg = dir.path().join("part.jpg");
    picture.save(&jpeg).unwrap();
    for path in [png, jpeg] {
        let (agent, recorder) = recorded_agent(send(Form::Raw, Numbers::Fp32), Mode::Always, &tasks).await;
        agent.decide(&path).await;
        let file = std::fs::read(&path).unwrap();
        let requests = recorder.requests();
        let parts: Vec<&v1::Part> = requests.iter().flat_map(|request| &request.parts).collect();
        assert!(!parts.is_empty());
        for part in parts {
            assert_eq!(part.codec, "", "a file");
            assert!(part.data == file, "{}: other bytes went up", path.display());
        }
    }
}

/// A picture of millions of pixels, as cameras give them.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_large_picture_takes_few_bytes_and_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let steel = image::open(&recorded_of("xsdd", 1)[0].path).unwrap();
    let path = dir.path().join("large.png");
    steel.resize_exact(2500, 2000, image::imageops::FilterType::Triangle).save(&path).unwrap();
    let pool = pool().await;
    let mut decisions = Vec::new();
    for send in [SendConfig::default(), send(Form::Raw, Numbers::Fp32)] {
        let change = |config: &mut millgate_edge::agent::AgentConfig| {
            config.mode = Mode::Always;
            config.bytes.send = send;
            // Under `raw` the picture takes a while to be coded.
            config.deadline = std::time::Duration::from_secs(60);
        };
        decisions.push(agent_with(Some(url(&pool)), change).await.decide(&path).await);
    }
    let [small, raw] = &decisions[..] else { unreachable!() };
    assert_eq!((small.state, raw.state), (State::Final, State::Final));
    assert_eq!((&small.verdict, &small.probabilities), (&raw.verdict, &raw.probabilities));
    assert!(small.uplink_bytes < 20_000 && raw.uplink_bytes > 300_000, "{decisions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedding_that_is_sent_is_answered_as_one_that_the_pool_makes() {
    let bundle = features::bundle();
    let pool = pool_with(|config| config.bundle = bundle.path().to_path_buf()).await;
    let opened = Bundle::open(bundle.path()).unwrap();
    let manifest = opened.manifest();
    let mut client = ExpertServiceClient::connect(url(&pool)).await.unwrap();
    let sample = &recorded_of("xsdd", 1)[0].path;
    let parts = parts(sample);
    let request = |parts: Vec<v1::Part>, tensors: Vec<v1::Tensor>| v1::RunExpertsRequest {
        bundle_digest: opened.digest().as_bytes().to_vec().into(),
        experts: vec![features::EXPERT.to_owned()],
        parts,
        tensors,
        all_outputs: true,
        ..Default::default()
    };
    let response = client.run_experts(request(parts.clone(), Vec::new())).await.unwrap().into_inner();
    let output = |response: &v1::RunExpertsResponse, name: &str| {
        let answer = &response.answers[0];
        assert_eq!(answer.error, None);
        let output = answer.outputs.iter().find(|output| output.name == name).unwrap();
        let shape: Vec<usize> = output.shape.iter().map(|axis| *axis as usize).collect();
        read_tensor(name, output, &shape).unwrap()
    };
    // `feat` is the embedding that the pool made of the picture.
    let embedding = output(&response, "feat");
    let by_image = output(&response, "logits");
    for (got, wanted) in
        by_image.as_fp32().unwrap().iter().zip(features::logits(embedding.as_fp32().unwrap()))
    {
        assert!((got - wanted).abs() < 1e-4);
    }
    for (numbers, off) in [(Numbers::Fp32, 0.0), (Numbers::Fp16, 0.01), (Numbers::Int8, 0.2)] {
        let tensor = write_packed("embedding", &embedding, numbers, None);
        let response = client.run_experts(request(Vec::new(), vec![tensor])).await.unwrap().into_inner();
        for (got, wanted) in
            output(&response, "logits").as_fp32().unwrap().iter().zip(by_image.as_fp32().unwrap())
        {
            assert!((got - wanted).abs() <= off, "{numbers:?}: {got} {wanted}");
        }
    }
    // What was sent goes before what could be made.
    let zeros = Array::new(vec![1, features::DIMS], vec![0.0_f32; features::DIMS].into()).unwrap();
    let both = request(parts.clone(), vec![write_tensor("embedding", &zeros)]);
    let response = client.run_experts(both).await.unwrap().into_inner();
    assert!(output(&response, "logits").as_fp32().unwrap().iter().all(|logit| *logit == 0.0));
    // And what is neither sent nor to be made is named.
    let pixels = Array::new(vec![1, 1, 64, 64], vec![0.0_f32; 4096].into()).unwrap();
    let without = request(Vec::new(), vec![write_tensor("image", &pixels)]);
    let status = client.run_experts(without).await.unwrap_err();
    assert!(status.message().contains("embedding"), "{status}");
    let short = request(Vec::new(), vec![write_tensor("embedding", &pixels)]);
    let status = client.run_experts(short).await.unwrap_err();
    assert!(status.message().contains("tensors[0].shape"), "{status}");
    assert_eq!(
        manifest.experts[manifest.expert_index(features::EXPERT).unwrap()].inputs[0].name,
        "embedding"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_reads_fewer_bits_and_refuses_a_bomb() {
    let pool = pool().await;
    let bundle = Bundle::open(&system_tests::bundle()).unwrap();
    let spec = &bundle.manifest().experts[bundle.manifest().expert_index("steel-l").unwrap()];
    let prepare = &spec.inputs[0].prepare;
    let mut client = ExpertServiceClient::connect(url(&pool)).await.unwrap();
    let request = |tensor: v1::Tensor| v1::RunExpertsRequest {
        bundle_digest: bundle.digest().as_bytes().to_vec().into(),
        experts: vec!["steel-l".to_owned()],
        tensors: vec![tensor],
        ..Default::default()
    };
    let picture = std::fs::read(&recorded_of("xsdd", 1)[0].path).unwrap();
    let picture = decode(&picture, Channels::GREY, &ImageLimits::default()).unwrap();
    let tensor = prepare.prepare(&Value::from(picture.array().clone())).unwrap();
    let mut logits = Vec::new();
    for numbers in Numbers::ALL {
        let wire = write_packed("image", &tensor, numbers, prepare.scale());
        let response = client.run_experts(request(wire)).await.unwrap().into_inner();
        let output = response.answers[0].outputs[0].clone();
        logits.push(read_tensor("logits", &output, &[1, spec.labels.len()]).unwrap());
    }
    for (other, off) in [(&logits[1], 0.05), (&logits[2], 1e-3)] {
        for (got, wanted) in other.as_fp32().unwrap().iter().zip(logits[0].as_fp32().unwrap()) {
            assert!((got - wanted).abs() <= off, "{got} {wanted}");
        }
    }
    // A gigabyte in a few hundred kilobytes.
    let bomb = v1::Tensor {
        data: zstd::bulk::compress(&vec![0; 1 << 20], 19).unwrap().repeat(1 << 10).into(),
        encoding: v1::Encoding::Zstd.into(),
        ..write_tensor("image", &tensor)
    };
    let status = client.run_experts(request(bomb)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("tensors[0].data"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_bits_change_no_verdict_of_the_recorded_samples() {
    let pool = pool().await;
    let mut agents = Vec::new();
    for send in [
        send(Form::Raw, Numbers::Fp32),
        SendConfig::default(),
        send(Form::Tensor, Numbers::Fp32),
        send(Form::Tensor, Numbers::Fp16),
        send(Form::Tensor, Numbers::Int8),
    ] {
        let agent = agent_with(Some(url(&pool)), |config| {
            config.mode = Mode::Always;
            config.bytes.send = send;
        });
        agents.push(agent.await);
    }
    for sample in recorded().iter().step_by(11) {
        let mut decisions = Vec::new();
        for agent in &agents {
            decisions.push(agent.decide(&sample.path).await);
        }
        for decision in &decisions[1..] {
            assert_eq!(decision.verdict.label, decisions[0].verdict.label, "{}", sample.path.display());
            let off = (decision.verdict.probability.unwrap_or(0.0)
                - decisions[0].verdict.probability.unwrap_or(0.0))
            .abs();
            assert!(off < 0.01, "{}: {off}", sample.path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_the_record_are_the_bytes_of_the_line() {
    let tasks = Tasks::new();
    let (agent, recorder) = recorded_agent(SendConfig::default(), Mode::Always, &tasks).await;
    // The first call carries the bundle's digest, and settings are exchanged.
    agent.decide(&recorded_of("xsdd", 1)[0].path).await;
    let before = recorder.bytes().len() as u64;
    let (mut counted, mut calls) = (0, 0);
    for product in ["xsdd", "deeppcb"] {
        for sample in recorded_of(product, 10) {
            let decision = agent.decide(&sample.path).await;
            assert!(decision.uplink_bytes > 0);
            counted += decision.uplink_bytes;
            calls += 1;
        }
    }
    let crossed = recorder.bytes().len() as u64 - before;
    // A call's number is counted as if it were large. Beside the calls there are answers to pings, and window updates.
    let (more, beside) = (3 * calls, 40 * calls + 200);
    assert!(counted <= crossed + more && crossed <= counted + beside, "{counted} counted, {crossed} crossed");
}

fn budget(dir: &Path, per_hour: u64) -> BytesConfig {
    let limits = Limits { per_hour, per_day: 0 };
    let ledger = LedgerConfig { limits, is_metered: false, dir: Some(dir.to_path_buf()) };
    BytesConfig { ledger, ..BytesConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_is_said_and_stays_spent() {
    const PER_HOUR: u64 = 100_000;
    let (tasks, dir) = (Tasks::new(), tempfile::tempdir().unwrap());
    let pool = pool().await;
    let recorder = Recorder::start(pool.grpc_addr(), &tasks).await;
    let start = || {
        agent_with(Some(recorder.url()), |config| {
            config.mode = Mode::Always;
            config.bytes = budget(dir.path(), PER_HOUR);
        })
    };
    let agent = start().await;
    let mut sent = 0;
    let mut refused = None;
    for sample in recorded_of("xsdd", 60) {
        let decision = agent.decide(&sample.path).await;
        sent += decision.uplink_bytes;
        if decision.uplink_bytes == 0 {
            refused.get_or_insert(decision);
        }
    }
    assert!(sent > PER_HOUR * 8 / 10 && sent <= PER_HOUR, "{sent}");
    let refused = refused.expect("the budget is too small for all");
    assert_eq!(refused.state, State::Provisional);
    assert_eq!(refused.degraded.unwrap().reason, Missing::Budget);
    assert!(refused.why.rule.contains("not asked: the byte budget is spent"), "{}", refused.why.rule);
    let left = agent.agent.ledger().snapshot().left[0];
    drop(agent);
    let again = start().await;
    assert!(again.agent.ledger().snapshot().left[0] <= left);
    let decision = again.decide(&recorded_of("xsdd", 1)[0].path).await;
    assert_eq!(decision.uplink_bytes, 0);
    // Sinks have their record, and nothing of this sample has gone up: the line has little beside what was counted.
    assert!((recorder.bytes().len() as u64) < sent + 5000);
    assert!(again.agent.ledger().room_in(Traffic::Live, 50_000).is_some_and(|wait| wait > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_budget_goes_only_the_unsure_samples_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool().await;
    let agent = agent_with(Some(url(&pool)), |config| {
        config.risk = Some(UNCERTIFIED);
        config.bytes = budget(dir.path(), 150_000);
    })
    .await;
    let (mut went, mut stayed) = (Vec::new(), Vec::new());
    for sample in recorded().iter().cycle().take(300) {
        let decision = agent.decide(&sample.path).await;
        let risk = decision.why.local_risk.expect("a local answer");
        match decision.uplink_bytes {
            // The pool is not asked of a picture that is not as it should be.
            0 if !decision.checks.is_empty() => {}
            0 => {
                stayed.push(risk);
                assert_eq!(decision.degraded.unwrap().reason, Missing::Budget);
            }
            _ => went.push(risk),
        }
    }
    let mean = |risks: &[f64]| risks.iter().sum::<f64>() / risks.len() as f64;
    assert!(stayed.len() > 50 && went.len() > 20, "{} {}", stayed.len(), went.len());
    assert!(mean(&went[went.len() / 2..]) > 2.0 * mean(&stayed), "{} {}", mean(&went), mean(&stayed));
}
