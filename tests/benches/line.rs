//! Small calls alone and beside a bulk upload, over a 20 Mbit/s line of 40 ms that loses packets: gRPC over TCP as it
//! comes, over TCP as it is set here, and over QUIC.
//!
//! `cargo bench -p system-tests --bench line` as root prints the table for `docs/benchmarks.md`; `-- QUIC` runs the rows
//! whose name has that in it, `SECONDS=30` runs each longer, `SEED=2` loses other packets.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millgate_shared::identity::provider::provider;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::v1::expert_service_server::{ExpertService, ExpertServiceServer};
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::quic::server::{Limits, bind, listen, serve};
use millgate_shared::transport::quic::{Control, Endpoint, Tuning};
use millgate_shared::transport::tcp;
use rustls::pki_types::PrivateKeyDer;
use system_tests::line::{Line, Loss, Weather};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

const SMALL: usize = 4 << 10;
const EVERY: Duration = Duration::from_millis(25);
const PIECE: usize = 64 << 10;
/// A call that takes longer counts as long.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scheme {
    /// What everybody ships.
    Default,
    /// BBR, little unsent, bulk on a connection of its own.
    Tuned,
    /// One connection, bulk behind.
    Quic(Control),
    /// Bulk on a connection of its own.
    QuicTwo,
}

const LOSSES: [(&str, Loss); 4] = [
    ("0 %", Loss::None),
    ("1 %", Loss::Random(0.01)),
    ("3 %", Loss::Random(0.03)),
    ("3 % in bursts of 8", Loss::Bursts { share: 0.03, length: 8 }),
];

const SCHEMES: [(&str, Scheme); 5] = [
    ("HTTP/2, cubic (default)", Scheme::Default),
    ("HTTP/2, tuned, two connections", Scheme::Tuned),
    ("QUIC, cubic", Scheme::Quic(Control::Cubic)),
    ("QUIC, link, one connection", Scheme::Quic(Control::Link)),
    ("QUIC, link, two connections", Scheme::QuicTwo),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut out = std::io::stdout();
    let mut print = |line: String| writeln!(out, "{line}").expect("standard output");
    if let [word, row] = args.as_slice()
        && word == "row"
    {
        print(run(row.parse().expect("a row's number")));
        return;
    }
    print(
        "| loss | scheme | alone p50 / p95 / p99 ms | beside bulk p50 / p95 / p99 ms | bulk Mbit/s |"
            .to_owned(),
    );
    print("|---|---|---|---|---|".to_owned());
    for row in 0..LOSSES.len() * SCHEMES.len() {
        let title = format!("{} {}", LOSSES[row / SCHEMES.len()].0, SCHEMES[row % SCHEMES.len()].0);
        if args.iter().all(|word| title.contains(word.as_str())) {
            // What one row's bulk has left in the kernel is not to be sent beside the next one.
            let program = std::env::current_exe().expect("this program");
            let ended = std::process::Command::new(program).arg("row").arg(row.to_string()).status();
            assert!(ended.expect("a row").success());
        }
    }
}

