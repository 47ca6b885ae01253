//! `/metrics` of pool and agent as scrapers read it: in the format that they ask for, and without a complaint.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use millgate_cloud::server::Running;
use system_tests::edge_process::{EdgeProcess, EdgeToml};
use system_tests::{pool_with, skip};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An agent with nothing but its admin port.
fn agent(dir: &Path) -> EdgeProcess {
    std::fs::create_dir(dir.join("in")).unwrap();
    let text = EdgeToml::new(dir).offload("cloud = \"http://127.0.0.1:9\"").text();
    // As an editor on Windows saves it.
    std::fs::write(dir.join("edge.toml"), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    EdgeProcess::start(&dir.join("edge.toml"))
}

/// What `at` answers to one request: its content type and its body.
fn page(at: SocketAddr, headers: &str) -> (String, String) {
    let mut socket = TcpStream::connect(at).unwrap();
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.to_lowercase().contains("\nvary: accept"), "{head}");
    let line = head.lines().find(|line| line.to_lowercase().starts_with("content-type: "));
    (line.unwrap()["content-type: ".len()..].to_owned(), body.to_owned())
}

async fn pool(triton: bool) -> Running {
    pool_with(|config| config.triton_metrics = triton).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scraper_gets_the_format_that_it_asks_for_and_the_same_numbers_in_both() {
    let (pool, dir) = (pool(true).await, tempfile::tempdir().unwrap());
    let agent = agent(dir.path());
    for at in [pool.metrics_addr(), agent.admin.unwrap()] {
        for asked in ["", "Accept: */*\r\n", "Accept: text/plain\r\n", "Accept: text/html, */*;q=0.1\r\n"] {
            let (kind, body) = page(at, asked);
            assert_eq!(kind, CLASSIC, "{asked}");
            assert!(body.contains("# TYPE millgate_build_info gauge\n") && !body.contains("# EOF"), "{body}");
            let kinds = ["counter", "gauge", "histogram"];
            let types: Vec<&str> = body.lines().filter(|line| line.starts_with("# TYPE ")).collect();
            assert!(types.iter().all(|line| kinds.iter().any(|kind| line.ends_with(&format!(" {kind}")))));
            let mut counted = types.iter().filter(|line| line.contains("_total ")).peekable();
            assert!(counted.peek().is_some() && counted.all(|line| line.ends_with(" counter")), "{types:?}");
        }
        let prometheus = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
        let (kind, open) = page(at, prometheus);
        assert_eq!(kind, OPEN_METRICS);
        assert!(open.contains("# TYPE millgate_build info\n") && open.ends_with("# EOF\n"), "{open}");
        let samples = |text: &str| -> Vec<String> {
            let of_series = text.lines().filter(|line| !line.starts_with('#'));
            of_series.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
        };
        assert_eq!(samples(&open), samples(&page(at, "").1));
    }
}

#[test]
fn a_path_that_is_not_there_is_not_found_and_asks_for_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    assert!(agent.http("GET", "/metrics/x", "").starts_with("HTTP/1.1 404 "));
    let queue = agent.http("GET", "/queue", "");
    assert!(queue.starts_with("HTTP/1.1 401 "), "{queue}");
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Exit code and what it says.
fn promtool(page: &str) -> (i32, String) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_to_say_of_our_own_names() {
    if !is_there("promtool") {
        return skip("there is no promtool on this machine (Debian has it in `prometheus`)");
    }
    let (dir, ours, tritons) = (tempfile::tempdir().unwrap(), pool(false).await, pool(true).await);
    let agent = agent(dir.path());
    for at in [ours.metrics_addr(), agent.admin.unwrap()] {
        let said = promtool(&page(at, "").1);
        assert_eq!(said, (0, String::new()));
    }
    // Triton's names are Triton's: they are read, and linted.
    let (code, said) = promtool(&page(tritons.metrics_addr(), "").1);
    assert_eq!(code, 3, "{said}");
    assert!(said.lines().all(|line| line.starts_with("nv_")), "{said}");
}
