//! What a lost pool costs, how soon it is asked again after a cut, and what a change of address breaks; over QUIC and over
//! TCP, with TLS and an enrolled device, on the bad line of the tests.
//!
//! `cargo bench -p system-tests --bench outage` as root prints the tables for `docs/benchmarks.md`; `SEED=2` draws other
//! moments, `ROUNDS=20` repeats more often.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millgate_cloud::server::Running;
use millgate_edge::identity::Identity;
use millgate_edge::identity::IdentityConfig;
use millgate_edge::uplink::session::LinkState;
use millgate_edge::uplink::{Allowed, Pools};
use millgate_shared::deciding::Mode;
use millgate_shared::decision::{Decision, Missing, State};
use system_tests::line::{Line, Weather};
use system_tests::{TestAgent, agent_with, pool_with, recorded_of, run};
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_millis(500);
/// The line when nothing is wrong: 40 ms there and back, 20 Mbit/s.
const DELAY: Duration = Duration::from_millis(20);
const RATE: u64 = 20_000_000;
const LOST_FOR: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(50);
const CUT: Duration = Duration::from_secs(5);
/// What a peer's client blocks each call for, by its own documentation; not measured here.
const YARDSTICK: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let number = |name: &str, or| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (seed, rounds) = (number("SEED", 1), number("ROUNDS", 10) as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut out = std::io::stdout();
    let mut print = |line: &str| writeln!(out, "{line}").expect("standard output");
    let transports = [("QUIC", Allowed::Quic), ("TCP", Allowed::Tcp)];

    print(
        "| 60 s without the pool | calls in flight: added, max (of) | after the breaker opened: added p50 / p99 / max (of) |",
    );
    print("|---|---|---|");
    for (name, transport) in transports {
        print(&runtime.block_on(lost(name, transport, seed)));
    }
    let calls = LOST_FOR.as_secs() / YARDSTICK.as_secs();
    print(&format!(
        "| a client that blocks {YARDSTICK:?} each | {YARDSTICK:?} (all {calls} calls it gets through) | never opens |"
    ));

    print("\n| first answer after a 5 s cut | median | max | rounds |");
    print("|---|---|---|---|");
    for (name, transport) in transports {
        print(&runtime.block_on(cut(name, transport, seed, rounds)));
    }

    print("\n| change of address, 40 calls a second | calls failed | next answer, median | max | rounds |");
    print("|---|---|---|---|---|");
    for (name, transport) in transports {
        print(&runtime.block_on(moved(name, transport, seed, rounds)));
    }
}

/// An agent, its pool, and the line.
struct Stand {
    agent: Arc<TestAgent>,
    line: Line,
    picture: PathBuf,
    _pool: Running,
    _dir: tempfile::TempDir,
}

impl Stand {
    async fn build(transport: Allowed, seed: u64) -> Self {
        let line = Line::open_here(seed).expect("a line; are you root?");
        let dir = tempfile::tempdir().expect("a directory");
        let target = line.target_ip();
        let pool = pool_with(|config| {
            config.grpc = (line.pool_ip(), 0).into();
            config.state_dir = dir.path().join("pool");
            config.tls.enabled = Some(true);
            config.tls.names = vec![target.to_string()];
        })
        .await;
        let url = format!("https://{target}:{}", pool.grpc_addr().port());
        let identity = enrolled(dir.path().to_path_buf(), url.clone()).await;
        line.set(Weather { delay: DELAY, rate: Some(RATE), ..Weather::default() });
        let pools = Pools { urls: vec![url], transport, identity: Some(identity), ..Pools::default() };
        let agent = agent_with(None, |config| {
            config.cloud = Some(pools);
            config.mode = Mode::Always;
            config.deadline = DEADLINE;
        })
        .await;
        let picture = recorded_of("deeppcb", 1).remove(0).path;
        let stand = Self { agent: Arc::new(agent), line, picture, _pool: pool, _dir: dir };
        stand.until_cloud().await;
        stand
    }

    async fn decide(&self) -> Decision {
        self.agent.decide(&self.picture).await
    }

