//! The line to the pool over real sockets: raced, blocked, cut, proxied, hedged, and found again.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use millgate_demo::link::Link;
use millgate_edge::metrics::Metrics;
use millgate_edge::uplink::session::LinkState;
use millgate_edge::uplink::{Allowed, Pools, Uplink};
use millgate_shared::deciding::Mode;
use millgate_shared::decision::{Decision, Missing};
use millgate_shared::metrics::Format;
use millgate_shared::shutdown::Tasks;
use system_tests::enrolled::{Device, TlsPool, tls_pool_with};
use system_tests::line::relay::Relay;
use system_tests::{PATIENCE, TestAgent, agent_of, pool_with, recorded_of, url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

mod bad_line;

/// One decision that wants the pool.
async fn decide(agent: &TestAgent) -> Decision {
    agent.decide(&recorded_of("deeppcb", 1)[0].path).await
}

fn node(decision: &Decision) -> Option<&str> {
    decision.experts.iter().find_map(|expert| expert.place.strip_prefix("cloud:"))
}

fn missing(decision: &Decision) -> Option<Missing> {
    decision.degraded.as_ref().map(|degraded| degraded.reason)
}

/// Decides until `is_enough`.
async fn until(agent: &TestAgent, is_enough: impl Fn(&Decision) -> bool) -> Decision {
    let deciding = async {
        loop {
            let decision = decide(agent).await;
            if is_enough(&decision) {
                return decision;
            }
        }
    };
    tokio::time::timeout(PATIENCE, deciding).await.expect("it never came")
}

async fn until_up(agent: &TestAgent, is_wanted: impl Fn(LinkState) -> bool) {
    let waiting = async {
        while !is_wanted(agent.agent.link()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never came");
}

/// Waits until the line is up, or until it is not.
async fn until_link(uplink: &Uplink, is_up: bool) {
    let mut link = uplink.subscribe();
    let waiting = link.wait_for(|link| (*link == LinkState::Up) == is_up);
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never came").expect("the uplink lives");
}

/// A metric's line, its value.
fn counted(agent: &TestAgent, metrics: &Metrics, name: &str, labels: &[&str]) -> f64 {
    let page = metrics.render(&agent.agent, Format::Classic);
    let lines = page.lines().filter(|line| {
        line.starts_with(&format!("millgate_uplink_{name}"))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn metrics(agent: &TestAgent) -> Metrics {
    let device = Device::new();
    Metrics::of(&device.identity(), &agent.agent)
}

async fn tls_pool(node: &str) -> TlsPool {
    tls_pool_with(|config, _| config.node = node.to_owned()).await
}

fn pools(at: SocketAddr, device: &Device) -> Pools {
    Pools { identity: Some(device.identity()), ..Pools::from(format!("https://{at}")) }
}

fn always(config: &mut millgate_edge::agent::AgentConfig) {
    config.mode = Mode::Always;
    config.deadline = Duration::from_secs(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_is_taken_where_it_works_and_tcp_where_udp_is_blocked() {
    let tls = tls_pool("one").await;
    let device = tls.device("acme", "cam-1").await;
    let tasks = Tasks::new();
    let relay = Relay::start(tls.pool.grpc_addr(), 1, &tasks).await.unwrap();

    let agent = agent_of(pools(relay.addr(), &device), always).await;
    until(&agent, |decision| node(decision) == Some("one")).await;
    let counts = metrics(&agent);
    // TCP begins a little later; on a busy machine it may yet be first, and QUIC takes over as the better one.
    until(&agent, |_| counted(&agent, &counts, "line_up", &["quic"]) == 1.0).await;
    assert_eq!(counted(&agent, &counts, "line_up", &["tcp"]), 0.0);

    // UDP goes away under a line that works: TCP takes over, and no decision is without an answer for longer than the
    // silence takes to be noticed.
    relay.block_udp(true);
    until(&agent, |_| counted(&agent, &counts, "line_up", &["tcp"]) == 1.0).await;
    until(&agent, |decision| node(decision) == Some("one")).await;

    // An agent that starts now finds TCP, and remembers it.
    let state = tempfile::tempdir().unwrap();
    let remembering = Pools { state_dir: Some(state.path().to_owned()), ..pools(relay.addr(), &device) };
    let second = agent_of(remembering, always).await;
    until(&second, |decision| node(decision) == Some("one")).await;
    assert_eq!(counted(&second, &metrics(&second), "line_up", &["tcp"]), 1.0);
    let remembered = || std::fs::read_to_string(state.path().join("uplink.json")).unwrap_or_default();
    until(&second, |_| remembered().contains("tcp")).await;

    // A transport that is asked for by name is the only one that is tried.
    let quic = Pools { transport: Allowed::Quic, ..pools(relay.addr(), &device) };
    let only = agent_of(quic, |config| {
        always(config);
        config.deadline = Duration::from_millis(500);
    })
    .await;
    assert_eq!(missing(&decide(&only).await), Some(Missing::Offline));
    relay.block_udp(false);
    until(&only, |decision| node(decision) == Some("one")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_back_after_a_cut_answers_soon() {
    let tls = tls_pool("one").await;
    let device = tls.device("acme", "cam-1").await;
    let tasks = Tasks::new();
    let relay = Relay::start(tls.pool.grpc_addr(), 2, &tasks).await.unwrap();
    for transport in [Allowed::Quic, Allowed::Tcp] {
        let pools = Pools { transport, ..pools(relay.addr(), &device) };
        let agent = agent_of(pools, |config| {
            config.mode = Mode::Always;
            config.deadline = Duration::from_secs(1);
        })
        .await;
        until(&agent, |decision| node(decision).is_some()).await;
        relay.cut();
        until(&agent, |decision| missing(decision) == Some(Missing::Offline)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        relay.restore();
        let restored = Instant::now();
        until_up(&agent, |link| link == LinkState::Up).await;
        let up = restored.elapsed();
        until(&agent, |decision| node(decision).is_some()).await;
        println!("{transport:?}: up {up:?}, first answer {:?} after the line is back", restored.elapsed());
        // The goal is 150 ms; a machine that runs other tests beside this one is given more.
        assert!(restored.elapsed() < Duration::from_secs(3), "{:?}", restored.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_first_pool_leaves_all_to_the_second_and_is_used_again_when_it_is_back() {
    let pool = pool_with(|config| config.node = "one".to_owned()).await;
    let other = pool_with(|config| config.node = "two".to_owned()).await;
    let tasks = Tasks::new();
    let link = Link::start(pool.grpc_addr(), &tasks).await.unwrap();
    let urls = vec![format!("http://{}", link.addr()), url(&other)];
    let agent = agent_of(Pools { urls, ..Pools::default() }, always).await;
    until(&agent, |decision| node(decision) == Some("one")).await;
    // Reset: the call goes on elsewhere, and none is lost.
    link.cut_hard();
    for _ in 0..20 {
        assert_eq!(node(&decide(&agent).await), Some("two"));
    }
    link.restore();
    until(&agent, |decision| node(decision) == Some("one")).await;
    // Silent: those in flight are sent to the second when the first gives no sign of life.
    link.cut();
    for _ in 0..20 {
        assert_eq!(node(&decide(&agent).await), Some("two"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlasts_a_cut_that_its_deadline_outlasts() {
    let pool = pool_with(|config| config.node = "one".to_owned()).await;
    let tasks = Tasks::new();
    let link = Link::start(pool.grpc_addr(), &tasks).await.unwrap();
    let agent = agent_of(Pools::from(format!("http://{}", link.addr())), |config| {
        always(config);
        config.deadline = PATIENCE;
    })
    .await;
    until(&agent, |decision| node(decision) == Some("one")).await;
    link.cut();
    let restored = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        link.restore();
    };
    let (decision, ()) = tokio::join!(decide(&agent), restored);
    assert_eq!(node(&decision), Some("one"));
}

/// What a proxy does with CONNECT.
#[derive(Clone, Copy)]
enum Door {
    Open,
    Login,
}

/// A proxy that relays what it connects; gives its address.
async fn proxy(door: Door, tasks: &Tasks) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let inner = tasks.clone();
    tasks.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            inner.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                // me:secret
                if matches!(door, Door::Login) && !head.contains("Basic bWU6c2VjcmV0") {
                    return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let mut server = TcpStream::connect(target).await?;
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_gone_through_with_its_login() {
    let tls = tls_pool("one").await;
    let device = tls.device("acme", "cam-1").await;
    let tasks = Tasks::new();
    for (door, login, works) in
        [(Door::Open, "", true), (Door::Login, "me:secret@", true), (Door::Login, "me:wrong@", false)]
    {
        let proxy = Some(format!("http://{login}{}", proxy(door, &tasks).await));
        let pools = Pools { proxy, transport: Allowed::Tcp, ..pools(tls.pool.grpc_addr(), &device) };
        let agent = agent_of(pools, always).await;
        let decision = decide(&agent).await;
        assert_eq!(node(&decision), works.then_some("one"), "{login}");
        agent.tasks.stop();
    }
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_accepts_and_says_nothing_costs_no_sample_anything() {
    // A half-open peer: the kernel accepts, nobody answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let good = pool_with(|config| config.node = "two".to_owned()).await;
    let urls = vec![format!("http://{}", silent.local_addr().unwrap()), url(&good)];
    let agent = agent_of(Pools { urls, ..Pools::default() }, always).await;
    until_up(&agent, |link| link == LinkState::Up).await;
    for _ in 0..5 {
        let decision = decide(&agent).await;
        assert_eq!((node(&decision), missing(&decision)), (Some("two"), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_transport_works_and_why_not() {
    let tls = tls_pool("one").await;
    let device = tls.device("acme", "cam-1").await;
    let tasks = Tasks::new();
    let relay = Relay::start(tls.pool.grpc_addr(), 3, &tasks).await.unwrap();
    relay.block_udp(true);
    let tried =
        millgate_edge::uplink::try_each(&pools(relay.addr(), &device), Duration::from_secs(10), &tasks)
            .await
            .unwrap();
    let said: Vec<(&str, Option<&String>)> =
        tried.iter().map(|tried| (tried.transport.as_str(), tried.result.as_ref().err())).collect();
    assert!(matches!(said[..], [("quic", Some(_)), ("tcp", None)]), "{said:?}");
    // Nobody it knows has signed that pool.
    let stranger = Device::new();
    let tried = millgate_edge::uplink::try_each(&pools(tls.pool.grpc_addr(), &stranger), PATIENCE, &tasks)
        .await
        .unwrap();
    for tried in tried {
        let error = tried.result.unwrap_err();
        assert!(error.contains("certificate") || error.contains("authority"), "{error}");
    }
}
