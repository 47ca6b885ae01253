//! What a source looks at, and what is done with verdicts: by the configuration, by flags and by requests, at agent and pool.

use std::path::Path;

use millgate_shared::proto::inference::ModelInferRequest;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{InferParameter, ModelInferResponse};
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::{DecideRequest, Decision, Sample};
use serde_json::Value;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::{parts, pool, recorded_of, run, url};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Known parts are not to be called unknown here, where something else is tested.
const RECIPE: &str = r#"
[recipe]
false_alarms = 0.0
[recipe.labels]
"deeppcb/normal" = "accept"
"deeppcb/open" = "reject"
"deeppcb/short" = "reject"
"#;

fn source(name: &str, path: &Path, more: &str) -> String {
    format!(
        "[[sources]]\ntype = \"folder\"\nname = {name:?}\npath = {path:?}\nsettle = \"50ms\"\nrescan = \"100ms\"\n{more}\n"
    )
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Labels that have any probability.
fn likely(record: &Value) -> Vec<&str> {
    record["probabilities"].as_object().unwrap().keys().map(|label| &**label).collect()
}

#[test]
fn each_source_is_decided_by_its_own_labels_and_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for folder in ["boards", "all", "state"] {
        std::fs::create_dir(path(folder)).unwrap();
    }
    let sources = source("boards", &path("boards"), "labels = [\"deeppcb\"]\nrisk = 0.03")
        + &source("all", &path("all"), "");
    EdgeToml::new(dir.path()).without_folder().more(sources + RECIPE).write();
    let checked = run("millgate-edge", &["check", "--config", path("edge.toml").to_str().unwrap()]);
    for words in
        ["deeppcb may be the answer, risk 0.03", "accept: ", "deeppcb/normal", "reject: ", "deeppcb/open"]
    {
        assert!(checked.stdout.contains(words), "{words}: {}", checked.stdout);
    }
    let agent = EdgeProcess::start(&path("edge.toml"));
    let steel = &recorded_of("xsdd", 1)[0].path;
    std::fs::copy(steel, path("boards").join("steel.png")).unwrap();
    std::fs::copy(steel, path("all").join("steel.png")).unwrap();
    until("both are decided", || records(&path("decisions.jsonl")).len() == 2);
    let records = records(&path("decisions.jsonl"));
    let of = |source: &str| records.iter().find(|record| record["sample"]["source"] == source).unwrap();
    let (boards, all) = (of("boards"), of("all"));
    assert!(likely(boards).iter().all(|label| label.starts_with("deeppcb/")), "{boards}");
    assert_eq!(boards["why"]["masked"]["steel-s"], "has none of the labels that may be the answer");
    assert!(likely(all).iter().any(|label| label.starts_with("xsdd/")), "{all}");
    let disposition = |record: &Value| match record["verdict"]["label"].as_str().unwrap() {
        "unknown" => "review",
        "deeppcb/normal" => "accept",
        // By the recipe, or else by the bundle.
        _ => "reject",
    };
    assert_eq!(all["disposition"], disposition(all), "{all}");
    let expected = disposition(boards);
    assert_eq!(boards["disposition"], expected);
    let label = boards["verdict"]["label"].as_str().unwrap();
    let series = format!(
        "millgate_decisions_total{{source=\"boards\",product=\"deeppcb\",label=\"{label}\",disposition=\"{expected}\""
    );
    assert_eq!(agent.metric(&series), 1.0);
}

#[test]
fn what_the_bundle_does_not_have_is_refused_at_the_start_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    let wrong = source("cam1", &dir.path().join("in"), "labels = [\"magtile\"]");
    for (more, key) in [
        (wrong, "`sources[0].labels`: `magtile` is neither a product nor a label of task `inspect`"),
        (
            "[recipe.labels]\n\"deeppcb/opne\" = \"reject\"\n".to_owned(),
            "`recipe.labels.\\\"deeppcb/opne\\\"`",
        ),
    ] {
        let config = EdgeToml::new(dir.path()).without_folder().more(more).write();
        let ran = run("millgate-edge", &["run", "--config", config.to_str().unwrap()]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let plain = key.replace('\\', "");
        assert!(ran.stderr.contains(key) || ran.stderr.contains(&plain), "{key}: {}", ran.stderr);
    }
}

