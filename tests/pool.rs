//! The pool's own API: experts by name, typed errors, deadlines, health, reflection, metrics.

use std::time::Duration;

use millgate_cloud::server::Running;
use millgate_shared::image::{Channels, Limits, decode};
use millgate_shared::part::Value;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::run_experts_stream_response::Result as StreamResult;
use millgate_shared::proto::{MAX_MESSAGE_BYTES, v1};
use millgate_shared::wire::write_tensor;
use system_tests::{pool, pool_with, recorded_of, run, url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

async fn client(pool: &Running) -> ExpertServiceClient<Channel> {
    ExpertServiceClient::connect(url(pool)).await.unwrap().max_encoding_message_size(2 * MAX_MESSAGE_BYTES)
}

fn parts(product: &str) -> Vec<v1::Part> {
    // The template goes first, as the agent sends it.
    let mut parts = system_tests::parts(&recorded_of(product, 1)[0].path);
    parts.reverse();
    parts
}

/// Digest of the shipped bundle; a call must name it.
fn digest() -> tonic::codegen::Bytes {
    static DIGEST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let digest = DIGEST.get_or_init(|| {
        millgate_shared::bundle::Bundle::open(&system_tests::bundle()).unwrap().digest().as_bytes().to_vec()
    });
    digest.clone().into()
}

fn request(experts: &[&str], parts: Vec<v1::Part>) -> v1::RunExpertsRequest {
    let experts = experts.iter().map(|name| (*name).to_owned()).collect();
    v1::RunExpertsRequest { call_id: 7, bundle_digest: digest(), experts, parts, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_tensors_give_the_same_logits() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let hosted = pool.pool().hosted().unwrap();
    let manifest = hosted.manifest();
    let expert = &manifest.experts[manifest.expert_index("pcb-l").unwrap()];
    let by_image = client.run_experts(request(&["pcb-l"], parts("deeppcb"))).await.unwrap().into_inner();
    assert_eq!((by_image.call_id, by_image.node.as_str()), (7, "node-1"));

    let mut with_tensors = request(&["pcb-l"], Vec::new());
    for part in parts("deeppcb") {
        let spec = expert.inputs.iter().find(|input| input.modality == part.modality).unwrap();
        let decoded = decode(&part.data, Channels::GREY, &Limits::default()).unwrap();
        let tensor = spec.prepare.prepare(&Value::from(decoded.array().clone())).unwrap();
        with_tensors.tensors.push(write_tensor(&part.modality, &tensor));
    }
    with_tensors.all_outputs = true;
    let by_tensor = client.run_experts(with_tensors).await.unwrap().into_inner();
    let logits = |response: &v1::RunExpertsResponse| {
        assert_eq!(response.answers[0].error, None);
        response.answers[0].outputs.iter().find(|output| output.name == "logits").unwrap().clone()
    };
    assert_eq!(logits(&by_image), logits(&by_tensor));
    let names: Vec<&str> = by_tensor.answers[0].outputs.iter().map(|output| output.name.as_str()).collect();
    assert!(names.contains(&"feat") && names.contains(&"fmap"), "{names:?}");
    assert_eq!(by_image.answers[0].outputs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_call_is_typed_and_named() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let good = || request(&["pcb-l"], parts("deeppcb"));
    let with_part = |change: fn(&mut v1::Part)| {
        let mut request = good();
        change(&mut request.parts[0]);
        request
    };
    let cases: Vec<(v1::RunExpertsRequest, Code, &str)> = vec![
        (request(&["nobody"], parts("deeppcb")), Code::NotFound, "nobody"),
        (request(&[], parts("deeppcb")), Code::InvalidArgument, "experts"),
        (with_part(|part| part.modality = "sound".to_owned()), Code::InvalidArgument, "modality"),
        (with_part(|part| part.codec = "jpeg2000".to_owned()), Code::InvalidArgument, "codec"),
        (
            with_part(|part| part.data = b"not a picture".to_vec().into()),
            Code::InvalidArgument,
            "parts[0].data",
        ),
        (with_part(|part| part.modality = "image".to_owned()), Code::InvalidArgument, "twice"),
        (
            v1::RunExpertsRequest { bundle_digest: vec![1; 32].into(), ..good() },
            Code::FailedPrecondition,
            "sha256:0101",
        ),
        (
            v1::RunExpertsRequest { bundle_digest: vec![1; 3].into(), ..good() },
            Code::InvalidArgument,
            "bundle_digest",
        ),
    ];
    for (request, code, word) in cases {
        let status = client.run_experts(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
        assert!(status.message().contains(word), "{word}: {}", status.message());
    }
    // And the pool still answers.
    assert_eq!(client.run_experts(good()).await.unwrap().into_inner().answers[0].error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tensor_of_another_shape_is_refused_by_name() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let tensor = |name: &str, shape: &[i64], bytes: usize| v1::Tensor {
        name: name.to_owned(),
        datatype: v1::DataType::Fp32.into(),
        shape: shape.to_vec(),
        data: vec![0; bytes].into(),
        ..v1::Tensor::default()
    };
    let size = 4 * 64 * 64;
    for bad in [
        tensor("image", &[1, 1, 32, 128], size),
        tensor("image", &[1, 1, -64, -64], size),
        tensor("image", &[1, 1, 64, 64], size - 4),
        tensor("image", &[i64::MAX, i64::MAX, 2, 2], size),
    ] {
        let mut request = request(&["pcb-l"], Vec::new());
        request.tensors = vec![bad, tensor("template", &[1, 1, 64, 64], size)];
        let failed = match client.run_experts(request).await {
            Ok(response) => response.into_inner().answers[0].error.clone().expect("an error in band").message,
            Err(status) => status.message().to_owned(),
        };
        assert!(failed.contains("tensors[0]"), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_and_a_large_one_is_not() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let of_size = |bytes: usize| {
        let mut request = request(&["pcb-l"], parts("deeppcb"));
        request.parts[0].data = vec![0; bytes].into();
        request
    };
    // Far over tonic's own 4 MiB: it arrives, and is no picture.
    let status = client.run_experts(of_size(32 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = client.run_experts(of_size(MAX_MESSAGE_BYTES + 1)).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_call_and_survives_a_bad_one() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let (send, receive) = tokio::sync::mpsc::channel(8);
    let call = |call_id: u64, experts: &[&str]| v1::RunExpertsRequest {
        call_id,
        // The first message names the bundle for all.
        bundle_digest: if call_id == 1 { digest() } else { Vec::new().into() },
        ..request(experts, parts("deeppcb"))
    };
    for request in [call(1, &["pcb-s", "pcb-l"]), call(2, &["nobody"]), call(3, &["generalist-s"])] {
        send.send(request).await.unwrap();
    }
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut responses = client.run_experts_stream(stream).await.unwrap().into_inner();
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..3 {
        let response = responses.message().await.unwrap().unwrap();
        answers.insert(response.call_id, response.result.unwrap());
    }
    assert!(matches!(&answers[&1], StreamResult::Response(response) if response.answers.len() == 2));
    assert!(matches!(&answers[&2], StreamResult::Error(error) if error.code == Code::NotFound as i32));
    assert!(matches!(&answers[&3], StreamResult::Response(_)));
    drop(send);
    assert!(responses.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_is_said() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let mut late = request(&["pcb-l"], parts("deeppcb"));
    late.timeout_us = 1;
    let expired = match client.run_experts(late).await {
        Ok(response) => response.into_inner().answers[0].error.as_ref().map(|error| error.code),
        Err(status) => Some(status.code() as i32),
    };
    assert_eq!(expired, Some(Code::DeadlineExceeded as i32));
    let mut late = Request::new(request(&["pcb-l"], parts("deeppcb")));
    late.set_timeout(Duration::from_nanos(1));
    let status = client.run_experts(late).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_queue_holds_is_refused_at_once_with_a_hint() {
    let pool = pool_with(|config| {
        config.threads = 1;
        config.queue = 1;
    })
    .await;
    let client = client(&pool).await;
    let call = || {
        let mut client = client.clone();
        async move { client.run_experts(request(&["pcb-l"], parts("deeppcb"))).await }
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        calls.spawn(call());
    }
    let mut refused: Vec<Status> = Vec::new();
    let mut answered = 0;
    while let Some(result) = calls.join_next().await {
        match result.unwrap() {
            Ok(_) => answered += 1,
            Err(status) => refused.push(status),
        }
    }
    assert!(answered > 0, "somebody gets an answer");
    assert!(!refused.is_empty(), "64 calls do not fit a queue of one");
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(!status.details().is_empty(), "a retry hint");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_sample_for_decide_is_typed_and_named() {
    let pool = pool().await;
    let mut client = InferenceServiceClient::connect(url(&pool)).await.unwrap();
    let sample = || v1::Sample { task: "inspect".to_owned(), parts: parts("deeppcb"), ..Default::default() };
    let with = |sample: Option<v1::Sample>, mode: &str| v1::DecideRequest {
        sample,
        mode: mode.to_owned(),
        ..Default::default()
    };
    for (request, word) in [
        (with(None, ""), "sample"),
        (with(Some(v1::Sample { task: "dance".to_owned(), ..sample() }), ""), "dance"),
        (with(Some(v1::Sample { parts: Vec::new(), ..sample() }), ""), "no modality"),
        (with(Some(sample()), "sometimes"), "mode"),
        (v1::DecideRequest { risk: 7.0, ..with(Some(sample()), "") }, "risk"),
    ] {
        let status = client.decide(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(word), "{word}: {status}");
    }
    assert!(client.decide(with(Some(sample()), "")).await.unwrap().into_inner().decision.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_has_a_name_for_each_expert() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let pool = pool().await;
    let channel = Channel::from_shared(url(&pool)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    for service in ["", "millgate.v1.ExpertService", "millgate.v1.InferenceService", "expert/pcb-l"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, tonic_health::ServingStatus::Serving as i32, "{service}");
    }
    let nobody = HealthCheckRequest { service: "expert/nobody".to_owned() };
    assert_eq!(health.check(nobody).await.unwrap_err().code(), Code::NotFound);

    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    let now = watch.message().await.unwrap().unwrap().status;
    assert_eq!(now, tonic_health::ServingStatus::Serving as i32);
    let tasks = millgate_shared::shutdown::Tasks::new();
    let draining = tasks.spawn(async move { pool.drain(Duration::from_secs(5)).await });
    let then = watch.message().await.unwrap().unwrap().status;
    assert_eq!(then, tonic_health::ServingStatus::NotServing as i32);
    drop(watch);
    drop(health);
    draining.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_in_both_versions() {
    use tonic_reflection::pb::{v1 as r1, v1alpha as ra};
    let pool = pool().await;
    let channel = Channel::from_shared(url(&pool)).unwrap().connect().await.unwrap();
    let list = r1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(r1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = r1::server_reflection_client::ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(list))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let r1::server_reflection_response::MessageResponse::ListServicesResponse(listed) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    for service in ["millgate.v1.ExpertService", "millgate.v1.InferenceService", "grpc.health.v1.Health"] {
        assert!(names.contains(&service.to_owned()), "{service}: {names:?}");
    }
    let list = ra::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ra::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = ra::server_reflection_client::ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(list))
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.unwrap().is_some());
}

/// A plain HTTP/1 request, as curl sends it.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_done() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    client.run_experts(request(&["pcb-l"], parts("deeppcb"))).await.unwrap();
    client.run_experts(request(&["nobody"], parts("deeppcb"))).await.unwrap_err();
    let text = get(pool.metrics_addr(), "/metrics").await;
    let line = |start: &str| {
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{text}"))
    };
    assert!(line("millgate_expert_runs_total{expert=\"pcb-l\"").ends_with(" 1"));
    assert!(text.contains("millgate_requests_total"));
    assert!(text.contains("millgate_bundle_info"));
    assert!(get(pool.metrics_addr(), "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(pool.metrics_addr(), "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_a_running_pools_experts() {
    let pool = pool().await;
    let url = url(&pool);
    let ran = tokio::task::spawn_blocking(move || {
        run("millgate-cloud", &["experts", "--pool", &url, "--output", "json"])
    });
    let ran = ran.await.unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("pcb-l"));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_beyond_loopback_must_be_asked_for_in_so_many_words() {
    let ran = tokio::task::spawn_blocking(|| run("millgate-cloud", &["serve", "--metrics", "0.0.0.0:0"]))
        .await
        .unwrap();
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("plaintext_beyond_loopback"), "{}", ran.stderr);
}
