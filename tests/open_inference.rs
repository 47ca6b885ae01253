//! The Open Inference Protocol: a batch never changes an answer, whoever the neighbours are.

use futures_util::future::join_all;
use millgate_cloud::server::Running;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    ModelInferRequest, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use system_tests::{bundle, pool, pool_with, url};
use tonic::Code;
use tonic::transport::Channel;

type Client = GrpcInferenceServiceClient<Channel>;

async fn client(pool: &Running) -> Client {
    GrpcInferenceServiceClient::connect(url(pool)).await.unwrap()
}

async fn metadata(client: &mut Client, model: &str) -> ModelMetadataResponse {
    let request = ModelMetadataRequest { name: model.to_owned(), version: String::new() };
    client.model_metadata(request).await.unwrap().into_inner()
}

/// A request of one row; each seed has its own values.
fn request(model: &ModelMetadataResponse, seed: u64) -> ModelInferRequest {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = || 2.0 * random.f32() - 1.0;
    let mut made = ModelInferRequest { model_name: model.name.clone(), ..ModelInferRequest::default() };
    for input in &model.inputs {
        let shape: Vec<i64> = input.shape.iter().map(|axis| (*axis).max(1)).collect();
        let count: i64 = shape.iter().product();
        let raw: Vec<u8> = (0..count).flat_map(|_| next().to_le_bytes()).collect();
        made.raw_input_contents.push(raw.into());
        let (name, datatype) = (input.name.clone(), input.datatype.clone());
        made.inputs.push(InferInputTensor { name, datatype, shape, ..InferInputTensor::default() });
    }
    made
}

fn poisoned(mut request: ModelInferRequest, seed: u64) -> ModelInferRequest {
    match seed % 3 {
        0 => {
            request.raw_input_contents[0] =
                [&f32::NAN.to_le_bytes()[..], &request.raw_input_contents[0][4..]].concat().into()
        }
        1 => request.raw_input_contents[0] = request.raw_input_contents[0].slice(1..),
        _ => request.inputs[0].shape[0] = 3,
    }
    request
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_every_model_batched_equals_single_and_only_the_poisoned_fail() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert!(index.models.len() >= 10, "{index:?}");
    let mut joined = 0;
    for model in index.models {
        let metadata = metadata(&mut client, &model.name).await;
        // Made of the others; `mixture.rs` asks it.
        if metadata.platform == "ensemble" {
            continue;
        }
        let mut alone = Vec::new();
        for seed in 0..24 {
            alone.push(client.model_infer(request(&metadata, seed)).await.unwrap().into_inner());
        }
        let calls = (0..24).map(|seed| {
            let (mut client, request) = (client.clone(), request(&metadata, seed));
            let request = if seed % 4 == 3 { poisoned(request, seed / 4) } else { request };
            async move { client.model_infer(request).await }
        });
        for (seed, answer) in join_all(calls).await.into_iter().enumerate() {
            if seed % 4 == 3 {
                assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument, "{} {seed}", model.name);
                continue;
            }
            let answer = answer.unwrap().into_inner();
            for (got, expected) in answer.raw_output_contents.iter().zip(&alone[seed].raw_output_contents) {
                for (got, expected) in floats(got).into_iter().zip(floats(expected)) {
                    let allowed = 1e-5 + 1e-4 * expected.abs();
                    assert!(
                        (got - expected).abs() <= allowed,
                        "{} {seed}: {got}, alone {expected}",
                        model.name
                    );
                }
            }
        }
        let request = ModelStatisticsRequest { name: model.name, version: String::new() };
        let statistics = client.model_statistics(request).await.unwrap().into_inner();
        let of_model = &statistics.model_stats[0];
        assert_eq!(of_model.inference_count, 42);
        joined += of_model.inference_count - of_model.execution_count;
    }
    assert!(joined > 0, "not one batch of several rows was formed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_comes_goes_and_changes_under_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let put = |from: &str| {
        let to = folder.path().join("mine/1");
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(bundle().join(from).join("1/model.onnx"), to.join("model.onnx")).unwrap();
    };
    put("gate");
    // A folder that is named as a model of the bundle takes nothing away.
    std::fs::create_dir_all(folder.path().join("pcb-l/1")).unwrap();
    let pool = pool_with(|config| config.model_repository = vec![folder.path().to_path_buf()]).await;
    let mut client = client(&pool).await;
    let outputs = |model: ModelMetadataResponse| -> Vec<String> {
        model.outputs.into_iter().map(|output| output.name).collect()
    };
    assert_eq!(outputs(metadata(&mut client, "mine").await), ["scores"]);
    let bundled = ModelReadyRequest { name: "pcb-l".to_owned(), version: String::new() };
    assert!(client.model_ready(bundled).await.unwrap().into_inner().ready);
    // What lies in the folder is served when it is asked for, not before; and a broken file harms nobody.
    std::fs::write(folder.path().join("mine/1/model.onnx"), b"no model").unwrap();
    let load = || RepositoryModelLoadRequest { model_name: "mine".to_owned(), ..Default::default() };
    let status = client.repository_model_load(load()).await.unwrap_err();
    assert!(
        status.code() == Code::FailedPrecondition && status.message().contains("not an ONNX file"),
        "{status:?}"
    );
    let gate = metadata(&mut client, "mine").await;
    client.model_infer(request(&gate, 1)).await.unwrap();
    put("image-encoder");
    client.repository_model_load(load()).await.unwrap();
    assert_eq!(outputs(metadata(&mut client, "mine").await), ["embedding"]);
    let status = client.model_infer(request(&gate, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

    let unload = RepositoryModelUnloadRequest { model_name: "mine".to_owned(), ..Default::default() };
    client.repository_model_unload(unload).await.unwrap();
    let ready = ModelReadyRequest { name: "mine".to_owned(), version: String::new() };
    assert!(!client.model_ready(ready).await.unwrap().into_inner().ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_cannot_be_met_is_refused_before_it_is_computed() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let model = metadata(&mut client, "pcb-l").await;
    let mut late = request(&model, 1);
    let micros = millgate_shared::proto::inference::infer_parameter::ParameterChoice::Int64Param(5);
    let timeout = millgate_shared::proto::inference::InferParameter { parameter_choice: Some(micros) };
    late.parameters.insert("timeout".to_owned(), timeout);
    assert_eq!(client.model_infer(late).await.unwrap_err().code(), Code::DeadlineExceeded);
    let request = ModelStatisticsRequest { name: "pcb-l".to_owned(), version: String::new() };
    let statistics = client.model_statistics(request).await.unwrap().into_inner();
    let of_model = statistics.model_stats[0].clone();
    assert_eq!((of_model.execution_count, of_model.inference_stats.unwrap().fail.unwrap().count), (0, 1));
}