#[test]
fn flags_of_infer_restrict_labels_and_take_the_next_stricter_certificate() {
    let board = recorded_of("deeppcb", 1)[0].path.to_str().unwrap().to_owned();
    let infer = |more: &[&str]| {
        let args = [&["infer", &*board, "--output", "jsonl", "--false-alarms", "0"], more].concat();
        let ran = run("millgate-edge", &args);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.lines().remove(0)
    };
    let rule = |record: &Value| record["why"]["rule"].as_str().unwrap().to_owned();
    let (between, certified) = (infer(&["--risk", "0.04"]), infer(&["--risk", "0.03"]));
    assert_eq!(between["why"]["threshold"], certified["why"]["threshold"]);
    assert!(between["why"]["threshold"].is_number(), "{between}");
    assert!(rule(&between).contains("at risk 0.03, the next stricter certified one for 0.04"), "{between}");
    let steel = infer(&["--labels", "xsdd"]);
    assert!(likely(&steel).iter().all(|label| label.starts_with("xsdd/")), "{steel}");
    let two = infer(&["--labels", "deeppcb/open,deeppcb/short"]);
    assert!(likely(&two).iter().all(|label| ["deeppcb/open", "deeppcb/short"].contains(label)), "{two}");
    assert_eq!(two["why"]["threshold"], Value::Null);
    assert!(rule(&two).contains("where only deeppcb/open, deeppcb/short may be the answer"), "{two}");
    // Every label by name is no restriction.
    let plain = infer(&[]);
    let whole = infer(&["--labels", "deeppcb,xsdd,bsdata"]);
    assert_eq!((&whole["probabilities"], rule(&whole)), (&plain["probabilities"], rule(&plain)));
    for (flags, words) in [
        (["--labels", "magtile"], "`magtile` is neither a product nor a label"),
        (["--false-alarms", "1"], "--false-alarms must be at least 0 and below 1"),
    ] {
        let ran = run("millgate-edge", &[&["infer", &*board], &flags[..]].concat());
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

async fn ask(address: String, change: impl FnOnce(&mut DecideRequest)) -> Result<Decision, Status> {
    ask_of("xsdd", address, change).await
}

async fn ask_of(
    product: &str,
    address: String,
    change: impl FnOnce(&mut DecideRequest),
) -> Result<Decision, Status> {
    let mut client = InferenceServiceClient::<Channel>::connect(address).await.unwrap();
    let sample = Sample {
        task: "inspect".to_owned(),
        parts: parts(&recorded_of(product, 1)[0].path),
        ..Default::default()
    };
    let mut request = DecideRequest { sample: Some(sample), false_alarms: Some(0.0), ..Default::default() };
    change(&mut request);
    client.decide(request).await.map(|response| response.into_inner().decision.unwrap())
}

async fn restricts(address: &str) {
    let decision =
        ask(address.to_owned(), |request| request.labels = vec!["deeppcb".to_owned()]).await.unwrap();
    assert!(decision.probabilities.keys().all(|label| label.starts_with("deeppcb/")), "{decision:?}");
    let decision = ask(address.to_owned(), |_| {}).await.unwrap();
    assert!(decision.probabilities.keys().any(|label| label.starts_with("xsdd/")), "{decision:?}");
    let labels = |request: &mut DecideRequest| request.labels = vec!["magtile".to_owned()];
    let refused = ask(address.to_owned(), labels).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("`labels`") && refused.message().contains("magtile"), "{refused:?}");
    let share = |request: &mut DecideRequest| request.false_alarms = Some(1.5);
    let refused = ask(address.to_owned(), share).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("false_alarms"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_restricts_labels_at_the_pool() {
    let pool = pool().await;
    restricts(&url(&pool)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_restricts_labels_at_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let config = EdgeToml::new(dir.path()).without_folder().more(RECIPE).write();
    let agent = tokio::task::spawn_blocking(move || EdgeProcess::start(&config)).await.unwrap();
    let address = format!("http://{}", agent.grpc.unwrap());
    restricts(&address).await;
    for (label, disposition) in [("deeppcb/normal", "accept"), ("deeppcb/open", "reject")] {
        let labels = |request: &mut DecideRequest| request.labels = vec![label.to_owned()];
        let decision = ask_of("deeppcb", address.clone(), labels).await.unwrap();
        assert_eq!(
            (decision.verdict.unwrap().label, &*decision.disposition),
            (label.to_owned(), disposition)
        );
    }
}

fn texts(response: &ModelInferResponse, output: &str) -> Vec<String> {
    let at = response.outputs.iter().position(|found| found.name == output).unwrap();
    let (mut raw, mut texts) = (&response.raw_output_contents[at][..], Vec::new());
    while let Some((length, rest)) = raw.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        raw = rest;
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_restricts_labels_of_a_tasks_model() {
    let pool = pool().await;
    let mut client = GrpcInferenceServiceClient::<Channel>::connect(url(&pool)).await.unwrap();
    let file = std::fs::read(&recorded_of("xsdd", 1)[0].path).unwrap();
    let element = [&(file.len() as u32).to_le_bytes()[..], &file].concat();
    let request = |labels: &str| {
        let labels =
            InferParameter { parameter_choice: Some(ParameterChoice::StringParam(labels.to_owned())) };
        let share = InferParameter { parameter_choice: Some(ParameterChoice::DoubleParam(0.0)) };
        ModelInferRequest {
            model_name: "inspect".to_owned(),
            parameters: [("labels".to_owned(), labels), ("false_alarms".to_owned(), share)].into(),
            inputs: vec![InferInputTensor {
                name: "image".to_owned(),
                datatype: "BYTES".to_owned(),
                shape: vec![1],
                ..Default::default()
            }],
            raw_input_contents: vec![element.clone().into()],
            ..Default::default()
        }
    };
    let answer = client.model_infer(request("deeppcb")).await.unwrap().into_inner();
    let record: Value = serde_json::from_str(&texts(&answer, "decision")[0]).unwrap();
    assert!(likely(&record).iter().all(|label| label.starts_with("deeppcb/")), "{record}");
    let refused = client.model_infer(request("magtile")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("labels"), "{refused:?}");
}
