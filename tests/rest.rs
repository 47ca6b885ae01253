//! REST as a hostile or a hasty client uses it: bytes on a socket, each wrong in its own way, and what the others see.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use millgate_cloud::server::Running;
use millgate_shared::proto::MAX_MESSAGE_BYTES;
use serde_json::{Value, json};
use system_tests::{PATIENCE, pool, pool_with, url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).expect("a status").parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(": ")?.1)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

/// Sends `bytes`, ends its side if that is wanted, and reads to the end.
pub(super) async fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    // Who is refused early may not take the rest.
    let _sent = tcp.write_all(bytes).await.is_ok();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("an answer in time").unwrap();
    Answer::read(&answer)
}

pub(super) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub(super) async fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Answer {
    raw(address, &request("POST", path, headers, body)).await
}

pub(super) async fn get(address: SocketAddr, path: &str) -> Answer {
    raw(address, &request("GET", path, "", b"")).await
}

/// A request for `rows` of an expert, its tensor behind the head.
pub(super) fn steel(rows: usize) -> (String, Vec<u8>) {
    let size = rows * 128 * 128 * 4;
    let input = json!({
        "name": "image", "shape": [rows, 1, 128, 128], "datatype": "FP32",
        "parameters": { "binary_data_size": size },
    });
    let head = json!({ "inputs": [input], "outputs": [{ "name": "logits" }] }).to_string();
    let headers = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    (headers, [head.into_bytes(), vec![0; size]].concat())
}

const STEEL: &str = "/v2/models/steel-l/infer";

async fn metrics(pool: &Running) -> String {
    String::from_utf8(get(pool.metrics_addr(), "/metrics").await.body).unwrap()
}