    /// Decides until the pool has answered; gives how long that took.
    async fn until_cloud(&self) -> Duration {
        let begun = Instant::now();
        loop {
            if self.decide().await.state == State::Final {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "the pool never answered");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn enrolled(dir: PathBuf, url: String) -> Identity {
    let enrol = move || {
        let at = |name: &str| dir.join(name).display().to_string();
        let made = run("millgate-cloud", &["enroll-token", "--state-dir", &at("pool"), "--device", "cam-1"]);
        let token = made.stdout.trim().to_owned();
        let args =
            ["enroll", "--pool", &url, "--token", &token, "--device", "cam-1", "--dir", &at("identity")];
        let enrolled = run("millgate-edge", &args);
        assert_eq!(enrolled.code, 0, "{} {}", made.stderr, enrolled.stderr);
        let config = IdentityConfig { dir: dir.join("identity"), ca: Vec::new() };
        Identity::open(&config).expect("an identity")
    };
    tokio::task::spawn_blocking(enrol).await.expect("it enrols")
}

/// What the pool's absence adds: a decision's time less what its own device needed of it.
fn added(decision: &Decision) -> Duration {
    let times = &decision.timings_us;
    let own = times.decode + times.encode + times.gate + times.local + times.combine;
    Duration::from_micros(times.total.saturating_sub(own))
}

/// One decision each 50 ms for a minute after the line was cut; the same decision without a pool is the yardstick for what
/// the hops between threads cost anyway.
async fn lost(name: &str, transport: Allowed, seed: u64) -> String {
    let stand = Stand::build(transport, seed).await;
    let alone = agent_with(None, |config| config.mode = Mode::Never).await;
    let mut bare = Vec::new();
    for _ in 0..200 {
        bare.push(added(&alone.decide(&stand.picture).await));
    }
    let anyway = at(&mut bare, 0.5);
    stand.line.cut();
    let (mut in_flight, mut after) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < LOST_FOR {
        tokio::time::sleep_until((begun + EVERY * number).into()).await;
        number += 1;
        let is_open = matches!(stand.agent.agent.link(), LinkState::Down { .. });
        let decision = stand.decide().await;
        let took = added(&decision).saturating_sub(anyway);
        let is_refused = decision.degraded.as_ref().is_some_and(|it| it.reason == Missing::Offline);
        if is_open && is_refused { after.push(took) } else { in_flight.push(took) }
    }
    let most = |times: &mut Vec<Duration>| at(times, 1.0);
    format!(
        "| {name}, deadline {DEADLINE:?} | {:.0?} ({}) | {:.2?} / {:.2?} / {:.2?} ({}) |",
        most(&mut in_flight),
        in_flight.len(),
        at(&mut after, 0.5),
        at(&mut after, 0.99),
        most(&mut after),
        after.len(),
    )
}

async fn cut(name: &str, transport: Allowed, seed: u64, rounds: usize) -> String {
    let stand = Stand::build(transport, seed).await;
    let mut times = Vec::new();
    for _ in 0..rounds {
        stand.line.cut();
        let begun = Instant::now();
        // Samples go on coming, as on any line.
        while begun.elapsed() < CUT {
            stand.decide().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stand.line.restore();
        times.push(stand.until_cloud().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let rounds = times.len();
    format!("| {name} | {:.0?} | {:.0?} | {rounds} |", at(&mut times, 0.5), at(&mut times, 1.0))
}

async fn moved(name: &str, transport: Allowed, seed: u64, rounds: usize) -> String {
    let stand = Arc::new(Stand::build(transport, seed).await);
    let (mut failed, mut calls, mut times) = (0, 0, Vec::new());
    for _ in 0..rounds {
        let is_over = Arc::new(AtomicBool::new(false));
        let calling = {
            let (stand, is_over) = (Arc::clone(&stand), Arc::clone(&is_over));
            async move {
                let mut under_way = JoinSet::new();
                let mut pace = tokio::time::interval(Duration::from_millis(25));
                while !is_over.load(Ordering::SeqCst) {
                    pace.tick().await;
                    let stand = Arc::clone(&stand);
                    under_way.spawn(async move { (Instant::now(), stand.decide().await, Instant::now()) });
                }
                under_way.join_all().await
            }
        };
        let moving = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            stand.line.change_address().expect("another address");
            let moved_at = Instant::now();
            tokio::time::sleep(Duration::from_secs(4)).await;
            is_over.store(true, Ordering::SeqCst);
            moved_at
        };
        let (answers, moved_at) = tokio::join!(calling, moving);
        calls += answers.len();
        failed += answers.iter().filter(|(_, decision, _)| decision.state != State::Final).count();
        let next =
            answers.iter().filter(|(begun, decision, _)| *begun > moved_at && decision.state == State::Final);
        let next = next.map(|(_, _, ended)| *ended - moved_at).min();
        times.push(next.unwrap_or(PATIENCE));
        stand.until_cloud().await;
    }
    let rounds = times.len();
    format!(
        "| {name} | {failed} of {calls} | {:.0?} | {:.0?} | {rounds} |",
        at(&mut times, 0.5),
        at(&mut times, 1.0)
    )
}

/// A quantile; the list is sorted by it.
fn at(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((share * last as f64).round() as usize).copied().unwrap_or_default()
}