fn run(row: usize) -> String {
    let ((loss_name, loss), (name, scheme)) = (LOSSES[row / SCHEMES.len()], SCHEMES[row % SCHEMES.len()]);
    let number = |name, or| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (seconds, seed) = (number("SECONDS", 15), number("SEED", 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let weather =
        Weather { loss, delay: Duration::from_millis(20), rate: Some(20_000_000), ..Weather::default() };
    let measured = runtime.block_on(measure(scheme, weather, seed, Duration::from_secs(seconds)));
    let (alone, beside, mbits) = measured;
    runtime.shutdown_background();
    format!("| {loss_name} | {name} | {alone} | {beside} | {mbits:.1} |")
}

/// Small calls and bulk.
enum Clients {
    Tcp(tonic::transport::Channel, tonic::transport::Channel),
    Quic(millgate_shared::transport::quic::Channel, millgate_shared::transport::quic::Channel),
}

async fn measure(scheme: Scheme, weather: Weather, seed: u64, long: Duration) -> (String, String, f64) {
    let line = Line::open_here(seed).expect("a line; are you root?");
    // Before anybody connects: a line that becomes longer afterwards is another experiment.
    line.set(weather);
    let tasks = Tasks::new();
    let sink = Sink::default();
    let (pool, target) = (IpAddr::from(line.pool_ip()), IpAddr::from(line.target_ip()));
    let clients = match scheme {
        Scheme::Default | Scheme::Tuned => {
            let address = serve_tcp(pool, scheme == Scheme::Tuned, &sink, &tasks).await;
            let target = SocketAddr::new(target, address.port());
            let small = dial_tcp(target, scheme == Scheme::Tuned).await;
            let bulk = match scheme {
                Scheme::Tuned => dial_tcp(target, true).await,
                _ => small.clone(),
            };
            Clients::Tcp(small, bulk)
        }
        Scheme::Quic(_) | Scheme::QuicTwo => {
            let control = if let Scheme::Quic(control) = scheme { control } else { Control::Link };
            let (small, bulk) = quic(pool, target, control, &sink, &tasks).await;
            let bulk = if scheme == Scheme::QuicTwo { bulk } else { small.with_priority(-1) };
            Clients::Quic(small, bulk)
        }
    };
    let measured = match clients {
        Clients::Tcp(small, bulk) => both(small, bulk, &sink, &tasks, long).await,
        Clients::Quic(small, bulk) => both(small, bulk, &sink, &tasks, long).await,
    };
    tasks.stop();
    measured
}

async fn both<C>(small: C, bulk: C, sink: &Sink, tasks: &Tasks, long: Duration) -> (String, String, f64)
where
    C: Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>>
        + Clone
        + Send
        + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    C::Future: Send,
{
    calls(small.clone(), tasks, Duration::from_secs(1)).await;
    let alone = calls(small.clone(), tasks, long).await;
    let upload = tasks.spawn(async move {
        let piece: bytes::Bytes = vec![7; PIECE].into();
        let pieces = tokio_stream::iter(std::iter::repeat_with(move || request(piece.clone())));
        let answers = ExpertServiceClient::new(bulk).run_experts_stream(pieces).await;
        if let Ok(answers) = answers {
            let mut answers = answers.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        }
    });
    calls(small.clone(), tasks, Duration::from_secs(2)).await;
    let (before, begun) = (sink.bytes.load(Ordering::Relaxed), Instant::now());
    let beside = calls(small, tasks, long).await;
    let bytes = sink.bytes.load(Ordering::Relaxed) - before;
    let mbits = bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e6;
    upload.abort();
    (spread(alone), spread(beside), mbits)
}

/// Begins one call every 25 ms, whatever became of those before, and waits for all.
async fn calls<C>(channel: C, tasks: &Tasks, long: Duration) -> Vec<Duration>
where
    C: Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>>
        + Clone
        + Send
        + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    C::Future: Send,
{
    let mut clock = tokio::time::interval(EVERY);
    let payload: bytes::Bytes = vec![7; SMALL].into();
    let mut under_way = Vec::new();
    for _ in 0..(long.as_millis() / EVERY.as_millis()) {
        clock.tick().await;
        let mut client = ExpertServiceClient::new(channel.clone());
        let payload = payload.clone();
        under_way.push(tasks.spawn(async move {
            let begun = Instant::now();
            match tokio::time::timeout(PATIENCE, client.run_experts(request(payload))).await {
                Ok(Ok(_)) => begun.elapsed(),
                _ => PATIENCE,
            }
        }));
    }
    let mut times = Vec::new();
    for call in under_way {
        times.push(call.await.expect("no panic"));
    }
    times
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    format!("{:.0} / {:.0} / {:.0}", at(0.5), at(0.95), at(0.99))
}

fn request(data: bytes::Bytes) -> v1::RunExpertsRequest {
    let tensor = v1::Tensor { data, ..Default::default() };
    v1::RunExpertsRequest { tensors: vec![tensor], ..Default::default() }
}

async fn serve_tcp(pool: IpAddr, is_tuned: bool, sink: &Sink, tasks: &Tasks) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((pool, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let connections = tokio_stream::wrappers::TcpListenerStream::new(listener).map(move |stream| {
        let stream = stream?;
        match is_tuned {
            true => tcp::tune(&stream, tcp::Role::Accepted),
            false => stream.set_nodelay(true)?,
        }
        Ok::<_, std::io::Error>(stream)
    });
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .add_service(ExpertServiceServer::new(sink.clone()));
    tasks.spawn(async move { server.serve_with_incoming(connections).await });
    address
}

async fn dial_tcp(target: SocketAddr, is_tuned: bool) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{target}")).expect("a URL");
    if !is_tuned {
        return endpoint.connect().await.expect("connected");
    }
    let stream = tcp::connect(target).await.expect("connected");
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        std::future::ready(
            stream.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)),
        )
    });
    endpoint.connect_with_connector(connector).await.expect("connected")
}

