//! Connections that send nothing, or next to nothing: they cost others nothing, up to a bound that has an answer.

use fastrand::Rng;
use system_tests::asking::{agree, client, metadata, request};
use system_tests::pool_with;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SILENT: usize = 1000;
/// How a client of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Both ends of each connection are ours.
fn allow_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_connections_and_a_slow_one_cost_a_client_nothing() {
    allow_files(4096);
    let pool = pool_with(|config| config.max_connections = SILENT + 2).await;
    let mut silent = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(pool.grpc_addr()).await.unwrap());
    }
    let mut asks = client(&pool).await;
    let model = metadata(&mut asks, "pcb-s").await;
    let asked = request(&model, 1, 1, &mut Rng::with_seed(1));
    let alone = asks.model_infer(asked.clone()).await.unwrap().into_inner();
    // One more connection sends a byte for each answer of the client's.
    let mut slow = TcpStream::connect(pool.grpc_addr()).await.unwrap();
    for byte in PREFACE {
        slow.write_all(&[*byte]).await.unwrap();
        let answer = asks.model_infer(asked.clone()).await.unwrap().into_inner();
        agree(&answer, &alone).unwrap();
    }
    // Whoever says nothing takes no place of those who do.
    let mut newcomer = client(&pool).await;
    agree(&newcomer.model_infer(asked.clone()).await.unwrap().into_inner(), &alone).unwrap();
    drop(silent);
    drop(slow);
    let again = tokio::time::timeout(system_tests::PATIENCE, async {
        loop {
            let address = system_tests::url(&pool);
            let connected = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await;
            let Ok(channel) = connected else { continue };
            let mut other = system_tests::asking::Client::new(channel);
            if other.model_infer(asked.clone()).await.is_ok() {
                break;
            }
        }
    });
    again.await.expect("room for others");
}
