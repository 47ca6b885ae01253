//! What waits in the spool while the line is cut is under the same policy: of now, and of when it goes.

use std::path::Path;
use std::time::Instant;

use millgate_demo::link::Link;
use millgate_edge::config::EdgeConfig;
use millgate_edge::service::Service;
use millgate_shared::shutdown::Tasks;
use system_tests::edge_process::EdgeToml;
use system_tests::recorder::Recorder;
use system_tests::{PATIENCE, features, pool_with, recorded_of};

use super::{leaks, secrets};

fn config(dir: &Path, bundle: &Path, link: &Link, send: &str) -> EdgeConfig {
    let cloud = link.addr();
    let offload = format!(
        "cloud = \"http://{cloud}\"\nmode = \"always\"\ndeadline = \"300ms\"\nsend.default = \"{send}\""
    );
    let text = EdgeToml::new(dir).bundle(bundle).offload(offload).text();
    EdgeConfig::parse("edge.toml", &text).unwrap()
}

/// How many records are in a state.
fn count(dir: &Path, state: &str) -> usize {
    let text = std::fs::read_to_string(dir.join("decisions.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("\"state\":\"{state}\""))).count()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_features_nothing_of_a_picture_crosses_the_line_later_either() {
    let (tasks, dir, bundle) = (Tasks::new(), tempfile::tempdir().unwrap(), features::bundle());
    let path = bundle.path().to_path_buf();
    let pool = pool_with(|config| config.bundle = path.clone()).await;
    let recorder = Recorder::start(pool.grpc_addr(), &tasks).await;
    let link = Link::start(recorder.addr(), &tasks).await.unwrap();
    let folder = dir.path().join("in");
    std::fs::create_dir(&folder).unwrap();
    link.cut_hard();
    let put = |name: &str, product: &str| {
        let samples = recorded_of(product, 4);
        for (at, sample) in samples.iter().enumerate() {
            std::fs::copy(&sample.path, folder.join(format!("{name}{at}.png"))).unwrap();
        }
        samples.into_iter().flat_map(|sample| secrets(&sample.path)).collect::<Vec<_>>()
    };

    // Kept under `raw`, and gone up under `features`: not at all.
    let service = Service::start(config(dir.path(), &path, &link, "raw")).await.unwrap();
    let mut hidden = put("raw", "xsdd");
    until("each is decided", || count(dir.path(), "provisional") == 4).await;
    service.drain().await;

    let service = Service::start(config(dir.path(), &path, &link, "features")).await.unwrap();
    hidden.extend(put("features", "deeppcb"));
    until("each is decided", || count(dir.path(), "provisional") + count(dir.path(), "final") >= 8).await;
    let features_only = count(dir.path(), "provisional") - 4;
    link.restore();
    assert!(features_only > 0, "the expert that takes features is wanted");
    until("each that may be is amended", || count(dir.path(), "amended") >= features_only).await;
    service.drain().await;
    assert_eq!(count(dir.path(), "amended"), features_only);
    for request in recorder.requests() {
        assert!(request.parts.is_empty());
        assert!(request.tensors.iter().all(|tensor| tensor.name == "embedding"));
    }
    assert!(!leaks(&hidden, &recorder.bytes()));
    drop(pool);
}
