//! Who may do what: API tokens and tenants, over gRPC and REST, with and without TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use millgate_cloud::access::tokens;
use millgate_cloud::config::{DeviceBounds, Loopback, TenantConfig};
use millgate_shared::identity::dial::{H2, dial};
use millgate_shared::identity::{Floor, Roots, pem, tls};
use millgate_shared::proto::inference as oip;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use rustls::pki_types::ServerName;
use system_tests::enrolled::{TlsPool, now, tls_pool, tls_pool_with};
use system_tests::{PATIENCE, part, recorded_of};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn config(tls: &TlsPool) -> Arc<rustls::ClientConfig> {
    config_with(tls, &[H2])
}

fn config_with(tls: &TlsPool, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    let authorities = pem::certificates(&tls.state_dir().join("ca.pem")).unwrap();
    let clock = Arc::new(Floor::unkept());
    let roots = Roots::new(authorities, Arc::clone(&clock)).unwrap();
    tls::client(roots, None, clock, alpn)
}

async fn channel(tls: &TlsPool) -> Channel {
    dial(&tls.pool.url(), &config(tls), PATIENCE).await.unwrap()
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

fn run(experts: &[&str], tls: &TlsPool) -> v1::RunExpertsRequest {
    let picture = std::fs::read(&recorded_of("xsdd", 1)[0].path).unwrap();
    v1::RunExpertsRequest {
        bundle_digest: tls.pool.pool().hosted().unwrap().digest().as_bytes().to_vec().into(),
        experts: experts.iter().map(|name| (*name).to_owned()).collect(),
        parts: vec![part("image", picture)],
        ..Default::default()
    }
}

fn decide(task: &str, pinned: &[&str]) -> v1::DecideRequest {
    let picture = std::fs::read(&recorded_of("xsdd", 1)[0].path).unwrap();
    let sample =
        v1::Sample { task: task.to_owned(), parts: vec![part("image", picture)], ..Default::default() };
    v1::DecideRequest {
        sample: Some(sample),
        mode: if pinned.is_empty() { String::new() } else { "pinned".to_owned() },
        pinned: pinned.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.unwrap_err();
    assert!(status.code() == code && status.message().contains(words), "{words}: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_reaches_what_it_names_and_nothing_else() {
    let tls = tls_pool().await;
    let scoped = tls.token(|token| {
        token.name = "scoped".to_owned();
        (token.tasks, token.models) = (names(&["inspect"]), names(&["steel-*"]));
    });
    let taskless = tls.token(|token| (token.name, token.tasks) = ("taskless".to_owned(), names(&[])));
    let channel = channel(&tls).await;
    let mut experts = ExpertServiceClient::new(channel.clone());
    let answer = experts.run_experts(with(&scoped, run(&["steel-s"], &tls))).await.unwrap().into_inner();
    assert_eq!(answer.answers.len(), 1);
    let both = experts.run_experts(with(&scoped, run(&["steel-s", "pcb-s"], &tls))).await;
    refused(both, Code::PermissionDenied, "API token `scoped` may not run `pcb-s`");
    // Nor does it hear what is not here.
    let unknown = experts.run_experts(with(&scoped, run(&["steel-s", "no-such"], &tls))).await;
    refused(unknown, Code::PermissionDenied, "may not run `no-such`");
    refused(
        experts.run_experts(with("", run(&["steel-s"], &tls))).await,
        Code::Unauthenticated,
        "no credentials",
    );
    let listed =
        experts.list_experts(with(&scoped, v1::ListExpertsRequest::default())).await.unwrap().into_inner();
    let listed: Vec<String> = listed.experts.into_iter().map(|expert| expert.name).collect();
    assert!(!listed.is_empty() && listed.iter().all(|name| name.starts_with("steel-")), "{listed:?}");
    let listed =
        experts.list_experts(with(&taskless, v1::ListExpertsRequest::default())).await.unwrap().into_inner();
    assert!(listed.experts.is_empty());

    // On a stream each message for itself, and the stream stays usable.
    let asked = [&["steel-s"][..], &["pcb-s"], &["steel-l"]];
    let asked: Vec<v1::RunExpertsRequest> = asked
        .iter()
        .zip(1..)
        .map(|(experts, call_id)| v1::RunExpertsRequest { call_id, ..run(experts, &tls) })
        .collect();
    let answers = experts.run_experts_stream(with(&scoped, stream::iter(asked))).await.unwrap().into_inner();
    let answers: Vec<v1::RunExpertsStreamResponse> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 3);
    for answer in answers {
        let error = match answer.result.unwrap() {
            v1::run_experts_stream_response::Result::Error(error) => Some(error.code),
            v1::run_experts_stream_response::Result::Response(_) => None,
        };
        assert_eq!(error, (answer.call_id == 2).then_some(Code::PermissionDenied as i32));
    }

    let mut decides = InferenceServiceClient::new(channel.clone());
    decides.decide(with(&scoped, decide("inspect", &[]))).await.unwrap();
    decides.decide(with(&scoped, decide("inspect", &["steel-l"]))).await.unwrap();
    refused(
        decides.decide(with(&scoped, decide("inspect", &["pcb-l"]))).await,
        Code::PermissionDenied,
        "`pcb-l`",
    );
    let denied = decides.decide(with(&taskless, decide("inspect", &[]))).await;
    refused(denied, Code::PermissionDenied, "may not ask for task `inspect`");

    let mut oip = GrpcInferenceServiceClient::new(channel);
    let infer = |model: &str| oip::ModelInferRequest { model_name: model.to_owned(), ..Default::default() };
    // It may run this one, if only it sent an input.
    assert_eq!(
        oip.model_infer(with(&scoped, infer("steel-s"))).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    refused(oip.model_infer(with(&scoped, infer("pcb-s"))).await, Code::PermissionDenied, "`pcb-s`");
    refused(
        oip.model_infer(with(&taskless, infer("inspect"))).await,
        Code::PermissionDenied,
        "task `inspect`",
    );
    let asked = stream::iter([infer("pcb-s")]);
    let mut answers = oip.model_stream_infer(with(&scoped, asked)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    assert!(answer.error_message.contains("may not run `pcb-s`"), "{}", answer.error_message);
    let index = oip.repository_index(with(&scoped, oip::RepositoryIndexRequest::default())).await.unwrap();
    let index: Vec<String> = index.into_inner().models.into_iter().map(|model| model.name).collect();
    assert!(index.contains(&"steel-s".to_owned()) && !index.contains(&"pcb-s".to_owned()), "{index:?}");
    let load = || oip::RepositoryModelLoadRequest { model_name: "steel-s".to_owned(), ..Default::default() };
    refused(oip.repository_model_load(with(&scoped, load())).await, Code::PermissionDenied, "--admin");
    let logs = oip.log_settings(with(&scoped, oip::LogSettingsRequest::default())).await;
    refused(logs, Code::PermissionDenied, "--admin");
    let admin = tls.token(|token| (token.name, token.admin) = ("admin".to_owned(), true));
    // Known within a second or so.
    let allowed = tokio::time::timeout(PATIENCE, async {
        loop {
            let answer = oip.log_settings(with(&admin, oip::LogSettingsRequest::default())).await;
            if answer.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    allowed.await.expect("the administrator is let in");
    oip.server_live(with("", oip::ServerLiveRequest {})).await.unwrap();
    oip.server_ready(with("", oip::ServerReadyRequest {})).await.unwrap();
    let metadata = oip.server_metadata(with("", oip::ServerMetadataRequest {})).await;
    refused(metadata, Code::Unauthenticated, "no credentials");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_revoked_ends_also_on_an_open_stream() {
    let tls = tls_pool().await;
    let token = tls.token(|_| {});
    let late = tls.token(|token| {
        token.name = "late".to_owned();
        token.expires = Some(now() - Duration::from_secs(1));
    });
    let mut experts = ExpertServiceClient::new(channel(&tls).await);
    let (send, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = experts.run_experts_stream(with(&token, requests)).await.unwrap().into_inner();
    let mut ask = async || {
        send.send(run(&["steel-s"], &tls)).await.unwrap();
        match answers.next().await.unwrap().unwrap().result.unwrap() {
            v1::run_experts_stream_response::Result::Error(error) => Some(error.message),
            v1::run_experts_stream_response::Result::Response(_) => None,
        }
    };
    assert_eq!(ask().await, None);
    assert!(tokens::revoke(&tls.state(), "client", now()).unwrap());
    let revoked = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(message) = ask().await {
                return message;
            }
        }
    });
    let message = revoked.await.expect("it is refused");
    assert!(message.contains("API token `client` is revoked"), "{message}");
    let list = || v1::ListExpertsRequest::default();
    refused(experts.list_experts(with(&token, list())).await, Code::Unauthenticated, "is revoked");
    refused(experts.list_experts(with(&late, list())).await, Code::Unauthenticated, "expired on");
    let guess = format!("mgt_{}", "A".repeat(43));
    refused(experts.list_experts(with(&guess, list())).await, Code::Unauthenticated, "unknown");
    refused(experts.list_experts(with("hello", list())).await, Code::Unauthenticated, "begins with `mgt_`");
    let metrics = get(tls.pool.metrics_addr(), None, "/metrics", "");
    for reason in ["token_revoked", "token_expired", "unknown_token", "malformed"] {
        let line = format!("millgate_calls_refused_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_bounds_hold_for_its_devices() {
    let acme = TenantConfig {
        models: names(&["steel-*"]),
        devices: vec![DeviceBounds {
            name: "cam-1".to_owned(),
            tasks: None,
            models: names(&["steel-s"]),
            priority: None,
        }],
        ..TenantConfig::named("acme")
    };
    let tls = tls_pool_with(|config, _| config.tenants = vec![acme]).await;
    let mut one = tls.device("acme", "cam-1").await.connect(&tls.pool).await;
    let mut two = tls.device("acme", "cam-2").await.connect(&tls.pool).await;
    let mut three = tls.device("other", "cam-1").await.connect(&tls.pool).await;
    one.run_experts(run(&["steel-s"], &tls)).await.unwrap();
    let denied = one.run_experts(run(&["steel-l"], &tls)).await;
    refused(denied, Code::PermissionDenied, "device acme/cam-1 may not run `steel-l`");
    two.run_experts(run(&["steel-l"], &tls)).await.unwrap();
    refused(two.run_experts(run(&["pcb-s"], &tls)).await, Code::PermissionDenied, "`pcb-s`");
    let denied = three.run_experts(run(&["steel-s"], &tls)).await;
    refused(denied, Code::PermissionDenied, "tenant `other` is not among");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_nothing_keeps_nobody_out() {
    let tls = tls_pool_with(|config, _| config.max_connections = 2).await;
    let (device, token) = (tls.device("acme", "cam-1").await, tls.token(|_| {}));
    let list = || v1::ListExpertsRequest::default();
    let mut known = ExpertServiceClient::new(channel(&tls).await);
    known.list_experts(with(&token, list())).await.unwrap();
    let mut nobody = Vec::new();
    for _ in 0..3 {
        let mut health = HealthClient::new(channel(&tls).await);
        health.check(HealthCheckRequest::default()).await.unwrap();
        nobody.push(health);
    }
    let mut enrolled = device.connect(&tls.pool).await;
    enrolled.list_experts(list()).await.unwrap();
    known.list_experts(with(&token, list())).await.unwrap();
    for mut cut in nobody {
        let check = cut.check(HealthCheckRequest::default());
        tokio::time::timeout(PATIENCE, check).await.expect("in time").unwrap_err();
    }
    // Both places are theirs. Who a client is, is known at the end of its handshake.
    let refused = match dial(&tls.pool.url(), &config(&tls), PATIENCE).await {
        Ok(channel) => {
            let mut health = HealthClient::new(channel);
            let check = health.check(HealthCheckRequest::default());
            tokio::time::timeout(PATIENCE, check).await.expect("in time").is_err()
        }
        Err(_) => true,
    };
    assert!(refused);
}

/// One request over a connection of its own, with TLS if a configuration is given; the whole answer.
fn get(address: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>, path: &str, token: &str) -> String {
    send(address, tls, "GET", path, token)
}

fn send(
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    method: &str,
    path: &str,
    token: &str,
) -> String {
    let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{bearer}\r\n"
    );
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    match tls {
        None => {
            tcp.write_all(request.as_bytes()).unwrap();
            tcp.read_to_end(&mut answer).unwrap();
        }
        Some(config) => {
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let session = rustls::ClientConnection::new(config, name).unwrap();
            let mut tls = rustls::StreamOwned::new(session, tcp);
            tls.write_all(request.as_bytes()).unwrap();
            tls.read_to_end(&mut answer).unwrap();
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_asks_the_same() {
    let over_tls = tls_pool().await;
    let plain = tls_pool_with(|config, _| {
        config.tls.enabled = None;
        config.access.loopback = Loopback::Token;
    })
    .await;
    let checked = tokio::task::spawn_blocking(move || {
        for pool in [&over_tls, &plain] {
            let tls = (pool.pool.url().starts_with("https")).then(|| config_with(pool, &[b"http/1.1"]));
            let token = pool.token(|token| token.models = names(&["steel-*"]));
            let address = pool.pool.http_addr();
            let ask = |method: &str, path: &str, token: &str| send(address, tls.clone(), method, path, token);
            let known = std::time::Instant::now();
            while !ask("GET", "/v2", &token).starts_with("HTTP/1.1 200") {
                assert!(known.elapsed() < PATIENCE, "the token is never known");
                std::thread::sleep(Duration::from_millis(50));
            }
            for (method, path, token, status, words) in [
                ("GET", "/v2/health/live", "", "200", ""),
                ("GET", "/v2/health/ready", "", "200", ""),
                ("GET", "/v2", "", "401", "no credentials"),
                ("GET", "/v2/models/steel-s", "", "401", "no credentials"),
                ("GET", "/v2/models/steel-s", "mgt_no", "401", "`mgt_`"),
                ("GET", "/v2/models/steel-s", &token, "200", "steel-s"),
                ("GET", "/v2/models/steel%2ds/ready", &token, "200", ""),
                ("GET", "/v2/models/pcb-s", &token, "403", "may not run `pcb-s`"),
                ("GET", "/v2/models/pcb%2Ds/config", &token, "403", "may not run `pcb-s`"),
                ("POST", "/v2/models/pcb-s/infer", &token, "403", "may not run `pcb-s`"),
                ("POST", "/v2/models/steel-s/infer", &token, "400", ""),
                ("POST", "/v2/repository/models/steel-s/unload", &token, "403", "--admin"),
                ("POST", "/v2/logging", &token, "403", "--admin"),
                ("GET", "/v2/models/steel-s/trace/setting", &token, "403", "--admin"),
                ("POST", "/v2/repository/index", &token, "200", "steel-s"),
                ("GET", "/v2/models/stats", &token, "200", "steel-s"),
            ] {
                let answer = ask(method, path, token);
                let begins = format!("HTTP/1.1 {status}");
                assert!(answer.starts_with(&begins) && answer.contains(words), "{method} {path}: {answer}");
                assert!(status == "403" || status == "401" || !answer.contains("pcb-s"), "{path}: {answer}");
                assert_eq!(
                    status == "401",
                    answer.to_lowercase().contains("www-authenticate: bearer"),
                    "{answer}"
                );
            }
        }
    });
    checked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_machine_needs_no_token_and_is_held_to_one_that_it_shows() {
    let pool = tls_pool_with(|config, _| config.tls.enabled = None).await;
    let token = pool.token(|token| token.models = names(&["steel-*"]));
    let channel = tonic::transport::Endpoint::from_shared(pool.pool.url()).unwrap().connect().await.unwrap();
    let mut experts = ExpertServiceClient::new(channel);
    experts.run_experts(with("", run(&["pcb-s", "steel-s"], &pool))).await.unwrap();
    // What somebody else's proxy left there means nothing here.
    experts.run_experts(with("eyJhbGciOiJ", run(&["steel-s"], &pool))).await.unwrap();
    let known = tokio::time::timeout(PATIENCE, async {
        loop {
            match experts.run_experts(with(&token, run(&["pcb-s"], &pool))).await {
                Err(status) if status.code() == Code::PermissionDenied => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    known.await.expect("the token's bounds hold");
}

/// Without Python and the packages of the suite it is skipped, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_tritonclient_comes_with_tls_and_a_token() {
    let python = match tokio::task::spawn_blocking(system_tests::python::python).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return eprintln!("SKIPPED: no Python with tritonclient: {reason}"),
    };
    let tls = tls_pool().await;
    let token = tls.token(|token| token.models = names(&["pcb-*"]));
    let (grpc, http) = (tls.pool.grpc_addr().to_string(), tls.pool.http_addr().to_string());
    let ca = tls.state_dir().join("ca.pem");
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(python);
        command
            .arg(system_tests::root().join("tests/tritonclient/tls.py"))
            .args([grpc, http])
            .arg(ca)
            .arg(token);
        system_tests::python::run(&mut command)
    });
    let report = ran.await.unwrap().unwrap_or_else(|report| panic!("{report}"));
    assert!(report.contains("all as it should be"), "{report}");
}
