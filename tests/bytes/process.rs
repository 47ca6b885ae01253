//! The byte budget and the metered switch of a real agent, through kill -9 and over its admin port.

use std::path::Path;

use millgate_shared::shutdown::Tasks;
use system_tests::edge_process::{EdgeProcess, EdgeToml};
use system_tests::recorder::Recorder;
use system_tests::{bundle, part, pool, recorded_of};

const PER_DAY: u64 = 300_000;

/// Starts `millgate-edge run`.
fn start(dir: &Path, cloud: &str, more: &str) -> EdgeProcess {
    let offload = format!("cloud = \"{cloud}\"\nmode = \"always\"\ndeadline = \"20s\"\n{more}");
    EdgeToml::new(dir).without_folder().offload(offload).write();
    EdgeProcess::start(&dir.join("edge.toml"))
}

/// Decides on recorded pictures over the local gRPC; gives the bytes that went up for them.
async fn decide(agent: &EdgeProcess, count: usize) -> u64 {
    use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
    use millgate_shared::proto::v1::{DecideRequest, Sample};
    let mut client =
        InferenceServiceClient::connect(format!("http://{}", agent.grpc.unwrap())).await.unwrap();
    let mut bytes = 0;
    for sample in recorded_of("xsdd", count) {
        let part = part("image", std::fs::read(&sample.path).unwrap());
        let sample = Sample { task: "inspect".to_owned(), parts: vec![part], ..Sample::default() };
        let request = DecideRequest { sample: Some(sample), ..DecideRequest::default() };
        bytes += client.decide(request).await.unwrap().into_inner().decision.unwrap().uplink_bytes;
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_gives_no_budget_back() {
    let (tasks, dir) = (Tasks::new(), tempfile::tempdir().unwrap());
    let pool = pool().await;
    let recorder = Recorder::start(pool.grpc_addr(), &tasks).await;
    let more = format!("[offload.budget]\nper_day = {PER_DAY}");
    let mut sent = 0;
    for run in 0..6 {
        let agent = start(dir.path(), &recorder.url(), &more);
        sent += decide(&agent, 8).await;
        let left = agent.metric("millgate_uplink_budget_left_bytes{window=\"day\"}");
        assert!(sent as f64 + left <= PER_DAY as f64, "run {run}: {sent} sent, {left} left");
        assert_eq!(agent.metric("millgate_uplink_budget_bytes{window=\"day\"}"), PER_DAY as f64);
        if run == 0 {
            let counted = agent.metric("millgate_uplink_bytes_total{traffic=\"live\",form=\"raw\"}");
            assert_eq!(counted, sent as f64);
        }
        agent.kill();
    }
    // What the kills cost are advances; the rest was used.
    assert!(sent > PER_DAY * 6 / 10 && sent <= PER_DAY, "{sent}");
    let agent = start(dir.path(), &recorder.url(), &more);
    assert_eq!(decide(&agent, 2).await, 0);
    assert!(agent.metric("millgate_uplink_refused_total{reason=\"spent\"}") >= 2.0);
    assert!(agent.metric("millgate_uplink_price") > 0.9);
    agent.kill();
    // Beside the calls: dials and what each run asks of the pool first.
    assert!((recorder.bytes().len() as u64) < PER_DAY + 30_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn metered_is_switched_at_the_admin_port_and_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool().await;
    let agent = start(dir.path(), &system_tests::url(&pool), "metered = false");
    assert!(agent.http("GET", "/metered", "").ends_with("off\n"));
    assert_eq!(agent.metric("millgate_uplink_metered"), 0.0);
    let answer = agent.http("PUT", "/metered", "on");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("on\n"), "{answer}");
    assert_eq!(agent.metric("millgate_uplink_metered"), 1.0);
    assert!(agent.metric("millgate_uplink_price") > 0.05);
    assert!(agent.http("PUT", "/metered", "maybe").starts_with("HTTP/1.1 400"));
    assert!(agent.http("PUT", "/metered", &"on".repeat(100)).starts_with("HTTP/1.1 413"));
    assert!(agent.http("POST", "/metered", "off").starts_with("HTTP/1.1 405"));
    // Asked for without a local answer, a call is worth any price.
    assert!(decide(&agent, 1).await > 0);
    agent.kill();
    let agent = start(dir.path(), &system_tests::url(&pool), "metered = false");
    assert!(agent.http("GET", "/metered", "").ends_with("on\n"));
    assert!(agent.http("PUT", "/metered", "default").ends_with("off\n"));
    agent.kill();
    let agent = start(dir.path(), &system_tests::url(&pool), "metered = true");
    assert!(agent.http("GET", "/metered", "").ends_with("on\n"));
    agent.kill();
}

#[test]
fn a_modality_that_the_bundle_lacks_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "bundle = \"{}\"\nstate_dir = \"{}\"\n[offload.send.modality]\nsound = \"features\"\n[api]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        bundle().display(),
        dir.path().display()
    );
    std::fs::write(dir.path().join("edge.toml"), text).unwrap();
    let config = dir.path().join("edge.toml");
    let ran = system_tests::run("millgate-edge", &["run", "--config", config.to_str().unwrap()]);
    // The bundle that has it may be on its way.
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("`offload.send.modality.sound`"), "{}", ran.stderr);
}
