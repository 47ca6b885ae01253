//! More connections than there are places, on every door of both programs, and requests that a browser makes for somebody
//! else's page.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use millgate_shared::proto::v1;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::enrolled::{connect, tls_pool_with};
use system_tests::{binary, bundle, pool_with, recorded_of};
use tempfile::TempDir;

use super::rest::{get, raw, request};

/// Both ends of each connection may be ours.
fn allow_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
    }
}

fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

async fn series(at: SocketAddr, name: &str) -> f64 {
    let page = String::from_utf8(get(at, "/metrics").await.body).unwrap();
    let line = page.lines().find(|line| line.starts_with(name));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_device_with_every_place_keeps_no_other_out() {
    const PLACES: usize = 32;
    let tls = tls_pool_with(|config, _| config.max_connections = PLACES).await;
    let (greedy, other) = (tls.device("acme", "cam-1").await, tls.device("acme", "cam-2").await);
    let guest = tls.device("beta", "press").await;
    let identity = greedy.identity();
    let (mut held, list) = (Vec::new(), v1::ListExpertsRequest::default);
    for _ in 0..4 * PLACES {
        let Ok(mut client) = connect(&identity, &tls.pool).await else { continue };
        if client.list_experts(list()).await.is_ok() {
            held.push(client);
        }
        if held.len() == PLACES {
            break;
        }
    }
    assert_eq!(held.len(), PLACES, "while nobody else wants them it has them all");
    for device in [&other, &guest] {
        for _ in 0..4 {
            let mut client = device.connect(&tls.pool).await;
            client.list_experts(list()).await.unwrap();
            held.push(client);
        }
    }
    let shared = "millgate_connections_refused_total{door=\"grpc\",reason=\"share\"}";
    assert!(series(tls.pool.metrics_addr(), shared).await >= 8.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_takes_no_place_of_those_who_do() {
    allow_files(4096);
    let tls = tls_pool_with(|config, _| config.max_connections = 2).await;
    let device = tls.device("acme", "cam-1").await;
    let _silent = (idle(tls.pool.grpc_addr(), 600), idle(tls.pool.http_addr(), 600));
    for _ in 0..3 {
        let mut client = device.connect(&tls.pool).await;
        client.list_experts(v1::ListExpertsRequest::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_to_the_operators_port_cost_nobody_anything() {
    allow_files(4096);
    let pool = pool_with(|_| {}).await;
    let _idle = idle(pool.metrics_addr(), 1200);
    for (at, path) in [
        (pool.http_addr(), "/v2/health/live"),
        (pool.http_addr(), "/v2/models/pcb-s"),
        (pool.metrics_addr(), "/healthz"),
        (pool.metrics_addr(), "/metrics"),
    ] {
        assert_eq!(get(at, path).await.status, 200, "{path}");
    }
    let open = series(pool.metrics_addr(), "millgate_connections{door=\"metrics\"}").await;
    assert!((1.0..=64.0).contains(&open), "{open}");
}

/// An agent with one watched folder, and what starts it.
fn agent(command: Command) -> (TempDir, EdgeProcess) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["in", "state"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let config = EdgeToml::new(dir.path()).write();
    (dir, EdgeProcess::start_by(command, &config))
}

/// Clients of HTTP/2 that begin, and ask for nothing.
fn greeting(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut all = idle(address, count);
    for tcp in &mut all {
        // One that has left already for another takes nothing.
        let _sent = tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").is_ok();
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_and_asks_for_nothing_keeps_nobody_out() {
    let pool = pool_with(|config| config.max_connections = 4).await;
    let _greeting = greeting(pool.grpc_addr(), 40);
    // All of them have come in, and all but four have left for another.
    let left = "millgate_connections_refused_total{door=\"grpc\",reason=\"quiet\"}";
    let all = async {
        while series(pool.metrics_addr(), left).await < 36.0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(system_tests::PATIENCE, all).await.expect("they leave for each other");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = system_tests::asking::client(&pool).await;
        system_tests::asking::metadata(&mut client, "pcb-s").await;
        clients.push(client);
    }
    for client in &mut clients {
        system_tests::asking::metadata(client, "pcb-s").await;
    }
}

fn decides_a_picture(dir: &Path) {
    let sample = &recorded_of("xsdd", 1)[0];
    std::fs::copy(&sample.path, dir.join("in/part.png")).unwrap();
    until("the picture is decided", || {
        let records = std::fs::read_to_string(dir.join("decisions.jsonl")).unwrap_or_default();
        records.contains("part.png") && records.contains("\"verdict\"")
    });
}

#[test]
fn idle_connections_to_an_agent_cost_it_no_picture() {
    allow_files(4096);
    let (dir, agent) = agent(Command::new(binary("millgate-edge")));
    let _idle = (idle(agent.grpc.unwrap(), 1100), idle(agent.admin.unwrap(), 300));
    decides_a_picture(dir.path());
    assert!(agent.http("GET", "/readyz", "").starts_with("HTTP/1.1 200"));
    until("those that say nothing leave for others", || {
        agent.http("GET", "/metrics", "").contains("millgate_connections_refused_total{door=\"api\",")
    });
}

#[test]
fn an_agent_with_few_descriptors_keeps_some_for_its_pictures() {
    allow_files(4096);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""]).arg(binary("millgate-edge"));
    let (dir, agent) = agent(command);
    assert!(agent.log().contains("fewer connections are let in"), "{}", agent.log());
    let _idle = (idle(agent.grpc.unwrap(), 1100), idle(agent.admin.unwrap(), 300));
    decides_a_picture(dir.path());
    assert!(agent.http("GET", "/healthz", "").starts_with("HTTP/1.1 200"));
}

/// What a browser sends with the form of a page of somebody else's.
const FORM: &str = "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_somebody_elses_unloads_no_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("mine/1")).unwrap();
    std::fs::copy(bundle().join("gate/1/model.onnx"), folder.path().join("mine/1/model.onnx")).unwrap();
    let pool = pool_with(|config| {
        config.model_repository = vec![folder.path().to_path_buf()];
        config.allowed_hosts = vec!["dash.example".to_owned()];
    })
    .await;
    let (at, unload) = (pool.http_addr(), "/v2/repository/models/mine/unload");
    for (headers, status) in [
        (FORM, 403),
        ("Origin: null\r\n", 403),
        ("Origin: http://localhost:3000\r\nContent-Type: text/plain;charset=UTF-8\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n", 403),
        ("Content-Type: text/plain\r\n", 415),
        ("User-Agent: Mozilla/5.0\r\nContent-Type: application/x-www-form-urlencoded\r\n", 415),
    ] {
        let answer = raw(at, &request("POST", unload, headers, b"a=b")).await;
        assert_eq!(answer.status, status, "{headers}: {}", answer.head);
        assert!(!answer.error().is_empty());
    }
    for host in ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"] {
        for (door, path, method) in
            [(at, unload, "POST"), (at, "/v2/models/mine", "GET"), (pool.metrics_addr(), "/metrics", "GET")]
        {
            let asked = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = raw(door, asked.as_bytes()).await;
            assert_eq!(answer.status, 421, "{host}{path}: {}", answer.head);
            assert!(String::from_utf8_lossy(&answer.body).contains("`allowed_hosts`"));
        }
    }
    // Health is for whoever asks; a listed name is one of ours; curl's form is a program's.
    let named =
        |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(at, named("evil.example", "/v2/health/ready").as_bytes()).await.status, 200);
    assert_eq!(raw(pool.metrics_addr(), named("evil.example", "/readyz").as_bytes()).await.status, 200);
    assert_eq!(raw(at, named("dash.example", "/v2/models/mine").as_bytes()).await.status, 200);
    assert_eq!(get(at, "/v2/models/mine/ready").await.status, 200, "it is still there");
    let curl = "User-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(raw(at, &request("POST", unload, curl, b"{}")).await.status, 200);
    let foreign = "millgate_foreign_requests_total{door=\"http\",reason=\"origin\"}";
    assert_eq!(series(pool.metrics_addr(), foreign).await, 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_somebody_elses_switches_no_meter() {
    let (_dir, agent) = agent(Command::new(binary("millgate-edge")));
    let at = agent.admin.unwrap();
    let put = |host: &str, headers: &str| {
        format!(
            "PUT /metered HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 2\r\n{headers}\r\non"
        )
    };
    for (host, headers, status) in [
        ("evil.example", "", 421),
        ("evil.example:8012", "", 421),
        ("localhost", "Origin: https://evil.example\r\n", 403),
        ("localhost", "Sec-Fetch-Site: cross-site\r\n", 403),
    ] {
        let answer = raw(at, put(host, headers).as_bytes()).await;
        assert_eq!(answer.status, status, "{host} {headers}: {}", answer.head);
    }
    assert!(agent.http("GET", "/metered", "").ends_with("off\n"));
    // As curl sends it.
    let curl = "User-Agent: curl/8.5.0\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(raw(at, put(&at.to_string(), curl).as_bytes()).await.status, 200);
    assert!(agent.http("GET", "/metered", "").ends_with("on\n"));
}
