//! Decisions with and without a pool.

use millgate_edge::agent::Ask;
use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::decision::{Missing, State};
use millgate_shared::modality::Effort;
use millgate_shared::part::{Limits, Part, Value};
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::{DecideRequest, Sample};
use millgate_shared::sample;
use system_tests::{agent, agent_with, input, parts, pool, recorded, recorded_of, run, url};

/// A risk that no product is certified for, so that the pool is always wanted.
const UNCERTIFIED: f64 = 0.000_1;

#[tokio::test(flavor = "multi_thread")]
async fn alone_an_agent_decides_and_says_what_is_missing() {
    let alone = agent_with(None, |config| config.risk = Some(UNCERTIFIED)).await;
    let decision = alone.decide(&recorded_of("deeppcb", 1)[0].path).await;
    assert_eq!(decision.state, State::Provisional);
    let degraded = decision.degraded.unwrap();
    assert_eq!(degraded.reason, Missing::Offline);
    assert_eq!(degraded.missing[0].name, "pcb-l");
    assert!(degraded.weight_mass > 0.0 && degraded.weight_mass < 1.0);
    assert!(decision.experts.iter().all(|expert| expert.place == "edge"));
    assert_eq!(decision.uplink_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_pool_the_wanted_expert_answers() {
    let pool = pool().await;
    let helped = agent_with(Some(url(&pool)), |config| config.risk = Some(UNCERTIFIED)).await;
    let decision = helped.decide(&recorded_of("deeppcb", 1)[0].path).await;
    assert_eq!((decision.state, decision.degraded), (State::Final, None));
    let cloud = decision.experts.iter().find(|expert| expert.name == "pcb-l").unwrap();
    assert_eq!(cloud.place, "cloud:node-1");
    assert!(decision.why.rule.starts_with("asked_cloud: no certified threshold for deeppcb"));
    assert!(decision.uplink_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_agent_is_sure_the_pool_changes_nothing_and_gets_no_byte() {
    let pool = pool().await;
    let alone = agent(None, Mode::Confidence).await;
    let helped = agent(Some(url(&pool)), Mode::Confidence).await;
    let mut local = 0;
    for sample in recorded().iter().step_by(10) {
        let (without, with) = (alone.decide(&sample.path).await, helped.decide(&sample.path).await);
        assert_eq!(without.why.local_risk, with.why.local_risk, "an outage must not change the local answer");
        if with.uplink_bytes == 0 {
            local += 1;
            assert_eq!(without.verdict, with.verdict);
            assert_eq!((without.state, with.state), (State::Final, State::Final));
        } else {
            assert_eq!(without.state, State::Provisional);
        }
    }
    assert!(local > 0, "nothing stayed local");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_sent_to_the_pool_is_decided_as_by_an_agent_that_asks_for_everything() {
    let pool = pool().await;
    let agent = agent(Some(url(&pool)), Mode::Gate).await;
    let mut client = InferenceServiceClient::connect(url(&pool)).await.unwrap();
    for product in ["deeppcb", "xsdd"] {
        let sample = &recorded_of(product, 1)[0];
        let here = agent.decide(&sample.path).await;
        let request = DecideRequest {
            request_id: "one".to_owned(),
            sample: Some(Sample {
                task: "inspect".to_owned(),
                parts: parts(&sample.path),
                ..Default::default()
            }),
            mode: "gate".to_owned(),
            ..Default::default()
        };
        let response = client.decide(request).await.unwrap().into_inner();
        assert_eq!(response.request_id, "one");
        let there = response.decision.unwrap();
        let verdict = there.verdict.unwrap();
        assert_eq!(verdict.label, here.verdict.label);
        assert!(
            (verdict.probability.unwrap_or(0.0) - here.verdict.probability.unwrap_or(0.0)).abs() < 1e-9,
            "{product}: {verdict:?} {here:?}"
        );
        assert!(there.experts.iter().all(|expert| expert.r#where == "cloud:node-1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modes_ask_whom_they_say() {
    let pool = pool().await;
    let agent = agent(Some(url(&pool)), Mode::Never).await;
    let sample = &recorded_of("deeppcb", 1)[0].path;
    let places = |mode: Mode| {
        let policy = Policy { mode, ..agent.agent.epoch().policy().clone() };
        let ask = Ask { task: None, policy: Some(policy) };
        let decided = agent.agent.decide(input(sample), ask);
        async {
            let decision = decided.await.unwrap();
            decision
                .experts
                .iter()
                .map(|expert| (expert.name.clone(), expert.place.clone()))
                .collect::<Vec<_>>()
        }
    };
    let cloud = |experts: &[(String, String)]| experts.iter().any(|(_, place)| place.starts_with("cloud:"));
    assert!(!cloud(&places(Mode::Never).await));
    assert!(cloud(&places(Mode::Always).await));
    assert!(cloud(&places(Mode::Gate).await));
    let pinned = places(Mode::Pinned(vec!["generalist-s".to_owned()])).await;
    assert_eq!(pinned, [("generalist-s".to_owned(), "edge".to_owned())]);
    let pinned = places(Mode::Pinned(vec!["pcb-l".to_owned()])).await;
    assert_eq!(pinned, [("pcb-l".to_owned(), "cloud:node-1".to_owned())]);
}

/// 250 bytes is what a crop may cost on the line, template and framing included; the mean over the recorded ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_board_goes_up_in_few_bytes_and_arrives_as_it_was() {
    let agent = agent(None, Mode::Never).await;
    let epoch = agent.agent.epoch();
    let manifest = epoch.manifest();
    let modalities = &manifest.modalities;
    let samples = recorded_of("deeppcb", 100);
    let mut bytes = 0;
    for recorded in &samples {
        let parts = input(&recorded.path).parts;
        let read = |parts: &[Part]| sample::read(modalities, parts, &Limits::default()).unwrap().sample;
        let sample = read(&parts);
        let value = |name: &str| sample.value(manifest.modality_index(name).unwrap()).unwrap();
        let write = |name: &str, reference: Option<&Value>| {
            let spec = &modalities[manifest.modality_index(name).unwrap()];
            spec.modality().encode(spec, value(name), reference, Effort::Full).unwrap()
        };
        let sent = [write("template", None), write("image", Some(value("template")))];
        bytes += sent.iter().map(|part| part.bytes.len()).sum::<usize>();
        assert_eq!(read(&sent).without_originals(), sample.without_originals());
    }
    assert!(bytes / samples.len() <= 250, "{} bytes a crop", bytes / samples.len());
}

#[test]
fn infer_prints_the_record_that_the_design_names() {
    let path = recorded_of("xsdd", 1)[0].path.display().to_string();
    let ran = run("millgate-edge", &["infer", "--mode", "never", "--output", "jsonl", &path]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let record = &ran.lines()[0];
    let keys: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "id",
        "version",
        "state",
        "task",
        "sample",
        "verdict",
        "probabilities",
        "experts",
        "degraded",
        "why",
        "uplink_bytes",
        "bundle",
        "timings_us",
        "disposition",
        "novelty",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(record["sample"]["path"], path.as_str());
    assert_eq!(record["bundle"]["name"], "factory");
    assert!(record["bundle"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(record["sample"]["modalities"], serde_json::json!(["image"]));
    for key in ["decode", "encode", "gate", "local", "uplink", "combine", "total"] {
        assert!(record["timings_us"][key].is_u64(), "{key}");
    }
    let total: f64 =
        record["probabilities"].as_object().unwrap().values().filter_map(serde_json::Value::as_f64).sum();
    assert!((total - 1.0).abs() < 0.01);
}

#[test]
fn the_shipped_bundle_beats_chance_by_far_on_the_recorded_samples() {
    let dir = system_tests::root().join("deploy/demo/samples").display().to_string();
    let ran = run("millgate-edge", &["infer", "--mode", "never", "--output", "jsonl", &dir]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let labels: std::collections::HashMap<String, String> =
        recorded().into_iter().map(|sample| (sample.path.display().to_string(), sample.label)).collect();
    let lines = ran.lines();
    assert_eq!(lines.len(), labels.len());
    let right = lines.iter().filter(|line| {
        labels[line["sample"]["path"].as_str().unwrap()] == line["verdict"]["label"].as_str().unwrap()
    });
    let accuracy = right.count() as f64 / lines.len() as f64;
    assert!(accuracy > 0.9, "edge-only accuracy {accuracy}");
}
