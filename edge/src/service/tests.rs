use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::proto::v1;
use millgate_shared::proto::v1::decide_stream_response::Result as Answer;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::sink::{JsonlConfig, SinkConfig};
use crate::source::folder::After;
use crate::source::{FolderConfig, SourceConfig};

mod messages;

fn bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/factory")
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(bundle().join("golden").join(name)).unwrap()
}

/// A device: a folder, a state directory, a file of decisions.
struct Device {
    dir: tempfile::TempDir,
    config: EdgeConfig,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let mut config = EdgeConfig {
            bundle: bundle(),
            state_dir: dir.path().join("state"),
            threads: 1,
            ..EdgeConfig::default()
        };
        config.offload.deadline = Duration::from_secs(20);
        config.api.listen.set_port(0);
        config.admin.listen.set_port(0);
        let mut folder = FolderConfig::new("cam1", dir.path().join("in"));
        folder.settle = Duration::from_millis(50);
        folder.patience = Duration::from_millis(300);
        config.sources = vec![SourceConfig::Folder(folder)];
        config.sinks = vec![SinkConfig::Jsonl(JsonlConfig::new(dir.path().join("decisions.jsonl")))];
        Self { dir, config }
    }

    fn folder(&mut self) -> &mut FolderConfig {
        match &mut self.config.sources[0] {
            SourceConfig::Folder(folder) => folder,
            other => panic!("{other:?}"),
        }
    }

    async fn start(&self) -> Running {
        Service::start(self.config.clone()).await.unwrap()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join("in").join(name), bytes).unwrap();
    }

    fn records(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("decisions.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn wait_for(&self, count: usize) -> Vec<serde_json::Value> {
        let seen = async {
            while self.records().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
        self.records()
    }
}

async fn client(running: &Running) -> InferenceServiceClient<Channel> {
    let url = format!("http://{}", running.grpc_addr().unwrap());
    InferenceServiceClient::connect(url).await.unwrap()
}

fn request(id: &str, data: Vec<u8>) -> v1::DecideRequest {
    let part = v1::Part { modality: "image".to_owned(), data: data.into(), ..Default::default() };
    let sample = v1::Sample { parts: vec![part], path: "a.png".to_owned(), ..Default::default() };
    v1::DecideRequest { request_id: id.to_owned(), sample: Some(sample), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_a_file_is_decided_once_also_over_restarts() {
    let device = Device::new();
    device.put("a.png", &golden("steel-red-iron.png"));
    let running = device.start().await;
    device.put("bad.png", b"no image");
    let records = device.wait_for(2).await;
    assert_eq!(running.drain().await, Drained { files: 0, records: 0 });
    let find = |name: &str| records.iter().find(|record| record.to_string().contains(name)).unwrap().clone();
    assert_eq!(find("in/a.png")["verdict"]["label"], "xsdd/red iron");
    assert_eq!(find("in/a.png")["sample"]["source"], "cam1");
    assert_eq!(find("in/bad.png")["error"]["code"], "not_an_image");

    let running = device.start().await;
    device.put("b.png", &golden("steel-red-iron.png"));
    let records = device.wait_for(3).await;
    assert!(records[2].to_string().contains("in/b.png"));
    device.put("a.png", &golden("steel-slag-inclusion.png"));
    let records = device.wait_for(4).await;
    assert_eq!(records[3]["verdict"]["label"], "xsdd/slag inclusion");
    running.drain().await;
    assert_eq!(device.records().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_ends_too_early_is_given_time() {
    let mut device = Device::new();
    device.folder().patience = Duration::from_secs(60);
    let running = device.start().await;
    let bytes = golden("steel-red-iron.png");
    device.put("a.png", &bytes[..bytes.len() / 2]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    device.put("a.png", &bytes);
    let records = device.wait_for(1).await;
    assert_eq!(records[0]["verdict"]["label"], "xsdd/red iron");
    running.drain().await;
    assert_eq!(device.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decided_file_may_be_moved_away_with_its_template() {
    let mut device = Device::new();
    let done = device.dir.path().join("done");
    device.folder().after = After::Move(done.clone());
    device.put("a.template.png", &golden("pcb-open.template.png"));
    device.put("a.png", &golden("pcb-open.png"));
    let running = device.start().await;
    let records = device.wait_for(1).await;
    assert_eq!(records[0]["sample"]["modalities"], serde_json::json!(["image", "template"]));
    running.drain().await;
    assert!(done.join("a.png").is_file() && done.join("a.template.png").is_file());
    assert_eq!(std::fs::read_dir(device.dir.path().join("in")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_grpc_decides_and_names_what_is_wrong() {
    let device = Device::new();
    let running = device.start().await;
    let mut client = client(&running).await;
    let good = request("1", golden("steel-red-iron.png"));
    let decision = client.decide(good.clone()).await.unwrap().into_inner().decision.unwrap();
    assert_eq!(decision.verdict.unwrap().label, "xsdd/red iron");
    // It also goes to the sinks.
    assert_eq!(device.wait_for(1).await[0]["id"], decision.id);

    let mut task = good.clone();
    task.sample.as_mut().unwrap().task = "guess".to_owned();
    let mut modality = good.clone();
    modality.sample.as_mut().unwrap().parts[0].modality = "smell".to_owned();
    for (bad, code, field) in [
        (request("2", b"no image".to_vec()), Code::InvalidArgument, "sample.parts[0].data"),
        (task, Code::InvalidArgument, "sample.task"),
        (modality, Code::InvalidArgument, "sample.parts[0].modality"),
        (v1::DecideRequest { mode: "maybe".to_owned(), ..good.clone() }, Code::InvalidArgument, "mode"),
        (v1::DecideRequest { risk: 7.0, ..good.clone() }, Code::InvalidArgument, "risk"),
        (
            v1::DecideRequest { bundle_digest: vec![0; 32].into(), ..good.clone() },
            Code::FailedPrecondition,
            "bundle",
        ),
        (v1::DecideRequest { sample: None, ..good.clone() }, Code::InvalidArgument, "sample"),
    ] {
        let status = client.decide(bad).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(field), "{status}");
    }
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_a_bad_sample() {
    let device = Device::new();
    let running = device.start().await;
    let requests = [request("bad", b"no image".to_vec()), request("good", golden("steel-red-iron.png"))];
    let answers = client(&running).await.decide_stream(tokio_stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut seen = std::collections::BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let is_decided = matches!(answer.result, Some(Answer::Decision(_)));
        seen.insert(answer.request_id, is_decided);
    }
    assert_eq!(seen, [("bad".to_owned(), false), ("good".to_owned(), true)].into());
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_state_is_refused() {
    let device = Device::new();
    let running = device.start().await;
    let refused = Service::start(device.config.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("state_dir"), "{refused}");
    assert!(!refused.is_final());
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_goes_out_also_where_folders_and_pool_are_gone_from_the_configuration() {
    let mut device = Device::new();
    device.config.sources.clear();
    device.start().await.drain().await;
    assert!(!device.config.state_dir.join(crate::journal::FILE_NAME).exists());
    let journal = crate::journal::Journal::open(&device.config.state_dir).unwrap().start(4).unwrap();
    let line = b"{\"id\":\"promised\"}\n".to_vec();
    let post = Post { id: "promised".to_owned(), version: 1, line, of: Vec::new() };
    journal.post(post, false).await.unwrap();
    drop(journal);
    let running = device.start().await;
    assert_eq!(device.wait_for(1).await[0]["id"], "promised");
    running.drain().await;
    device.start().await.drain().await;
    assert_eq!(device.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_while_the_agent_stops_has_its_record_delivered() {
    let device = Device::new();
    let good = request("1", golden("steel-red-iron.png"));
    for _ in 0..5 {
        let running = device.start().await;
        let mut client = client(&running).await;
        let drain = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            running.drain().await
        };
        if let (Ok(answer), _) = tokio::join!(client.decide(good.clone()), drain) {
            let id = answer.into_inner().decision.unwrap().id;
            assert!(device.records().iter().any(|record| record["id"] == id.as_str()), "{id} is lost");
        }
    }
}

/// Pictures of one length: bytes behind the end of a PNG are none of it.
fn of_one_length() -> [Vec<u8>; 2] {
    let mut pictures = ["steel-red-iron.png", "steel-slag-inclusion.png"].map(golden);
    let longest = pictures.iter().map(Vec::len).max().unwrap();
    pictures.iter_mut().for_each(|picture| picture.resize(longest, 7));
    pictures
}

impl Device {
    /// Puts a file as a copier does that keeps times: written under another name and moved here, or written over what is
    /// there.
    fn put_at_one_time(&self, name: &str, bytes: &[u8], is_moved: bool) {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let written = if is_moved { format!(".{name}.new") } else { name.to_owned() };
        self.put(&written, bytes);
        let dir = self.dir.path().join("in");
        let file = std::fs::File::options().write(true).open(dir.join(&written)).unwrap();
        file.set_modified(time).unwrap();
        drop(file);
        std::fs::rename(dir.join(&written), dir.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_one_name_size_and_time_are_each_decided_and_a_touched_one_is_not_decided_again() {
    let device = Device::new();
    let [iron, slag] = of_one_length();
    let path = device.dir.path().join("in/a.png");
    let running = device.start().await;
    for (at, (picture, is_moved)) in [(&iron, true), (&slag, true), (&iron, true)].into_iter().enumerate() {
        device.put_at_one_time("a.png", picture, is_moved);
        device.wait_for(at + 1).await;
    }
    running.drain().await;

    // Another one while nobody looks, and what is no other: permissions, a link, a journal that was copied.
    device.put_at_one_time("a.png", &slag, true);
    let running = device.start().await;
    device.wait_for(4).await;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::hard_link(&path, device.dir.path().join("link")).unwrap();
    device.put("b.png", &iron);
    device.wait_for(5).await;
    running.drain().await;
    let copy = device.dir.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    device.put_at_one_time("a.png", &slag, true);
    let running = device.start().await;
    device.put("c.png", &iron);
    let records = device.wait_for(6).await;
    let metrics = running.metrics().sources.of("cam1");
    let looked = async {
        while metrics.same.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looked).await.unwrap();
    running.drain().await;
    assert_eq!(device.records().len(), 6);
    let verdicts: Vec<&str> =
        records.iter().map(|record| record["verdict"]["label"].as_str().unwrap()).collect();
    let [iron, slag] = ["xsdd/red iron", "xsdd/slag inclusion"];
    assert_eq!(verdicts, [iron, slag, iron, slag, iron, iron]);
    let ids: std::collections::BTreeSet<String> =
        records.iter().map(|record| record["id"].to_string()).collect();
    assert_eq!(ids.len(), 6, "also where the first picture comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_given_its_size_before_its_bytes_is_decided_once_and_rightly() {
    use std::os::unix::fs::FileExt;
    let mut device = Device::new();
    device.folder().patience = Duration::from_secs(60);
    let running = device.start().await;
    let bytes = golden("steel-red-iron.png");
    let path = device.dir.path().join("in/a.png");
    // By one that closes it and comes back, as `fallocate` and a copier after it do.
    std::fs::File::create(&path).unwrap().set_len(bytes.len() as u64).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&bytes[..bytes.len() / 2], 0).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    file.write_all_at(&bytes[bytes.len() / 2..], bytes.len() as u64 / 2).unwrap();
    drop(file);
    let records = device.wait_for(1).await;
    assert_eq!(records[0]["verdict"]["label"], "xsdd/red iron");
    running.drain().await;
    assert_eq!(device.records().len(), 1);
}