async fn until(pool: &Running, line: &str) {
    let seen = async {
        while !metrics(pool).await.contains(line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    assert!(seen.is_ok(), "no {line} in {}", metrics(pool).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_of_a_request_get_the_same_answer() {
    let pool = pool().await;
    let at = pool.http_addr();
    let (headers, body) = steel(1);
    let from_binary = post(at, STEEL, &headers, &body).await;
    assert_eq!(from_binary.status, 200, "{}", from_binary.head);
    assert_eq!(from_binary.header("content-type"), Some("application/json"));
    let zeros = vec![vec![vec![0; 128]; 128]];
    let input = json!({ "name": "image", "shape": [1, 1, 128, 128], "datatype": "FP32", "data": [zeros] });
    let wanted = json!([{ "name": "logits", "parameters": { "binary_data": true } }]);
    let body = json!({ "id": "x", "inputs": [input], "outputs": wanted }).to_string();
    let from_json = post(at, STEEL, "", body.as_bytes()).await;
    assert_eq!(from_json.status, 200, "{}", from_json.head);
    assert_eq!(from_json.header("content-type"), Some("application/octet-stream"));
    let length: usize = from_json.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&from_json.body[..length]).unwrap();
    let tensor = &from_json.body[length..];
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], tensor.len());
    assert_eq!(head["id"], "x");
    let bytes: Vec<f32> =
        tensor.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let listed = from_binary.json();
    let listed = listed["outputs"][0]["data"].as_array().unwrap();
    assert_eq!(listed.iter().map(|value| value.as_f64().unwrap() as f32).collect::<Vec<_>>(), bytes);
    // Every answer was counted by its method and code.
    until(&pool, "requests_total{method=\"RestInfer\",code=\"OK\"} 2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_request_is_said_with_its_status() {
    let pool = pool().await;
    let at = pool.http_addr();
    let (good_headers, good) = steel(1);
    let input = |change: &str, value: Value| {
        let mut input =
            json!({ "name": "image", "shape": [1, 1, 128, 128], "datatype": "FP32", "data": [0] });
        input[change] = value;
        json!({ "inputs": [input] }).to_string().into_bytes()
    };
    let output = |name: &str| json!({ "inputs": [], "outputs": [{ "name": name }] }).to_string().into_bytes();
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (path, headers, body, status, words) in [
        (STEEL, "", b"".to_vec(), 400, "EOF"),
        (STEEL, "", b"[1".to_vec(), 400, "[0]"),
        (STEEL, "", b"{\"inputs\": 7}".to_vec(), 400, "inputs"),
        (STEEL, "", b"\xff\xfe".to_vec(), 400, "body"),
        (STEEL, "", b"{}".to_vec(), 400, "missing field `inputs`"),
        (STEEL, "", input("data", json!([1, 2])), 400, "needs 16384 elements, got 2"),
        (STEEL, "", input("data", json!([[1], [2, 3]])), 400, "not nested as shape"),
        (STEEL, "", input("data", json!(["a"])), 400, "strings"),
        (STEEL, "", input("shape", json!([-1, 1])), 400, "inputs[0] `image`.shape"),
        (STEEL, "", input("shape", json!([1u64 << 62, 1 << 20])), 400, "overflows"),
        (STEEL, "", input("datatype", json!("FLOAT")), 400, "FLOAT"),
        (STEEL, "", input("datatype", json!(1)), 400, "inputs[0].datatype"),
        (STEEL, "", input("parameters", json!({ "binary_data_size": 1 })), 400, "beside binary_data_size"),
        (STEEL, "", output("nobody"), 400, "`nobody` is not an output"),
        (STEEL, "Inference-Header-Content-Length: 99999\r\n", good.clone(), 400, "the body has"),
        (STEEL, "Inference-Header-Content-Length: -1\r\n", good.clone(), 400, "number of bytes"),
        (STEEL, "Inference-Header-Content-Length: 7\r\n", good.clone(), 400, "EOF"),
        (STEEL, "", good.clone(), 400, "body"),
        (STEEL, &good_headers, good[..good.len() - 1].to_vec(), 400, "bytes are left of the body"),
        (STEEL, &good_headers, [&good[..], b"x"].concat(), 400, "1 bytes are left after all inputs"),
        (STEEL, "Content-Encoding: br\r\n", good.clone(), 400, "Content-Encoding"),
        (STEEL, "Content-Encoding: gzip\r\n", good.clone(), 400, "decompressed"),
        (STEEL, "Content-Encoding: deflate\r\n", b"x\x9c".to_vec(), 400, "decompressed"),
        ("/v2/models/nobody/infer", "", output("y"), 404, "nobody"),
        ("/v2/models/steel-l/versions/7/infer", "", output("y"), 404, "no version 7"),
        ("/v2/models/steel-l/versions/x/infer", "", output("y"), 404, "no version x"),
        ("/v2/models/%ff/infer", "", output("y"), 400, "UTF-8"),
        ("/v2/models/steel-l/nothing", "", vec![], 404, "nothing at this path"),
        ("/v2/models/steel-l/ready", "", vec![], 405, "method"),
        ("/v2/repository/models/steel-l/unload", "", vec![], 501, "belongs to the bundle"),
        ("/v2/repository/models/nobody/load", "", b"{\"parameters\": 1}".to_vec(), 400, "parameters"),
        ("/v2/systemsharedmemory/region/a/register", "", vec![], 501, "shared memory"),
    ] {
        let answer = post(at, path, headers, &body).await;
        let error = answer.error();
        assert!(
            answer.status == status && error.contains(words),
            "{path} {headers}: {} {error}",
            answer.status
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    // What is no HTTP at all, and a body without its length.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        assert_eq!(raw(at, bytes).await.status, 400);
    }
    let body = b"5\r\n{\"inp\r\n7\r\nuts\": 7\r\n1\r\n}\r\n0\r\n\r\n";
    let head = format!("POST {STEEL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{chunked}\r\n");
    let answer = raw(at, &[head.as_bytes(), body].concat()).await;
    assert!(answer.status == 400 && answer.error().contains("inputs"), "{}", answer.head);
    // And after all that, the next client gets its answer.
    assert_eq!(post(at, STEEL, &good_headers, &good).await.status, 200);
    assert_eq!(get(at, "/v2/health/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_a_bound_also_when_it_is_packed() {
    let pool = pool().await;
    let at = pool.http_addr();
    let whole = vec![b' '; MAX_MESSAGE_BYTES];
    let answer = post(at, STEEL, "", &whole).await;
    assert!(answer.status == 400 && answer.error().contains("EOF"), "{}", answer.head);
    let one_more = [&whole[..], b" "].concat();
    let answer = post(at, STEEL, "", &one_more).await;
    assert!(answer.status == 413 && answer.error().contains("67108864"), "{}", answer.head);
    // A client that asks before it sends is told at once.
    let head =
        format!("POST {STEEL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n");
    let answer = raw(at, format!("{head}Content-Length: {}\r\n\r\n", 1u64 << 40).as_bytes()).await;
    assert_eq!(answer.status, 413);
    // As chunks the length is not known before.
    let head = format!(
        "POST {STEEL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let chunk = [format!("{:x}\r\n", one_more.len()).as_bytes(), &one_more, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(raw(at, &[head.as_bytes(), &chunk].concat()).await.status, 413);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &one_more).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let answer = post(at, STEEL, "Content-Encoding: gzip\r\n", &bomb).await;
    assert!(answer.status == 413 && answer.error().contains("decompressed"), "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_keep_nobody_out() {
    let pool = pool_with(|config| (config.max_connections, config.default_deadline_ms) = (16, 1000)).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        for address in [pool.http_addr(), pool.grpc_addr()] {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            let said: &[u8] = match (number % 3, address == pool.http_addr()) {
                (1, _) => b"POST",
                (2, true) => b"POST /v2/models/steel-l/infer HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
                _ => b"",
            };
            tcp.write_all(said).await.unwrap();
            silent.push(tcp);
        }
        if number % 50 == 49 {
            assert_eq!(get(pool.http_addr(), "/v2/health/live").await.status, 200);
            let channel = Endpoint::from_shared(url(&pool)).unwrap().connect().await.unwrap();
            let mut health = HealthClient::new(channel);
            health.check(HealthCheckRequest::default()).await.unwrap();
        }
    }
    let (headers, body) = steel(1);
    assert_eq!(post(pool.http_addr(), STEEL, &headers, &body).await.status, 200);
    // Those that are left do not hold up the end.
    assert_eq!(pool.drain(PATIENCE).await.cut_calls, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_takes_its_work_with_it() {
    let pool = pool_with(|config| (config.threads, config.default_deadline_ms) = (1, 60_000)).await;
    let at = pool.http_addr();
    // In the middle of its body.
    let (headers, body) = steel(1);
    let whole = request("POST", STEEL, &headers, &body);
    let mut tcp = TcpStream::connect(at).await.unwrap();
    tcp.write_all(&whole[..whole.len() / 2]).await.unwrap();
    until(&pool, "in_flight 1").await;
    drop(tcp);
    until(&pool, "in_flight 0").await;
    // While it waits for its answer.
    let (headers, body) = steel(200);
    let mut tcp = TcpStream::connect(at).await.unwrap();
    tcp.write_all(&request("POST", STEEL, &headers, &body)).await.unwrap();
    until(&pool, "in_flight 1").await;
    drop(tcp);
    until(&pool, "requests_total{method=\"RestInfer\",code=\"CANCELLED\"} 1").await;
    let stats = get(at, "/v2/models/steel-l/stats").await.json();
    let computed = stats["model_stats"][0]["inference_count"].as_u64().unwrap();
    assert!(computed < 200, "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_the_queue_full_is_told_when_to_come_back() {
    let pool = pool_with(|config| (config.threads, config.queue) = (1, 1)).await;
    let (headers, body) = steel(1);
    let calls = (0..24).map(|_| post(pool.http_addr(), STEEL, &headers, &body));
    let answers = join_all(calls).await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status)) && !refused.is_empty());
    for answer in refused {
        let (seconds, millis) =
            (answer.header("retry-after").unwrap(), answer.header("retry-after-ms").unwrap());
        let (seconds, millis): (u64, u64) = (seconds.parse().unwrap(), millis.parse().unwrap());
        assert!(millis >= 1 && seconds == millis.div_ceil(1000), "{}", answer.head);
    }
    assert_eq!(post(pool.http_addr(), STEEL, &headers, &body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_what_is_in_flight_and_closes_the_rest() {
    let pool = pool_with(|config| (config.threads, config.default_deadline_ms) = (1, 60_000)).await;
    let at = pool.http_addr();
    // One that keeps its connection, one that waits for its answer.
    let mut kept = TcpStream::connect(at).await.unwrap();
    kept.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let (headers, body) = steel(64);
    let waiting = async { post(at, STEEL, &headers, &body).await };
    let drain = async {
        until(&pool, "in_flight 1").await;
        pool.drain(PATIENCE).await
    };
    let (answer, drained) = tokio::join!(waiting, drain);
    assert_eq!((answer.status, drained.cut_calls), (200, 0));
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, kept.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert!(TcpStream::connect(at).await.is_err());
}
