//! What an operator sees of served models: metrics, kept answers, traces.

use millgate_cloud::config::{CacheConfig, TracesConfig};
use millgate_cloud::server::Running;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelStatisticsRequest,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use system_tests::{bundle, pool_with, url};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Request};

use collector::{Collector, attribute};
use page::Page;

mod collector;
mod page;

type Client = GrpcInferenceServiceClient<Channel>;

async fn client(pool: &Running) -> Client {
    GrpcInferenceServiceClient::connect(url(pool)).await.unwrap()
}

async fn request(client: &mut Client, model: &str, value: f32) -> ModelInferRequest {
    let name = ModelMetadataRequest { name: model.to_owned(), version: String::new() };
    let metadata = client.model_metadata(name).await.unwrap().into_inner();
    let mut made = ModelInferRequest { model_name: model.to_owned(), ..ModelInferRequest::default() };
    for input in metadata.inputs {
        let shape: Vec<i64> = input.shape.iter().map(|axis| (*axis).max(1)).collect();
        let count = shape.iter().product::<i64>() as usize;
        made.raw_input_contents.push(value.to_le_bytes().repeat(count).into());
        let (name, datatype) = (input.name, input.datatype);
        made.inputs.push(InferInputTensor { name, datatype, shape, ..InferInputTensor::default() });
    }
    made
}

fn parameter(name: &str, choice: ParameterChoice) -> (String, InferParameter) {
    (name.to_owned(), InferParameter { parameter_choice: Some(choice) })
}

async fn metrics(pool: &Running) -> Page {
    let mut socket = tokio::net::TcpStream::connect(pool.metrics_addr()).await.unwrap();
    let asked = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n";
    socket.write_all(asked).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    Page::parse(body)
}

