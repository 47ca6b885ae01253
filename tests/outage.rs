//! What a pool that refuses, hangs, or vanishes costs a sample.

use std::time::{Duration, Instant};

use millgate_demo::link::Link;
use millgate_edge::uplink::session::LinkState;
use millgate_shared::deciding::Mode;
use millgate_shared::decision::{Decision, Missing};
use millgate_shared::shutdown::Tasks;
use system_tests::{PATIENCE, TestAgent, agent, agent_with, pool, recorded_of, url};
use tokio::net::TcpListener;

/// What a decision may take beyond its deadline on a loaded machine before we call it late.
const SLACK: Duration = Duration::from_secs(2);

fn is_cloud(decision: &Decision) -> bool {
    decision.experts.iter().any(|expert| expert.place.starts_with("cloud:"))
}

fn missing(decision: &Decision) -> Option<Missing> {
    decision.degraded.as_ref().map(|degraded| degraded.reason)
}

async fn decide_one(agent: &TestAgent) -> Decision {
    agent.decide(&recorded_of("deeppcb", 1)[0].path).await
}

/// Decides until `is_enough`, without waiting in between.
async fn decide_until(agent: &TestAgent, is_enough: impl Fn(&Decision) -> bool) -> Decision {
    let deciding = async {
        loop {
            let decision = decide_one(agent).await;
            if is_enough(&decision) {
                return decision;
            }
        }
    };
    tokio::time::timeout(PATIENCE, deciding).await.expect("it never came")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_refuses_costs_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let agent = agent(Some(format!("http://{address}")), Mode::Always).await;
    assert!(matches!(agent.agent.link(), LinkState::Down { .. }));
    assert_eq!(missing(&decide_one(&agent).await), Some(Missing::Offline));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_hangs_costs_at_most_the_deadline() {
    // Accepts by the kernel's backlog, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let deadline = Duration::from_millis(600);
    let tasks = Tasks::new();
    let agent = {
        let config = millgate_edge::agent::AgentConfig {
            bundle: system_tests::bundle(),
            cloud: Some(url.into()),
            task: "inspect".to_owned(),
            mode: Mode::Always,
            risk: None,
            deadline,
            grace: Duration::from_millis(10),
            threads: 1,
            queue: 8,
            bytes: millgate_edge::agent::BytesConfig::default(),
            bit_depths: std::collections::BTreeMap::new(),
            wishes: Default::default(),
            engine: millgate_edge::engines::usual(),
        };
        // Not settled: the first sample comes while the first dial still hangs.
        TestAgent { agent: millgate_edge::agent::Agent::start(config, &tasks).unwrap(), tasks: tasks.clone() }
    };
    let started = Instant::now();
    let decision = decide_one(&agent).await;
    assert!(missing(&decision).is_some());
    assert!(started.elapsed() < deadline + SLACK, "{:?}", started.elapsed());
    // The dial has a bound, too: a call that waited for it is told so, and those after it are refused at once.
    let is_refused =
        |decision: &Decision| missing(decision) == Some(Missing::Offline) && decision.uplink_bytes == 0;
    decide_until(&agent, is_refused).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_costs_a_few_deadlines_then_nothing_and_the_line_comes_back() {
    let pool = pool().await;
    let tasks = Tasks::new();
    let link = Link::start(pool.grpc_addr(), &tasks).await.unwrap();
    let agent = agent_with(Some(format!("http://{}", link.addr())), |config| {
        config.mode = Mode::Always;
        config.deadline = Duration::from_millis(300);
    })
    .await;
    decide_until(&agent, is_cloud).await;

    link.cut();
    let decision = decide_until(&agent, |decision| missing(decision) == Some(Missing::Offline)).await;
    assert!(!is_cloud(&decision));
    // The line is known to be down: no sample waits for it any more.
    for _ in 0..50 {
        let decision = decide_one(&agent).await;
        assert_eq!(missing(&decision), Some(Missing::Offline));
        assert_eq!(decision.timings_us.uplink, 0);
    }

    link.restore();
    decide_until(&agent, is_cloud).await;
    tasks.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_restarts_is_found_again() {
    let first = pool().await;
    let address = first.grpc_addr();
    let agent = agent(Some(url(&first)), Mode::Always).await;
    decide_until(&agent, is_cloud).await;
    first.drain(Duration::from_millis(100)).await;
    decide_until(&agent, |decision| missing(decision) == Some(Missing::Offline)).await;
    let _second = system_tests::pool_with(|config| config.grpc = address).await;
    decide_until(&agent, is_cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_with_another_bundle_is_not_asked() {
    let other = system_tests::broken::Copy::new().manifest("version = \"", "version = \"9.");
    let pool = system_tests::pool_with(|config| config.bundle = other.path().to_path_buf()).await;
    let agent = agent(Some(url(&pool)), Mode::Always).await;
    let decision = decide_one(&agent).await;
    assert_eq!(missing(&decision), Some(Missing::Offline));
}
