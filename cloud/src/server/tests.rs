//! The whole pool over loopback, with the bundle that ships.

use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;

mod ending;

fn factory() -> PathBuf {
    PathBuf::from("../models/factory")
}

fn config() -> CloudConfig {
    let any = "127.0.0.1:0".parse().unwrap();
    CloudConfig {
        bundle: factory(),
        grpc: any,
        http: any,
        metrics: any,
        threads: 2,
        ..CloudConfig::default()
    }
}

async fn start(config: CloudConfig) -> (Running, Channel) {
    let running = Server::start(config).await.unwrap();
    let url = format!("http://{}", running.grpc_addr());
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    (running, channel)
}

fn picture(modality: &str, file: &str) -> v1::Part {
    v1::Part {
        modality: modality.to_owned(),
        data: std::fs::read(factory().join("golden").join(file)).unwrap().into(),
        ..v1::Part::default()
    }
}

fn board() -> Vec<v1::Part> {
    vec![picture("image", "pcb-open.png"), picture("template", "pcb-open.template.png")]
}

fn decide(mode: &str) -> v1::DecideRequest {
    let sample = v1::Sample { task: "inspect".to_owned(), parts: board(), ..v1::Sample::default() };
    v1::DecideRequest {
        request_id: format!("r-{mode}"),
        sample: Some(sample),
        mode: mode.to_owned(),
        pinned: vec!["pcb-l".to_owned()],
        ..v1::DecideRequest::default()
    }
}

fn ask(running: &Running, experts: &[&str]) -> v1::RunExpertsRequest {
    v1::RunExpertsRequest {
        bundle_digest: running.pool().hosted().unwrap().digest().as_bytes().to_vec().into(),
        experts: experts.iter().map(|name| (*name).to_owned()).collect(),
        parts: board(),
        ..v1::RunExpertsRequest::default()
    }
}

