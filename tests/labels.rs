//! What people say of decisions is kept and comes out as labelled data, whatever is killed; local answers are audited.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use millgate_shared::digest::sha256_hex;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::label_service_client::LabelServiceClient;
use serde_json::Value;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::{Ran, Recorded, bundle, parts, pool, recorded, run, url};
use tonic::Code;
use tonic::transport::Channel;

/// All pictures are kept.
const KEEP_ALL: &str = "[labels]\nkeep_share = 1.0\n";

fn folders(dir: &Path) {
    for folder in ["in", "state"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
    }
}

async fn channel(agent: &EdgeProcess) -> Channel {
    Channel::from_shared(format!("http://{}", agent.grpc.unwrap())).unwrap().connect().await.unwrap()
}

async fn decide(client: &mut InferenceServiceClient<Channel>, sample: &Recorded) -> v1::Decision {
    let path = sample.path.display().to_string();
    let (source, parts) = ("line1".to_owned(), parts(&sample.path));
    let sample = Some(v1::Sample { path, source, parts, ..v1::Sample::default() });
    let request = v1::DecideRequest { sample, ..v1::DecideRequest::default() };
    client.decide(request).await.unwrap().into_inner().decision.unwrap()
}

/// Two recorded pictures of each label.
fn two_each(labels: &[&str]) -> Vec<Recorded> {
    let of = |label: &&str| {
        let found: Vec<Recorded> =
            recorded().into_iter().filter(|sample| sample.label == *label).take(2).collect();
        assert_eq!(found.len(), 2, "{label}");
        found
    };
    labels.iter().flat_map(of).collect()
}

