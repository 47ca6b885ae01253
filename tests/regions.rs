//! Regions and tiles of a picture: each is looked at, and the one that looks least like a part to accept is decided on.

use std::path::{Path, PathBuf};

use image::{GrayImage, imageops};
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::{DecideRequest, Decision, Part, Sample};
use serde_json::Value;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::{Ran, part, pool, recorded, run, url};
use tonic::{Code, Status};

/// Side of a recorded board, in pixels.
const SIDE: u32 = 64;

/// The first recorded picture of a label, and its template.
fn board(label: &str) -> [PathBuf; 2] {
    let path = recorded().into_iter().find(|sample| sample.label == label).unwrap().path;
    [path.clone(), path.with_extension("template.png")]
}

/// Writes boards side by side to `name`, and their templates beside it.
fn panel(dir: &Path, name: &str, boards: &[[PathBuf; 2]]) -> PathBuf {
    let written = dir.join(name);
    for (which, path) in [written.clone(), written.with_extension("template.png")].into_iter().enumerate() {
        let mut whole = GrayImage::new(SIDE * boards.len() as u32, SIDE);
        for (at, board) in boards.iter().enumerate() {
            let one = image::open(&board[which]).unwrap().into_luma8();
            imageops::replace(&mut whole, &one, i64::from(SIDE) * at as i64, 0);
        }
        whole.save(path).unwrap();
    }
    written
}

fn infer(path: &Path, more: &[&str]) -> Ran {
    let args = ["infer", path.to_str().unwrap(), "--mode", "never", "--output", "jsonl"];
    run("millgate-edge", &[&args[..], more].concat())
}

#[test]
fn a_region_is_decided_as_the_picture_that_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let (normal, open) = (board("deeppcb/normal"), board("deeppcb/open"));
    let panel = panel(dir.path(), "panel.png", &[normal, open.clone()]);
    let cut = infer(&panel, &["--region", "64,0,64,64"]).lines().remove(0);
    let alone = infer(&open[0], &[]).lines().remove(0);
    assert_eq!(cut["probabilities"], alone["probabilities"]);
    assert_eq!(cut["verdict"], alone["verdict"]);
    assert_eq!(cut["sample"]["region"], serde_json::json!([64, 0, 64, 64]));
    assert_eq!(cut["sample"]["regions"], 1);
    assert_eq!(alone["sample"]["region"], Value::Null);
    for (region, words) in [
        ("100,0,64,64", "100,0,64,64 is not inside the picture of 128 by 64 pixels"),
        ("0,0,4,4", "0,0,4,4 is smaller than 8 by 8 pixels"),
    ] {
        let ran = infer(&panel, &["--region", region]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stdout.contains(words), "{}", ran.stdout);
    }
}

#[test]
fn a_template_of_another_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let normal = board("deeppcb/normal");
    let panel = panel(dir.path(), "panel.png", &[normal.clone(), normal.clone()]);
    std::fs::copy(&normal[1], panel.with_extension("template.png")).unwrap();
    let ran = infer(&panel, &["--region", "0,0,64,64"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stdout.contains("cannot be cut out of `template` too"), "{}", ran.stdout);
}

#[test]
fn a_source_decides_on_its_most_suspicious_region() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for folder in ["in", "state", "made"] {
        std::fs::create_dir(path(folder)).unwrap();
    }
    let source = format!(
        "[[sources]]\ntype = \"folder\"\nname = \"panels\"\npath = {:?}\ntemplates = \"wait\"\nlabels = [\"deeppcb\"]\n\
         false_alarms = 0.0\ntile = {SIDE}\nregions = [[0, 0, 64, 64], [64, 0, 64, 64], [128, 0, 64, 64]]\n\
         [recipe.labels]\n\"deeppcb/normal\" = \"accept\"\n\"deeppcb/open\" = \"reject\"\n",
        path("in")
    );
    EdgeToml::new(dir.path()).without_folder().offload("mode = \"never\"").more(source).write();
    let (normal, open) = (board("deeppcb/normal"), board("deeppcb/open"));
    let made = panel(&path("made"), "panel.png", &[normal.clone(), open.clone(), normal]);
    let _agent = EdgeProcess::start(&path("edge.toml"));
    std::fs::copy(made.with_extension("template.png"), path("in").join("panel.template.png")).unwrap();
    std::fs::copy(&made, path("in").join("panel.png")).unwrap();
    let text = || std::fs::read_to_string(path("decisions.jsonl")).unwrap_or_default();
    until("the panel is decided", || text().ends_with('\n'));
    let record: Value = serde_json::from_str(text().lines().next().unwrap()).unwrap();
    assert_eq!(record["sample"]["region"], serde_json::json!([64, 0, 64, 64]), "{record}");
    assert_eq!(record["sample"]["regions"], 3);
    assert_ne!(record["disposition"], "accept", "{record}");
    let alone = infer(&open[0], &["--labels", "deeppcb", "--false-alarms", "0"]).lines().remove(0);
    assert_eq!(record["probabilities"], alone["probabilities"]);
}

async fn ask(address: &str, parts: Vec<Part>) -> Result<Decision, Status> {
    let mut client = InferenceServiceClient::connect(address.to_owned()).await.unwrap();
    let sample = Sample { task: "inspect".to_owned(), parts, ..Default::default() };
    let request = DecideRequest { sample: Some(sample), ..Default::default() };
    client.decide(request).await.map(|response| response.into_inner().decision.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_regions_and_tiles_at_the_pool() {
    let dir = tempfile::tempdir().unwrap();
    let (normal, open) = (board("deeppcb/normal"), board("deeppcb/open"));
    let panel = panel(dir.path(), "panel.png", &[normal, open.clone()]);
    let files = |path: &Path| [path.to_path_buf(), path.with_extension("template.png")];
    let parts = |path: &Path, attributes: &[(&str, &str)]| {
        let both = ["image", "template"].into_iter().zip(files(path));
        let with = |(name, file): (&str, PathBuf)| Part {
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..part(name, std::fs::read(file).unwrap())
        };
        both.map(with).collect::<Vec<_>>()
    };
    let pool = pool().await;
    let address = url(&pool);
    let cut = ask(&address, parts(&panel, &[("region", "64,0,64,64")])).await.unwrap();
    let alone = ask(&address, parts(&open[0], &[])).await.unwrap();
    assert_eq!(cut.verdict.unwrap().label, alone.verdict.unwrap().label);
    for (label, probability) in &alone.probabilities {
        let got = cut.probabilities.get(label).copied().unwrap_or_default();
        assert!((got - probability).abs() < 1e-4, "{label}: {got}, alone {probability}");
    }
    let sample = cut.sample.unwrap();
    assert_eq!((sample.region, sample.regions), (vec![64, 0, 64, 64], 1));
    let tiled = ask(&address, parts(&panel, &[("tile", "64")])).await.unwrap().sample.unwrap();
    assert!(tiled.regions >= 2 && tiled.region[2..] == [64, 64], "{tiled:?}");
    for (attribute, value, words) in [
        ("region", "100,0,64,64", "is not inside the picture"),
        ("region", "left", "is not left,top,width,height"),
        ("tile", "many", "is no number of pixels"),
    ] {
        let refused = ask(&address, parts(&panel, &[(attribute, value)])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused:?}");
        assert!(refused.message().contains(&format!("attributes.{attribute}")), "{refused:?}");
    }
}
