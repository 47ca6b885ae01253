//! gRPC over QUIC at a real pool: the same services, identities, bounds and ends as over TCP.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::transport::quic::{ALPN, Channel, Endpoint, Goodbye, Tuning};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use system_tests::enrolled::{Device, TlsPool, tls_pool, tls_pool_with};
use system_tests::{PATIENCE, bundle, part};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Has no certificate.
#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

async fn dial(pool: &TlsPool, device: &Device) -> Channel {
    let endpoint = Endpoint::client(device.identity().client_config(&[ALPN]), &Tuning::agent()).unwrap();
    let dialled = endpoint.connect(pool.pool.grpc_addr(), "127.0.0.1");
    tokio::time::timeout(PATIENCE, dialled).await.expect("in time").unwrap()
}

fn ask(pool: &TlsPool) -> v1::RunExpertsRequest {
    let picture = |modality: &str, file: &str| {
        part(modality, std::fs::read(bundle().join("golden").join(file)).unwrap())
    };
    v1::RunExpertsRequest {
        bundle_digest: pool.pool.pool().hosted().unwrap().digest().as_bytes().to_vec().into(),
        experts: vec!["pcb-l".to_owned()],
        parts: vec![picture("image", "pcb-open.png"), picture("template", "pcb-open.template.png")],
        ..v1::RunExpertsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_calls_and_streams_and_a_drain_says_goodbye() {
    let pool = tls_pool().await;
    let device = pool.device("default", "cam-1").await;
    let channel = dial(&pool, &device).await;
    let mut client = ExpertServiceClient::new(channel.clone());
    let answer = client.run_experts(ask(&pool)).await.unwrap().into_inner();
    assert!(answer.answers[0].error.is_none(), "{answer:?}");
    let missing = v1::RunExpertsRequest { experts: vec!["nobody".to_owned()], ..ask(&pool) };
    assert_eq!(client.run_experts(missing).await.unwrap_err().code(), Code::NotFound);
    let mut late = tonic::Request::new(ask(&pool));
    late.set_timeout(Duration::from_micros(1));
    assert_eq!(client.run_experts(late).await.unwrap_err().code(), Code::DeadlineExceeded);

    let calls: Vec<_> = (1..=20).map(|call_id| v1::RunExpertsRequest { call_id, ..ask(&pool) }).collect();
    let open = stream::iter(calls).chain(stream::pending());
    let mut answers = client.run_experts_stream(open).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.len() < 20 {
        seen.push(answers.message().await.unwrap().unwrap().call_id);
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=20).collect::<Vec<u64>>());
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "{health:?}");

    let (drained, ended) = tokio::join!(pool.pool.drain(PATIENCE), answers.message());
    assert_eq!(drained.cut_calls, 0);
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    let goodbye = tokio::time::timeout(PATIENCE, channel.closed()).await.unwrap().goodbye();
    assert_eq!(goodbye, Some(Goodbye::Stopping));
    let refused: Status = client.list_experts(v1::ListExpertsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

async fn dial_as_nobody(pool: &TlsPool, device: &Device) -> Channel {
    let mut anonymous = (*device.identity().client_config(&[ALPN])).clone();
    anonymous.client_auth_cert_resolver = Arc::new(Nobody);
    let endpoint = Endpoint::client(anonymous.into(), &Tuning::agent()).unwrap();
    endpoint.connect(pool.pool.grpc_addr(), "127.0.0.1").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_certificate_may_ask_for_nothing_and_keeps_nobody_out() {
    let pool = tls_pool_with(|config, _| config.max_connections = 2).await;
    let device = pool.device("default", "cam-1").await;
    let mut nobody = Vec::new();
    for _ in 0..3 {
        let channel = dial_as_nobody(&pool, &device).await;
        let refused =
            ExpertServiceClient::new(channel.clone()).list_experts(v1::ListExpertsRequest::default()).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
        nobody.push(channel);
    }
    for _ in 0..2 {
        let mut client = ExpertServiceClient::new(dial(&pool, &device).await);
        client.list_experts(v1::ListExpertsRequest::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_doors_share_the_places_and_a_pool_that_goes_cuts() {
    let pool = tls_pool_with(|config, _| config.max_connections = 2).await;
    let device = pool.device("default", "cam-1").await;
    // Enrolment came over TCP, and leaves its place when it is done.
    let (first, second) = (dial(&pool, &device).await, dial(&pool, &device).await);
    for channel in [&first, &second] {
        ExpertServiceClient::new(channel.clone())
            .list_experts(v1::ListExpertsRequest::default())
            .await
            .unwrap();
    }
    let endpoint = Endpoint::client(device.identity().client_config(&[ALPN]), &Tuning::agent()).unwrap();
    // Who a device is, is known at the end of its handshake: it is told then, and cut.
    if let Ok(refused) = endpoint.connect(pool.pool.grpc_addr(), "127.0.0.1").await {
        let goodbye = tokio::time::timeout(PATIENCE, refused.closed()).await.unwrap().goodbye();
        assert_eq!(goodbye, Some(Goodbye::Cut));
    }
    drop(pool);
    let goodbye = tokio::time::timeout(PATIENCE, first.closed()).await.unwrap().goodbye();
    assert!(matches!(goodbye, Some(Goodbye::Cut | Goodbye::Stopping)), "{goodbye:?}");
}

#[tokio::test]
async fn quic_can_be_left_out() {
    let pool = tls_pool_with(|config, _| config.quic.enabled = false).await;
    let device = pool.device("default", "cam-1").await;
    let endpoint = Endpoint::client(device.identity().client_config(&[ALPN]), &Tuning::agent()).unwrap();
    let silent = endpoint.connect(pool.pool.grpc_addr(), "127.0.0.1");
    let refused = tokio::time::timeout(PATIENCE, silent).await.expect("it gives up by itself");
    assert_eq!(refused.unwrap_err().to_string(), "the line is silent");
}