fn label(dir: &Path, args: &[&str]) -> Ran {
    let state = dir.join("state").display().to_string();
    run("millgate-edge", &[&["label"], args, &["--state-dir", &state]].concat())
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_survive_a_kill_and_come_out_as_labelled_data() {
    let dir = tempfile::tempdir().unwrap();
    folders(dir.path());
    let config =
        EdgeToml::new(dir.path()).without_folder().offload("mode = \"never\"").more(KEEP_ALL).write();
    let agent = EdgeProcess::start(&config);
    let channel_to = channel(&agent).await;
    let mut client = InferenceServiceClient::new(channel_to.clone());
    let mut labels = LabelServiceClient::new(channel_to);
    let samples = two_each(&["deeppcb/open", "deeppcb/normal", "deeppcb/short", "xsdd/red iron"]);
    let mut ids = Vec::new();
    for sample in &samples {
        ids.push(decide(&mut client, sample).await.id);
    }

    // By the command line of a running agent, and by gRPC.
    let said = label(dir.path(), &[&ids[0], &samples[2].label, "--who", "anna", "--note", "first thought"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for (id, sample) in ids.iter().zip(&samples) {
        let request = v1::LabelRequest {
            id: id.clone(),
            label: sample.label.clone(),
            who: "berta".to_owned(),
            ..v1::LabelRequest::default()
        };
        let decision = labels.label(request).await.unwrap().into_inner().decision.unwrap();
        assert_eq!(decision.labels.last().unwrap().label, sample.label);
        assert!(decision.has_pictures && decision.source == "line1", "{decision:?}");
    }
    let refused = |id: &str, label: &str| {
        let request = v1::LabelRequest { id: id.to_owned(), label: label.to_owned(), ..Default::default() };
        let mut labels = labels.clone();
        async move { labels.label(request).await.unwrap_err() }
    };
    assert_eq!(refused("0193e2c8-0000-7000-8000-000000000000", "deeppcb/open").await.code(), Code::NotFound);
    let wrong = refused(&ids[0], "deeppcb/opne").await;
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("`label`: `deeppcb/opne`"), "{wrong}");
    let wrong = label(dir.path(), &[&ids[0], "deeppcb/opne"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("--new"), "{}", wrong.stderr);
    let series = "millgate_labels_total{source=\"line1\",agreed=\"yes\"}";
    let disagreed = "millgate_labels_total{source=\"line1\",agreed=\"no\"}";
    assert!(agent.metric(series) >= 1.0);
    assert!(agent.metric(disagreed) >= 1.0, "the first thought was another");

    // What was acknowledged is there after a kill, for the command line alone and for the next agent.
    agent.kill();
    let listed = label(dir.path(), &["list", "--output", "json"]);
    assert_eq!((listed.code, listed.lines().len()), (0, samples.len()), "{}", listed.stderr);
    let agent = EdgeProcess::start(&config);
    let mut labels = LabelServiceClient::new(channel(&agent).await);
    let (mut page_token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = v1::ListLabelsRequest { page_size: 3, page_token, open: false };
        let page = labels.list_labels(request).await.unwrap().into_inner();
        seen.extend(page.decisions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), samples.len());
    let first = seen.iter().find(|decision| decision.id == ids[0]).unwrap();
    let whos: Vec<&str> = first.labels.iter().map(|given| &*given.who).collect();
    assert_eq!(whos, ["anna", "berta"]);

    let out = dir.path().join("out");
    let exported = label(dir.path(), &["export", out.to_str().unwrap(), "--output", "json"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(exported.lines()[0]["exported"], samples.len());
    let rows = lines(&out.join("labels.jsonl"));
    for (id, sample) in ids.iter().zip(&samples) {
        let name = format!("pictures/{id}.image.");
        let row = rows.iter().find(|row| row["image"].as_str().unwrap().starts_with(&name)).unwrap();
        assert_eq!(row["label"], sample.label);
        let picture = std::fs::read(out.join(row["image"].as_str().unwrap())).unwrap();
        assert_eq!(picture, std::fs::read(&sample.path).unwrap(), "byte for byte");
        assert_eq!(row.get("template").is_some(), parts(&sample.path).len() > 1, "{row}");
    }
    assert_eq!(lines(&out.join("said.jsonl")).len(), samples.len() + 1);
    for name in ["labels.redb", "drift.json"] {
        let mode = std::fs::metadata(dir.path().join("state").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }

    // It is read as data.
    let bundle = bundle().display().to_string();
    let data = out.to_str().unwrap();
    let read = run("millgate-cloud", &["bundle", "evaluate", &bundle, "--data", data, "--output", "json"]);
    assert_eq!(read.code, 0, "{}", read.stderr);
    assert_eq!(read.lines()[0]["evaluation"]["samples"], samples.len());

    let again = label(dir.path(), &["export", out.to_str().unwrap()]);
    assert!(again.code == 1 && again.stderr.contains("holds an export already"), "{}", again.stderr);
}

/// As the agent draws them.
fn draw(id: &str) -> f64 {
    let digest = sha256_hex(format!("millgate audit {id}").as_bytes());
    u64::from_str_radix(&digest[..16], 16).unwrap() as f64 / 2.0_f64.powi(64)
}

#[tokio::test(flavor = "multi_thread")]
async fn local_answers_that_are_drawn_are_put_to_the_pool() {
    let pool = pool().await;
    let dir = tempfile::tempdir().unwrap();
    folders(dir.path());
    let offload = format!("cloud = \"{}\"\naudit = 0.5\nrisk = 0.03", url(&pool));
    let config = EdgeToml::new(dir.path()).without_folder().offload(offload).write();
    let agent = EdgeProcess::start(&config);
    until("the line is up", || agent.metric("millgate_link_up") == 1.0);
    let mut client = InferenceServiceClient::new(channel(&agent).await);
    let (mut local, mut drawn) = (0, 0);
    for sample in recorded().iter().take(120) {
        let decision = decide(&mut client, sample).await;
        let is_here = decision.experts.iter().all(|expert| expert.r#where == "edge");
        let is_local = is_here
            && decision.state == v1::DecisionState::Final as i32
            && decision.why.as_ref().is_some_and(|why| why.threshold.is_some())
            && decision.verdict.as_ref().is_some_and(|verdict| verdict.label != "unknown");
        local += usize::from(is_local);
        drawn += usize::from(is_local && draw(&decision.id) < 0.5);
    }
    assert!(local >= 10, "{local} of 120 stayed here");
    let audits =
        |result: &str| agent.metric(&format!("millgate_audits_total{{result=\"{result}\"}}")) as usize;
    let results = ["agreed", "disagreed", "unanswered", "withheld", "skipped"];
    until("all that were drawn are audited", || {
        results.iter().map(|result| audits(result)).sum::<usize>() == drawn
    });
    let (agreed, disagrees) = (audits("agreed"), audits("disagreed"));
    assert!(agreed > 0 && agreed >= disagrees, "{agreed} agreed, {disagrees} did not, of {drawn}");
    let estimate = "millgate_local_error_estimate{source=\"line1\"}";
    until("the estimate knows of all", || {
        let state = label(dir.path(), &["state", "--output", "json"]).lines().remove(0);
        let errors = state["streams"].as_array().unwrap().iter().find(|stream| stream["kind"] == "error");
        errors.is_some_and(|stream| stream["seen"] == agreed + disagrees)
    });
    assert!((agent.metric(estimate) - disagrees as f64 / (agreed + disagrees) as f64).abs() < 1e-9);
    // A disagreement is something to look at; it changes no decision.
    let open = label(dir.path(), &["list", "--open", "--output", "json"]).lines();
    let differs = |row: &&Value| {
        let said = &row["decision"]["pool"];
        said.is_string() && *said != row["decision"]["label"]
    };
    let contradicted = open.iter().filter(differs);
    assert_eq!(contradicted.count(), disagrees);
}
