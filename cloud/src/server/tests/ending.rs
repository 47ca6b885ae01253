//! How a pool ends, and how a call ends early.

use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::*;

#[tokio::test]
async fn a_drain_says_so_ends_streams_and_cuts_nothing() {
    let (running, channel) = start(config()).await;
    let mut health = HealthClient::new(channel.clone());
    let name = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "expert/pcb-l", "millgate.v1.ExpertService", "millgate.v1.InferenceService"] {
        let status = health.check(name(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let mut watch = health.watch(name("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let first = ask(&running, &["pcb-l"]);
    let open = stream::iter([first]).chain(stream::pending());
    let mut answers = ExpertServiceClient::new(channel).run_experts_stream(open).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    assert!(http(&running, "/readyz").await.contains("200 OK"));

    let (drained, ended, last) =
        tokio::join!(running.drain(Duration::from_secs(5)), answers.message(), watch.message());
    assert_eq!(drained, Drained { cut_calls: 0 });
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert_eq!(last.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn dropping_a_pool_cuts_its_connections() {
    let (running, channel) = start(config()).await;
    let mut client = ExpertServiceClient::new(channel);
    client.list_experts(v1::ListExpertsRequest::default()).await.unwrap();
    let address = running.grpc_addr();
    let kept = Arc::clone(running.pool());
    drop(running);
    let gone = async {
        while Arc::strong_count(&kept) > 1 || tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    assert!(client.list_experts(v1::ListExpertsRequest::default()).await.is_err());

    // And back on the same port.
    let again = CloudConfig { grpc: address, ..config() };
    let restarted = Server::start(again).await.unwrap();
    assert_eq!(restarted.grpc_addr(), address);
    client.list_experts(v1::ListExpertsRequest::default()).await.unwrap();
}

/// Far more work than one thread does in the time that the tests give it.
async fn flooded() -> (Running, Vec<tokio::task::JoinHandle<Result<(), Status>>>) {
    let (running, channel) =
        start(CloudConfig { threads: 1, queue: 1000, max_streams: 1000, ..config() }).await;
    let client = ExpertServiceClient::new(channel);
    let calls = (0..300).map(|_| {
        let (mut client, request) = (client.clone(), ask(&running, &["steel-l", "screw-l"]));
        Tasks::new().spawn(async move { client.run_experts(request).await.map(|_| ()) })
    });
    let calls = calls.collect();
    while running.in_flight() < 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (running, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_takes_too_long_says_what_it_cut() {
    let (running, calls) = flooded().await;
    let started = std::time::Instant::now();
    let drained = running.drain(Duration::from_millis(20)).await;
    assert!(drained.cut_calls > 0);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let mut failed = 0;
    for call in calls {
        failed += usize::from(call.await.unwrap().is_err());
    }
    assert!(failed >= drained.cut_calls, "{failed} of {drained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_nobody_waits_for_is_not_done() {
    let (running, calls) = flooded().await;
    for call in &calls {
        call.abort();
    }
    let idle = async {
        while running.in_flight() > 0 || running.pool().queued() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), idle).await.unwrap();
    let metrics = http(&running, "/metrics").await;
    let of = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |count| count.parse::<u64>().unwrap())
    };
    assert!(of("millgate_requests_total{method=\"RunExperts\",code=\"CANCELLED\"}") > 50, "{metrics}");
    assert!(of("millgate_expert_runs_total{expert=\"steel-l\",result=\"ok\"}") < 250, "{metrics}");
}
