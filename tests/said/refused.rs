//! A pool that turns the device away is no outage: it is said, counted, and named by `check`.

use super::*;
use millgate_shared::identity::DeviceName;
use millgate_shared::proto::v1::ListExpertsRequest;
use system_tests::PATIENCE;
use system_tests::enrolled::{now, tls_pool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_revoked_says_so_and_comes_back_when_it_is_restored() {
    let tls = tls_pool().await;
    let device = tls.device("acme", "cam-1").await;
    let name = DeviceName::new("acme", "cam-1").unwrap();
    let set = |revoked| millgate_cloud::identity::devices::set_revoked(&tls.state(), &name, revoked).unwrap();
    let (dir, admin, url) = (tempfile::tempdir().unwrap(), free_port(), tls.pool.url());
    let pool = format!(
        "[offload]\ncloud = \"{url}\"\nmode = \"always\"\n[identity]\ndir = {:?}\n{}",
        device.dir.path(),
        folder(dir.path())
    );
    let config = config(dir.path(), admin, &pool);
    let agent = Process::logged("millgate-edge", &["run", "--config", &config]);
    wait_until_up(admin);
    let denied = format!("millgate_uplink_pool_refuses{{pool=\"{url}\",reason=\"denied\"}}");
    until("the line is up", || metric(admin, "millgate_link_up") == 1.0);
    assert_eq!(metric(admin, &denied), 0.0);

    // It is silent, and learns it all the same.
    assert!(set(Some(now())));
    until("it is counted", || metric(admin, "millgate_link_up") == 0.0 && metric(admin, &denied) == 1.0);
    let said = |agent: &Process| agent.log().matches("of no use until somebody acts").count();
    until("it is in the log", || said(&agent) > 0);
    for words in ["acme/cam-1 is revoked", "denied", "devices restore"] {
        assert!(agent.log().contains(words), "{words}: {}", agent.log());
    }
    let check = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || run("millgate-edge", &["check", "--config", &config]))
            .await
            .unwrap()
    };
    assert_eq!(check.code, 1, "{}", check.stdout);
    assert!(check.stdout.contains("acme/cam-1 is revoked"), "{}", check.stdout);
    assert!(check.stdout.contains("devices restore"), "{}", check.stdout);
    assert!(!check.stdout.contains("is UDP open"), "{}", check.stdout);
    // Dialled again and again meanwhile, and said once.
    assert_eq!(said(&agent), 1, "{}", agent.log());

    std::fs::copy(&recorded_of("deeppcb", 1)[0].path, dir.path().join("in/part.png")).unwrap();
    let decided = dir.path().join("decisions.jsonl");
    until("it decides alone", || lines(&decided).len() == 1);
    assert_eq!(lines(&decided)[0]["state"], "provisional");

    assert!(set(None));
    until("it is back", || metric(admin, "millgate_link_up") == 1.0 && metric(admin, &denied) == 0.0);
    assert_eq!(agent.end(Signal::TERM).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infer_does_not_wait_for_a_pool_that_turns_the_device_away() {
    let tls = tls_pool().await;
    let device = tls.device("acme", "cam-1").await;
    let name = DeviceName::new("acme", "cam-1").unwrap();
    let mut client = device.connect(&tls.pool).await;
    assert!(millgate_cloud::identity::devices::set_revoked(&tls.state(), &name, Some(now())).unwrap());
    tls.pool.reload();
    let refused = tokio::time::timeout(PATIENCE, async {
        while client.list_experts(ListExpertsRequest::default()).await.is_ok() {}
    });
    refused.await.expect("the pool knows it");
    let (url, identity) = (tls.pool.url(), device.dir.path().display().to_string());
    let picture = recorded_of("deeppcb", 1)[0].path.display().to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let args =
            infer(&url, &["--identity", &identity, "--wait-cloud", "10m", "--require-cloud", &picture]);
        run("millgate-edge", &args)
    });
    let ran = ran.await.unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("acme/cam-1 is revoked"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_bundle_is_named_by_a_metric_and_in_the_log() {
    let other = system_tests::broken::Copy::new().manifest("version = \"", "version = \"9.");
    let pool = pool_with(|config| config.bundle = other.path().to_path_buf()).await;
    let (dir, admin, url) = (tempfile::tempdir().unwrap(), free_port(), system_tests::url(&pool));
    let config = config(dir.path(), admin, &format!("[offload]\ncloud = \"{url}\"\n"));
    let agent = Process::logged("millgate-edge", &["run", "--config", &config]);
    wait_until_up(admin);
    let refuses = format!("millgate_uplink_pool_refuses{{pool=\"{url}\",reason=\"other_bundle\"}}");
    until("it is counted", || metric(admin, &refuses) == 1.0);
    until("it is said", || agent.log().contains("give both the same bundle"));
}
