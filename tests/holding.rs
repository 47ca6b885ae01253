//! What callers may hold of a pool: unfinished messages, bodies that unfold, senders that drip. The pool stays within its bound,
//! and others are served meanwhile.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use http_body::{Body, Frame};
use millgate_shared::proto::inference::ModelInferRequest;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use prost::Message;
use system_tests::cloud_process::CloudProcess;
use system_tests::{PATIENCE, pool_with};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::Service;

use super::rest::{get, post, steel};

const MIB: u64 = 1 << 20;
const STEEL: &str = "/v2/models/steel-l/infer";
/// What a pool takes beyond what messages hold while it is busy: stacks, buffers of connections, what the allocator keeps.
const BESIDES: u64 = 160 * MIB;

/// A request's body that is sent as it stands, and then ends or not.
struct Upload {
    frames: VecDeque<Bytes>,
    ends: bool,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.frames.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A request's body without a byte, which ends when its other end is dropped.
struct Silent(oneshot::Receiver<()>);

impl Body for Silent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll(cx).map(|_| None)
    }
}

/// A message's head and so much of its content.
fn message(flag: u8, length: usize, content: &[u8]) -> VecDeque<Bytes> {
    let head = [&[flag][..], &(length as u32).to_be_bytes()].concat();
    let pieces = content.chunks(1 << 20).map(Bytes::copy_from_slice);
    std::iter::once(Bytes::from(head)).chain(pieces).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Sends one request as bytes, on a connection of its own, and gives the beginning of its answer.
async fn call(
    method: &str,
    grpc: SocketAddr,
    (token, encoding): (&str, &str),
    body: impl Body<Data = Bytes, Error = Status> + Send + 'static,
) -> (Channel, http::Response<tonic::body::Body>) {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    let mut channel = endpoint.connect().await.unwrap();
    let mut request = http::Request::post(format!("/inference.GRPCInferenceService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in [("authorization", token), ("grpc-encoding", encoding)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    let request = request.body(tonic::body::Body::new(body)).unwrap();
    poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let answer = channel.call(request).await.unwrap_or_else(|error| panic!("no answer: {error}"));
    (channel, answer)
}

fn code(answer: &http::Response<tonic::body::Body>) -> Code {
    Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
}

/// Asks `ModelInfer` and gives the code of the answer.
async fn ask(grpc: SocketAddr, token: &str, encoding: &str, body: Upload) -> Code {
    code(&call("ModelInfer", grpc, (token, encoding), body).await.1)
}

fn small() -> ModelInferRequest {
    let input = InferInputTensor {
        name: "image".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, 1, 128, 128],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "steel-l".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![vec![0; 128 * 128 * 4].into()],
        ..Default::default()
    }
}

/// A client of another tenant that asks for one thing after the other.
struct Honest {
    client: GrpcInferenceServiceClient<Channel>,
    token: String,
}

impl Honest {
    async fn connect(grpc: SocketAddr, token: &str) -> Self {
        let client = GrpcInferenceServiceClient::connect(format!("http://{grpc}")).await.unwrap();
        Self { client, token: token.to_owned() }
    }

    async fn asks(&mut self) {
        let mut request = Request::new(small());
        let token = AsciiMetadataValue::try_from(self.token.as_str()).unwrap();
        request.metadata_mut().insert("authorization", token);
        self.client.model_infer(request).await.expect("an honest client is served");
    }
}

/// A pool that takes nobody for granted, and the tokens of two tenants.
struct Site {
    pool: CloudProcess,
    attacker: String,
    honest: String,
    _dir: TempDir,
}

fn site(holding: &str, limits: &str) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let more = format!("threads = 2\n[access]\nloopback = \"token\"\n[holding]\n{holding}\n");
    let config = CloudProcess::configure(dir.path(), &more);
    let bearer = |tenant: &str| format!("Bearer {}", CloudProcess::token(&config, tenant, tenant));
    let (attacker, honest) = (bearer("beta"), bearer("acme"));
    Site { pool: CloudProcess::start(&config, limits), attacker, honest, _dir: dir }
}

/// A number on the page of metrics; 0 if it is not there.
async fn metric(metrics: SocketAddr, series: &str) -> f64 {
    let page = String::from_utf8(get(metrics, "/metrics").await.body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |number| number.trim().parse().unwrap())
}

async fn until(metrics: SocketAddr, series: &str, least: f64) {
    let reached = async {
        while metric(metrics, series).await < least {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{series} never reached {least}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_hold_no_more_than_their_callers_share() {
    const LENGTH: usize = 40 << 20;
    let mut site = site("memory_mib = 256", "");
    let before = site.pool.peak();
    let (grpc, metrics) = (site.pool.grpc, site.pool.metrics);
    let content = vec![0; LENGTH - 1];
    let unfinished = (0..12).map(|_| {
        let frames = message(0, LENGTH, &content);
        ask(grpc, &site.attacker, "", Upload { frames, ends: false })
    });
    let unfinished = async {
        join_all(unfinished).await;
        std::future::pending::<()>().await;
    };
    let others = async {
        let mut honest = Honest::connect(grpc, &site.honest).await;
        for _ in 0..20 {
            honest.asks().await;
        }
        // One alone has its share of 256 MiB, which is 120 MiB of 144 for the first message.
        until(metrics, "millgate_held_refused_total{reason=\"share\"}", 11.0).await;
        honest.asks().await;
    };
    tokio::select! {
        () = unfinished => {}
        () = others => {}
    }
    assert_eq!(metric(metrics, "millgate_held_bytes_limit").await as u64, 256 * MIB);
    assert!(metric(metrics, "millgate_held_bytes_peak").await as u64 <= 256 * MIB);
    // Those who hold are gone, and so is what they held.
    let gone = async {
        while metric(metrics, "millgate_held_bytes").await > 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok(), "all is given back");
    let peak = site.pool.peak();
    assert!(peak < before + 256 * MIB + BESIDES, "{} MiB of {}", peak / MIB, before / MIB);
    assert!(site.pool.lives());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_unfold_take_what_the_machine_leaves_and_no_more() {
    let mut site = site("memory_mib = 0", "-d 2000000");
    let before = site.pool.peak();
    let (grpc, http, metrics) = (site.pool.grpc, site.pool.http, site.pool.metrics);
    let limit = metric(metrics, "millgate_held_bytes_limit").await as u64;
    assert!(
        limit > 16 * MIB && limit < 1000 * MIB,
        "a quarter of what is left under the limit: {}",
        limit / MIB
    );

    let list = "0,".repeat(20 << 20);
    let text = format!(
        "{{\"inputs\":[{{\"name\":\"image\",\"shape\":[1,1,128,128],\"datatype\":\"FP32\",\"data\":[{list}0]}}]}}"
    );
    let json = gzip(text.as_bytes());
    let tensor = ModelInferRequest { raw_input_contents: vec![vec![0; 40 << 20].into()], ..small() };
    let tensor = gzip(&tensor.encode_to_vec());
    drop((list, text));
    let headers = format!("Authorization: {}\r\nContent-Encoding: gzip\r\n", site.attacker);
    let over_rest = (0..30).map(|_| async {
        let answer = post(http, STEEL, &headers, &json).await;
        assert!([400, 413, 429].contains(&answer.status), "{}", answer.head);
        answer.status
    });
    let over_grpc = (0..30).map(|_| {
        let frames = message(1, tensor.len(), &tensor);
        ask(grpc, &site.attacker, "gzip", Upload { frames, ends: true })
    });
    let others = async {
        let mut honest = Honest::connect(grpc, &site.honest).await;
        let (framing, body) = steel(1);
        for _ in 0..10 {
            honest.asks().await;
            let headers = format!("Authorization: {}\r\n{framing}", site.honest);
            assert_eq!(post(http, STEEL, &headers, &body).await.status, 200);
        }
    };
    let (_rest, grpc, ()) = futures_util::join!(join_all(over_rest), join_all(over_grpc), others);
    let expected = [Code::ResourceExhausted, Code::OutOfRange, Code::InvalidArgument];
    assert!(grpc.iter().all(|code| expected.contains(code)), "{grpc:?}");
    assert!(metric(metrics, "millgate_held_bytes_peak").await as u64 <= limit);
    let peak = site.pool.peak();
    assert!(peak < before + limit + BESIDES, "{} MiB of {} + {}", peak / MIB, before / MIB, limit / MIB);
    assert!(site.pool.lives());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_drips_is_cut() {
    let pool = pool_with(|config| {
        config.threads = 1;
        // Later than a message has to be there.
        config.default_deadline_ms = 60_000;
    })
    .await;
    let frames = message(0, 1000, b"x");
    let over_grpc = ask(pool.grpc_addr(), "", "", Upload { frames, ends: false });
    let head = format!(
        "POST {STEEL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{{"
    );
    let over_rest = super::rest::raw(pool.http_addr(), head.as_bytes());
    let nothing = ask(pool.grpc_addr(), "", "", Upload { frames: VecDeque::new(), ends: false });
    let (over_grpc, nothing, over_rest) = futures_util::join!(over_grpc, nothing, over_rest);
    assert_eq!((over_grpc, nothing), (Code::DeadlineExceeded, Code::DeadlineExceeded));
    assert!(
        over_rest.status == 408 && over_rest.error().contains("too long to arrive"),
        "{}",
        over_rest.head
    );
    assert_eq!(metric(pool.metrics_addr(), "millgate_held_late_total{reason=\"message\"}").await, 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_has_so_many_calls_open_on_all_of_its_connections() {
    let pool = pool_with(|config| {
        config.threads = 1;
        config.holding.calls_per_caller = 4;
    })
    .await;
    let grpc = pool.grpc_addr();
    let (ends, bodies): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
    let open = bodies.into_iter().map(|body| call("ModelStreamInfer", grpc, ("", ""), Silent(body)));
    let open = join_all(open).await;
    assert!(open.iter().all(|(_, answer)| code(answer) == Code::Ok));
    let one_more = Upload { frames: VecDeque::new(), ends: false };
    assert_eq!(ask(grpc, "", "", one_more).await, Code::ResourceExhausted);
    drop((ends, open));
    let mut client = GrpcInferenceServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let served = async { while client.model_infer(small()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, served).await.expect("their places are given back");
}
