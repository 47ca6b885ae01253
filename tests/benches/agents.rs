//! What an idle agent costs a pool: memory of the pool's process with 2,000 real connections, an open stream on each,
//! over QUIC and over TCP with TLS.
//!
//! `cargo bench -p system-tests --bench agents` prints the lines for `docs/benchmarks.md`. The agents are in a process of
//! their own. `AGENTS=100` takes fewer.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millgate_edge::identity::Identity;
use millgate_edge::identity::IdentityConfig;
use millgate_shared::identity::dial::{H2, dial};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::transport::quic::{ALPN, Endpoint, Tuning};
use system_tests::PATIENCE;
use system_tests::enrolled::tls_pool_with;
use tokio_stream::StreamExt;

/// Connections that one process opens at a time.
const AT_ONCE: usize = 20;
/// A socket for every so many QUIC connections: devices have one each, and what is measured is the pool.
const PER_SOCKET: usize = 50;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if let Some(at) = args.iter().position(|arg| arg == "be-agents") {
        let argument = |number: usize| args[at + number].clone();
        runtime.block_on(agents(
            &argument(1),
            argument(2),
            argument(3).parse().expect("an address"),
            count(),
        ));
        return;
    }
    if let Some(at) = args.iter().position(|arg| arg == "be-pool") {
        let line = runtime.block_on(measure(&args[at + 1]));
        writeln!(std::io::stdout(), "{line}").expect("standard output");
        return;
    }
    for transport in ["QUIC", "TCP"] {
        // Each in a process that has not served the other: memory that is freed is used again.
        let program = std::env::current_exe().expect("this program");
        let ended = Command::new(program).args(["be-pool", transport]).status().expect("a pool");
        assert!(ended.success());
    }
}

fn count() -> usize {
    std::env::var("AGENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

async fn measure(transport: &str) -> String {
    let pool = tls_pool_with(|config, _| config.max_connections = 4096).await;
    let device = pool.device("default", "cam-1").await;
    let before = resident();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["be-agents", transport])
        .arg(device.dir.path())
        .arg(pool.pool.grpc_addr().to_string())
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .expect("agents");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = tokio::task::spawn_blocking(move || lines.next());
    ready.await.expect("no panic").expect("a line").expect("text");
    // A few keepalives, so that what a first exchange takes is seen.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (after, agents) = (resident(), count());
    child.kill().expect("killed");
    child.wait().expect("gone");
    let each = (after - before) / agents as f64;
    format!(
        "{agents} idle agents over {transport}: the pool's memory grew from {:.0} to {:.0} KB, {each:.1} KB each",
        before, after
    )
}

/// Memory of this process, in kilobytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

async fn agents(transport: &str, dir: String, pool: SocketAddr, count: usize) {
    let identity =
        Identity::open(&IdentityConfig { dir: PathBuf::from(dir), ca: Vec::new() }).expect("an identity");
    let identity = Arc::new(identity);
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    let mut endpoint = None;
    for at in 0..count.div_ceil(AT_ONCE) {
        let here = AT_ONCE.min(count - at * AT_ONCE);
        match transport {
            "QUIC" => {
                if (at * AT_ONCE).is_multiple_of(PER_SOCKET) || endpoint.is_none() {
                    let tls = identity.client_config(&[ALPN]);
                    endpoint = Some(Endpoint::client(tls, &Tuning::agent()).expect("a socket"));
                }
                let endpoint = endpoint.clone().expect("set");
                let dialled = (0..here).map(|_| endpoint.connect(pool, "127.0.0.1"));
                for channel in join_all(dialled).await {
                    let channel = channel.expect("connected");
                    kept.push(Box::new((open(ExpertServiceClient::new(channel.clone())).await, channel)));
                }
                kept.push(Box::new(endpoint));
            }
            _ => {
                let tls = identity.client_config(&[H2]);
                let url = format!("https://{pool}");
                let dialled = (0..here).map(|_| dial(&url, &tls, PATIENCE));
                for channel in join_all(dialled).await {
                    let channel = channel.expect("connected");
                    kept.push(Box::new((open(ExpertServiceClient::new(channel.clone())).await, channel)));
                }
            }
        }
    }
    writeln!(std::io::stdout(), "ready").expect("standard output");
    std::future::pending::<()>().await;
}

async fn join_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures_util::future::join_all(all).await
}

/// One call has been answered on it, and it stays open.
async fn open<C>(mut client: ExpertServiceClient<C>) -> tonic::Streaming<v1::RunExpertsStreamResponse>
where
    C: tonic::client::GrpcService<tonic::body::Body>,
    C::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let first = v1::RunExpertsRequest { call_id: 1, ..Default::default() };
    let requests = tokio_stream::once(first).chain(tokio_stream::pending());
    let mut answers = client.run_experts_stream(requests).await.expect("a stream").into_inner();
    answers.message().await.expect("an answer").expect("one");
    answers
}