async fn http(running: &Running, path: &str) -> String {
    let mut tcp = tokio::net::TcpStream::connect(running.metrics_addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_decides_and_says_where_and_why() {
    let (running, channel) = start(config()).await;
    let mut client = InferenceServiceClient::new(channel);
    for mode in ["", "confidence", "gate", "always", "never", "pinned"] {
        let response = client.decide(decide(mode)).await.unwrap().into_inner();
        assert_eq!(response.request_id, format!("r-{mode}"));
        let decision = response.decision.unwrap();
        let verdict = decision.verdict.unwrap();
        assert!(verdict.label.starts_with("deeppcb/"), "{verdict:?}");
        assert!(decision.experts.iter().all(|share| share.r#where == "cloud:node-1"));
        assert_eq!(decision.sample.unwrap().sha256.len(), 64);
        assert!(decision.degraded.is_none());
        if mode == "pinned" {
            assert_eq!(decision.experts[0].name, "pcb-l");
        }
    }
    let message = |error: Status| (error.code(), error.message().to_owned());
    let (code, text) = message(client.decide(decide("sometimes")).await.unwrap_err());
    assert!(code == Code::InvalidArgument && text.contains("`mode`"), "{text}");
    let mut broken = decide("");
    broken.sample.as_mut().unwrap().parts[1].data = vec![1; 5 << 20].into();
    let (code, text) = message(client.decide(broken).await.unwrap_err());
    assert!(code == Code::InvalidArgument && text.contains("sample.parts[1].data"), "{text}");
    let mut empty = decide("");
    empty.sample.as_mut().unwrap().parts.clear();
    assert_eq!(client.decide(empty).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(running.drain(Duration::from_secs(5)).await, Drained { cut_calls: 0 });
}

#[tokio::test]
async fn named_experts_answer_and_each_refusal_has_its_code() {
    let (running, channel) = start(config()).await;
    let mut client = ExpertServiceClient::new(channel);
    let good = ask(&running, &["pcb-l", "pcb-s", "steel-l"]);
    let response = client.run_experts(good.clone()).await.unwrap().into_inner();
    assert_eq!(response.node, "node-1");
    let names: Vec<&str> = response.answers.iter().map(|answer| answer.expert.as_str()).collect();
    assert_eq!(names, ["pcb-l", "pcb-s", "steel-l"]);
    for answer in &response.answers {
        assert!(answer.error.is_none() && answer.compute_us > 0 && answer.outputs.len() == 1, "{answer:?}");
        assert_eq!(answer.outputs[0].name, "logits");
    }
    let all = v1::RunExpertsRequest { all_outputs: true, ..good.clone() };
    let answers = client.run_experts(all).await.unwrap().into_inner().answers;
    assert!(answers[0].outputs.len() >= 2 && answers[0].outputs[0].name == "logits");

    // Without its template an expert cannot run; another one can.
    let lone =
        v1::RunExpertsRequest { parts: vec![board().remove(0)], ..ask(&running, &["pcb-l", "steel-l"]) };
    let answers = client.run_experts(lone).await.unwrap().into_inner().answers;
    assert!(answers[0].error.as_ref().unwrap().message.contains("template") && answers[1].error.is_none());

    let other = v1::RunExpertsRequest { bundle_digest: vec![9; 32].into(), ..good.clone() };
    let late = v1::RunExpertsRequest { timeout_us: 1, ..good.clone() };
    let both = v1::RunExpertsRequest { tensors: vec![v1::Tensor::default()], ..good.clone() };
    for (request, code, words) in [
        (ask(&running, &["nobody"]), Code::NotFound, "nobody"),
        (ask(&running, &[]), Code::InvalidArgument, "`experts`"),
        (ask(&running, &["pcb-l", "pcb-l"]), Code::InvalidArgument, "experts[1]"),
        (other, Code::FailedPrecondition, "sha256:0909"),
        (late, Code::DeadlineExceeded, "deadline"),
        (both, Code::InvalidArgument, "`tensors[0].name`"),
    ] {
        let status = client.run_experts(request).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(words), "{status:?}");
    }
    let mut timed = tonic::Request::new(good);
    timed.set_timeout(Duration::from_micros(1));
    let status = client.run_experts(timed).await.unwrap_err();
    // The client's own timer may be the first to fire, and tonic names that CANCELLED.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");

    let listed = client.list_experts(v1::ListExpertsRequest::default()).await.unwrap().into_inner();
    assert!(listed.experts.iter().all(|expert| expert.ready && expert.latency_us > 0));
    // Jobs that nobody waits for any more leave the queue when a thread gets to them.
    let mut metrics = http(&running, "/metrics").await;
    while !metrics.contains("millgate_queue_length 0") {
        metrics = http(&running, "/metrics").await;
    }
    for line in [
        "millgate_requests_total{method=\"RunExperts\",code=\"NOT_FOUND\"} 1",
        "millgate_expert_runs_total{expert=\"pcb-l\",result=\"ok\"}",
        "millgate_bundle_info{name=\"factory\"",
        "millgate_expert_compute_seconds_bucket",
        "millgate_queue_length 0",
        "millgate_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_stream_stays_usable_and_answers_by_call_id() {
    let (running, channel) = start(config()).await;
    let mut requests: Vec<v1::RunExpertsRequest> = (1..=20)
        .map(|call_id| v1::RunExpertsRequest {
            call_id,
            bundle_digest: Default::default(),
            ..ask(&running, &["pcb-l"])
        })
        .collect();
    requests[0].bundle_digest = running.pool().hosted().unwrap().digest().as_bytes().to_vec().into();
    requests[7].experts = vec!["nobody".to_owned()];
    requests[8].timeout_us = 1;
    let answers = ExpertServiceClient::new(channel).run_experts_stream(stream::iter(requests)).await.unwrap();
    let mut answers: Vec<v1::RunExpertsStreamResponse> =
        answers.into_inner().map(Result::unwrap).collect().await;
    answers.sort_by_key(|answer| answer.call_id);
    assert_eq!(answers.len(), 20);
    for answer in answers {
        let code = match answer.result.unwrap() {
            v1::run_experts_stream_response::Result::Response(response) => {
                assert_eq!(response.call_id, answer.call_id);
                Code::Ok
            }
            v1::run_experts_stream_response::Result::Error(error) => Code::from(error.code),
        };
        let expected = match answer.call_id {
            8 => Code::NotFound,
            9 => Code::DeadlineExceeded,
            _ => Code::Ok,
        };
        assert_eq!(code, expected, "call {}", answer.call_id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_an_immediate_refusal_with_a_time_to_retry() {
    let (running, channel) = start(CloudConfig { threads: 1, queue: 2, ..config() }).await;
    let client = ExpertServiceClient::new(channel);
    let calls = (0..64).map(|_| {
        let (mut client, request) = (client.clone(), ask(&running, &["pcb-l"]));
        async move { client.run_experts(request).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    let refused: Vec<&Status> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < 64, "{} refused", refused.len());
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(
            status.get_error_details().retry_info().unwrap().retry_delay.unwrap() >= Duration::from_millis(1)
        );
    }
    assert!(http(&running, "/healthz").await.contains("200 OK"));
}

#[tokio::test]
async fn it_describes_itself() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let (_running, channel) = start(config()).await;
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers =
        ServerReflectionClient::new(channel).server_reflection_info(stream::iter([ask])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["millgate.v1.ExpertService", "millgate.v1.InferenceService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_start_is_told_apart() {
    let missing = Server::start(CloudConfig { bundle: "nowhere".into(), ..config() }).await.unwrap_err();
    assert!(missing.is_bad_input() && missing.to_string().contains("nowhere"), "{missing}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error =
        Server::start(CloudConfig { grpc: taken.local_addr().unwrap(), ..config() }).await.unwrap_err();
    assert!(!error.is_bad_input() && error.to_string().starts_with("`grpc`: cannot listen on"), "{error}");
}