/// A repository with one model, `mine`, of a file of the bundle.
fn repository(from: &str, config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("mine/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::copy(bundle().join(from).join("1/model.onnx"), version.join("model.onnx")).unwrap();
    std::fs::write(folder.path().join("mine/config.pbtxt"), config).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_page_is_openmetrics_and_counts_requests_by_what_came_of_them() {
    let folder = repository("gate", "");
    let pool = pool_with(|config| config.model_repository = vec![folder.path().to_path_buf()]).await;
    let mut client = client(&pool).await;
    let good = request(&mut client, "pcb-l", 0.5).await;
    client.model_infer(good.clone()).await.unwrap();
    client.model_infer(good.clone()).await.unwrap();
    let bad = request(&mut client, "pcb-l", f32::NAN).await;
    assert_eq!(client.model_infer(bad).await.unwrap_err().code(), Code::InvalidArgument);
    let mut late = good;
    late.parameters.extend([parameter("timeout", ParameterChoice::Int64Param(5))]);
    assert_eq!(client.model_infer(late).await.unwrap_err().code(), Code::DeadlineExceeded);

    let page = metrics(&pool).await;
    let ours = |result: &str| {
        page.value(
            "millgate_inference_requests_total",
            &[("model", "pcb-l"), ("version", "1"), ("result", result)],
        )
    };
    assert_eq!(["ok", "invalid", "expired", "failed"].map(ours), [2.0, 1.0, 1.0, 0.0]);
    let labels = [("model", "pcb-l"), ("version", "1")];
    for (name, value) in [
        ("millgate_inference_rows_total", 2.0),
        ("millgate_inference_batches_total", 2.0),
        ("millgate_inference_request_seconds_count", 2.0),
        ("millgate_inference_queue_seconds_count", 2.0),
        ("millgate_inference_compute_seconds_count", 2.0),
        ("millgate_inference_batch_rows_sum", 2.0),
        ("millgate_inference_pending_entries", 0.0),
        ("nv_inference_request_success", 2.0),
        ("nv_inference_count", 2.0),
        ("nv_inference_exec_count", 2.0),
        ("nv_inference_pending_request_count", 0.0),
        ("nv_inference_first_response_histogram_ms_count", 2.0),
    ] {
        assert_eq!(page.value(name, &labels), value, "{name}");
    }
    for name in ["request", "queue", "compute_input", "compute_infer", "compute_output"] {
        page.value(&format!("nv_inference_{name}_duration_us"), &labels);
    }
    for (reason, count) in [("REJECTED", 1.0), ("CANCELED", 0.0), ("BACKEND", 0.0), ("OTHER", 1.0)] {
        let labels = [("model", "pcb-l"), ("version", "1"), ("reason", reason)];
        assert_eq!(page.value("nv_inference_request_failure", &labels), count, "{reason}");
    }
    assert_eq!(page.value("millgate_inference_backlog_seconds", &[]), 0.0);
    assert_eq!(page.value("nv_inference_count", &[("model", "mine"), ("version", "1")]), 0.0);
    // Only models that are loaded have lines: labels stay bounded.
    let unload = RepositoryModelUnloadRequest { model_name: "mine".to_owned(), ..Default::default() };
    client.repository_model_unload(unload).await.unwrap();
    assert!(!metrics(&pool).await.names_model("mine"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tritons_names_can_be_left_out() {
    let pool = pool_with(|config| config.triton_metrics = false).await;
    let page = metrics(&pool).await;
    assert!(page.families().all(|name| name.starts_with("millgate_")));
}

fn was_hit(answer: &ModelInferResponse) -> Option<bool> {
    match answer.parameters.get("cache_hit")?.parameter_choice.as_ref()? {
        ParameterChoice::BoolParam(hit) => Some(*hit),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_answer_is_the_answer_and_a_reload_forgets_it() {
    let folder = repository("gate", "max_batch_size: 8\nresponse_cache { enable: true }");
    let pool = pool_with(|config| {
        config.model_repository = vec![folder.path().to_path_buf()];
        config.cache = CacheConfig { bytes: 1 << 20, bundle: false };
    })
    .await;
    let mut client = client(&pool).await;
    // Of infinity comes what is no number, which is kept bit for bit like any other.
    for value in [0.25, f32::INFINITY] {
        let asked = request(&mut client, "mine", value).await;
        let computed = client.model_infer(asked.clone()).await.unwrap().into_inner();
        let kept = client.model_infer(asked.clone()).await.unwrap().into_inner();
        assert_eq!((was_hit(&computed), was_hit(&kept)), (Some(false), Some(true)));
        assert_eq!(computed.raw_output_contents, kept.raw_output_contents);
        assert_eq!(computed.outputs, kept.outputs);
        assert_eq!(kept.parameters["compute_us"], parameter("", ParameterChoice::Int64Param(0)).1);
        // Parameters that are not ours may mean anything, so they are part of the question; ours are not.
        let mut other = asked.clone();
        other.parameters.extend([parameter("temperature", ParameterChoice::DoubleParam(0.5))]);
        assert_eq!(was_hit(&client.model_infer(other).await.unwrap().into_inner()), Some(false));
        let mut urgent = asked;
        urgent.parameters.extend([parameter("priority", ParameterChoice::Int64Param(1))]);
        assert_eq!(was_hit(&client.model_infer(urgent).await.unwrap().into_inner()), Some(true));
    }
    let of_bundle = request(&mut client, "pcb-l", 0.25).await;
    assert_eq!(was_hit(&client.model_infer(of_bundle).await.unwrap().into_inner()), None);

    let name = ModelStatisticsRequest { name: "mine".to_owned(), version: String::new() };
    let statistics = client.model_statistics(name).await.unwrap().into_inner().model_stats.remove(0);
    let stats = statistics.inference_stats.unwrap();
    assert_eq!((statistics.execution_count, statistics.inference_count), (4, 4));
    assert_eq!((stats.success.unwrap().count, stats.cache_hit.unwrap().count), (8, 4));
    assert_eq!(stats.cache_miss.unwrap().count, 4);
    let page = metrics(&pool).await;
    let labels = [("model", "mine"), ("version", "1")];
    for (name, value) in [
        ("millgate_cache_hits_total", 4.0),
        ("millgate_cache_misses_total", 4.0),
        ("nv_cache_num_hits_per_model", 4.0),
        ("nv_cache_num_misses_per_model", 4.0),
    ] {
        assert_eq!(page.value(name, &labels), value, "{name}");
    }
    assert_eq!(page.value("millgate_cache_entries", &[]), 4.0);
    assert_eq!(page.value("millgate_cache_evictions_total", &[]), 0.0);

    // A file that is the same is not loaded again, and its answers stay; another one has none.
    let load = || RepositoryModelLoadRequest { model_name: "mine".to_owned(), ..Default::default() };
    client.repository_model_load(load()).await.unwrap();
    assert_eq!(metrics(&pool).await.value("millgate_cache_entries", &[]), 4.0);
    std::fs::copy(bundle().join("image-encoder/1/model.onnx"), folder.path().join("mine/1/model.onnx"))
        .unwrap();
    client.repository_model_load(load()).await.unwrap();
    let page = metrics(&pool).await;
    assert_eq!(
        (page.value("millgate_cache_entries", &[]), page.value("millgate_cache_bytes", &[])),
        (0.0, 0.0)
    );
    let asked = request(&mut client, "mine", 0.25).await;
    assert_eq!(was_hit(&client.model_infer(asked).await.unwrap().into_inner()), Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_not_kept() {
    let pool = pool_with(|config| config.cache = CacheConfig { bytes: 1 << 20, bundle: true }).await;
    let mut client = client(&pool).await;
    let poisoned = request(&mut client, "pcb-l", f32::NAN).await;
    let mut late = request(&mut client, "pcb-l", 0.5).await;
    late.parameters.extend([parameter("timeout", ParameterChoice::Int64Param(5))]);
    for _ in 0..2 {
        assert_eq!(client.model_infer(poisoned.clone()).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(client.model_infer(late.clone()).await.unwrap_err().code(), Code::DeadlineExceeded);
    }
    assert_eq!(metrics(&pool).await.value("millgate_cache_entries", &[]), 0.0);
    let good = request(&mut client, "pcb-l", 0.5).await;
    assert_eq!(was_hit(&client.model_infer(good).await.unwrap().into_inner()), Some(false));
    assert_eq!(
        was_hit(&client.model_infer(late).await.unwrap().into_inner()),
        Some(true),
        "no time is needed"
    );
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traced<T>(message: T, sampled: bool) -> Request<T> {
    let mut request = Request::new(message);
    let flags = if sampled { "01" } else { "00" };
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-{flags}").parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    request
}

fn traces(endpoint: String, sample_ratio: f64) -> TracesConfig {
    TracesConfig { endpoint: Some(endpoint), sample_ratio, service_name: Some("line-3".to_owned()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_goes_on_through_the_pool() {
    let collector = Collector::start().await;
    // Nothing is sampled of itself: what is, a caller has asked for.
    let pool = pool_with(|config| config.traces = traces(collector.url(), 0.0)).await;
    let mut client = client(&pool).await;
    let mut good = request(&mut client, "pcb-l", 0.5).await;
    "request 7".clone_into(&mut good.id);
    let bad = request(&mut client, "pcb-l", f32::NAN).await;
    client.model_infer(good.clone()).await.unwrap();
    client.model_infer(traced(good.clone(), false)).await.unwrap();
    client.model_infer(traced(good.clone(), true)).await.unwrap();
    client.model_infer(traced(bad, true)).await.unwrap_err();
    let stream = traced(tokio_stream::iter([good.clone(), good]), true);
    let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    pool.drain(system_tests::PATIENCE).await;

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace() == TRACE && span.service == "line-3"), "{spans:?}");
    assert!(spans.iter().all(|span| span.span.trace_state == "vendor=1"));
    let calls: Vec<_> = spans.iter().filter(|span| span.parent() == PARENT).collect();
    let statuses: Vec<_> = calls
        .iter()
        .map(|call| (call.span.name.as_str(), attribute(call, "rpc.response.status_code")))
        .collect();
    let (infer, stream) =
        ("inference.GRPCInferenceService/ModelInfer", "inference.GRPCInferenceService/ModelStreamInfer");
    assert_eq!(statuses, [(infer, "OK".into()), (infer, "INVALID_ARGUMENT".into()), (stream, "OK".into())]);
    assert!(calls.iter().all(|call| attribute(call, "rpc.system.name") == "grpc"));
    let children = |of: &collector::Exported, name: &str| -> Vec<_> {
        let is_child = |span: &&collector::Exported| span.parent() == of.id() && span.span.name == name;
        spans.iter().filter(is_child).collect()
    };
    for (call, requests) in calls.iter().zip([1, 1, 2]) {
        assert_eq!(children(call, "infer").len(), requests);
    }
    assert_eq!(children(calls[0], "encode").len(), 1);
    let answered = children(calls[0], "infer")[0];
    assert_eq!(attribute(answered, "millgate.model"), "pcb-l");
    assert_eq!(attribute(answered, "millgate.version"), "1");
    assert_eq!(attribute(answered, "millgate.request_id"), "request 7");
    assert!(!attribute(answered, "millgate.engine").is_empty());
    let (queue, compute) = (children(answered, "queue")[0], children(answered, "compute")[0]);
    assert_eq!(attribute(compute, "millgate.batch_rows"), "1");
    assert!(answered.span.start_time_unix_nano == queue.span.start_time_unix_nano);
    assert!(queue.span.end_time_unix_nano <= compute.span.start_time_unix_nano);
    assert!(compute.span.end_time_unix_nano <= answered.span.end_time_unix_nano);
    let failed = children(calls[1], "infer")[0];
    assert_eq!(attribute(failed, "error.type"), "invalid");
    assert!(children(failed, "compute").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_harms_no_call() {
    // Bound and closed again: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pool = pool_with(|config| config.traces = traces(format!("http://{free}"), 1.0)).await;
    let mut client = client(&pool).await;
    let good = request(&mut client, "pcb-l", 0.5).await;
    for _ in 0..16 {
        client.model_infer(good.clone()).await.unwrap();
    }
    assert_eq!(pool.drain(system_tests::PATIENCE).await.cut_calls, 0);
}
