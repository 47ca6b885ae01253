use std::collections::BTreeMap;
use std::path::Path;

use millgate_shared::deciding::Mode;

use super::*;
use crate::agent::{Agent, AgentConfig, Ask, BytesConfig};
use crate::input::Input;
use crate::input::naming::tests::factory;
use crate::sink::{self, JsonlConfig, SinkConfig};

const DEADLINE: Duration = Duration::from_millis(60);

/// An agent without a pool, and a sample whose risk nothing here is certified for.
fn provisional(tasks: &Tasks) -> (Agent, Input) {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/factory");
    let input = Input::from_file(&bundle.join("golden/steel-red-iron.png"), &factory(), &[], None).unwrap();
    let config = AgentConfig {
        bundle,
        cloud: None,
        task: "inspect".to_owned(),
        mode: Mode::Confidence,
        risk: Some(0.000_1),
        deadline: Duration::from_secs(20),
        grace: Duration::ZERO,
        threads: 1,
        queue: 4,
        bytes: BytesConfig::default(),
        bit_depths: BTreeMap::new(),
        wishes: Default::default(),
        engine: crate::engines::usual(),
    };
    (Agent::start(config, tasks).unwrap(), input)
}

fn outbox(dir: &Path, spool: Option<Spool>, tasks: &Tasks) -> Outbox {
    let sinks = [SinkConfig::Jsonl(JsonlConfig::new(dir.join("decisions.jsonl")))];
    let sinks = Sinks::open(
        &sinks,
        8,
        &std::collections::HashSet::new(),
        &sink::Told::default(),
        &sink::Counts::default(),
        |_| (),
    )
    .unwrap();
    Outbox::new(sinks, None, spool, Tidy::default(), &Hand::default(), Counts::default(), tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_no_answer_and_few_samples() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let (agent, input) = provisional(&tasks);
    let (spool, _held) = Spool::hung();
    let outbox = outbox(dir.path(), Some(spool), &tasks);
    for at in 0..KEEPING + 2 {
        let decided = agent.decide_open(&agent.epoch(), input.clone(), Ask::default(), None).await.unwrap();
        assert!(decided.late.is_some());
        let began = Instant::now();
        // The first is waited for; those that follow have no time left.
        let by = began + if at == 0 { DEADLINE } else { Duration::ZERO };
        let decision = outbox.call(decided, Some(by)).await;
        assert_eq!(decision.degraded.unwrap().later, Some(Later::Disk));
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }
    assert_eq!(outbox.0.keeping.available_permits(), 0);
    assert_eq!(outbox.0.calls.available_permits(), CALLS - KEEPING);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_callers_time_a_little_is_for_the_disk_if_there_is_a_spool() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let with = outbox(dir.path(), Some(Spool::hung().0), &tasks);
    assert_eq!(with.keeps_back(Duration::from_secs(5)), KEPT_BACK);
    assert_eq!(with.keeps_back(Duration::from_millis(80)), Duration::from_millis(10));
    assert_eq!(outbox(dir.path(), None, &tasks).keeps_back(Duration::from_secs(5)), Duration::ZERO);
}