async fn quic(
    pool: IpAddr,
    target: IpAddr,
    control: Control,
    sink: &Sink,
    tasks: &Tasks,
) -> (millgate_shared::transport::quic::Channel, millgate_shared::transport::quic::Channel) {
    let certified = rcgen::generate_simple_self_signed(vec!["pool".to_owned()]).expect("a certificate");
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let versions = &[&rustls::version::TLS13];
    let server = rustls::ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let server =
        server.expect("TLS 1.3").with_no_client_auth().with_single_cert(vec![certificate.clone()], key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let client = client.expect("TLS 1.3").with_root_certificates(roots).with_no_client_auth();
    let with = |tuning| Tuning { control, ..tuning };
    let server = Arc::new(server.expect("a server's TLS"));
    let socket = bind((pool, 0).into()).expect("a port");
    let listener = listen(socket, server, &with(Tuning::pool(128))).expect("a port");
    let address = SocketAddr::new(target, listener.local_addr().expect("bound").port());
    let (sink, stop, spawner) = (sink.clone(), tasks.token().clone(), tasks.clone());
    tasks.spawn(async move {
        while let Some(incoming) = listener.accept().await {
            let connection = incoming.await.expect("a handshake");
            let service = ExpertServiceServer::new(sink.clone());
            spawner.spawn(serve(
                connection,
                service,
                http::Extensions::new(),
                Limits::default(),
                stop.clone(),
            ));
        }
    });
    let endpoint = Endpoint::client(Arc::new(client), &with(Tuning::agent())).expect("a socket");
    let small = endpoint.connect(address, "pool").await.expect("connected");
    let bulk = endpoint.connect(address, "pool").await.expect("connected");
    (small, bulk)
}

/// Answers small calls with little, and counts what streams in.
#[derive(Debug, Clone, Default)]
struct Sink {
    bytes: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl ExpertService for Sink {
    async fn run_experts(
        &self,
        request: Request<v1::RunExpertsRequest>,
    ) -> Result<Response<v1::RunExpertsResponse>, Status> {
        let call_id = request.into_inner().call_id;
        Ok(Response::new(v1::RunExpertsResponse { call_id, ..Default::default() }))
    }

    type RunExpertsStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::RunExpertsStreamResponse, Status>> + Send>>;

    async fn run_experts_stream(
        &self,
        request: Request<Streaming<v1::RunExpertsRequest>>,
    ) -> Result<Response<Self::RunExpertsStreamStream>, Status> {
        let bytes = Arc::clone(&self.bytes);
        let silent = request.into_inner().filter_map(move |message| {
            let message = message.ok()?;
            bytes.fetch_add(message.tensors[0].data.len() as u64, Ordering::Relaxed);
            None
        });
        Ok(Response::new(Box::pin(silent)))
    }

    async fn list_experts(
        &self,
        _: Request<v1::ListExpertsRequest>,
    ) -> Result<Response<v1::ListExpertsResponse>, Status> {
        Ok(Response::new(v1::ListExpertsResponse::default()))
    }
}
