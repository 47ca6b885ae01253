//! A task as a model of the Open Inference Protocol, and a pool that hosts no bundle.

use std::path::{Path, PathBuf};

use millgate_cloud::server::Running;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelReadyRequest,
};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use system_tests::{bundle, part, pool, pool_with, recorded_of, url};
use tonic::Code;
use tonic::transport::Channel;

type Client = GrpcInferenceServiceClient<Channel>;

async fn client(pool: &Running) -> Client {
    GrpcInferenceServiceClient::connect(url(pool)).await.unwrap()
}

fn elements(files: &[Vec<u8>]) -> Vec<u8> {
    files.iter().flat_map(|file| [&(file.len() as u32).to_le_bytes()[..], file].concat()).collect()
}

/// Each input by name, a file a row.
fn ask(inputs: &[(&str, &[Vec<u8>])]) -> ModelInferRequest {
    let mut request = ModelInferRequest { model_name: "inspect".to_owned(), ..Default::default() };
    for (name, files) in inputs {
        request.inputs.push(InferInputTensor {
            name: (*name).to_owned(),
            datatype: "BYTES".to_owned(),
            shape: vec![files.len() as i64],
            ..Default::default()
        });
        request.raw_input_contents.push(elements(files).into());
    }
    request
}

fn texts(response: &ModelInferResponse, output: &str) -> Vec<String> {
    let at = response.outputs.iter().position(|found| found.name == output).unwrap();
    let (mut raw, mut texts) = (&response.raw_output_contents[at][..], Vec::new());
    while let Some((length, rest)) = raw.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        raw = rest;
    }
    texts
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn template_of(path: &Path) -> PathBuf {
    path.with_extension("template.png")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tasks_rows_are_decided_as_each_alone() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let boards = recorded_of("deeppcb", 6);
    let steel = recorded_of("xsdd", 6);
    let paths: Vec<&Path> = boards.iter().chain(&steel).map(|sample| sample.path.as_path()).collect();
    let images: Vec<Vec<u8>> = paths.iter().map(|path| read(path)).collect();
    // Steel has no template: an empty element.
    let templates: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(template_of(path)).unwrap_or_default()).collect();
    assert_eq!(templates.iter().filter(|template| template.is_empty()).count(), 6);
    let request = ask(&[("template", &templates), ("image", &images)]);
    let answer = client.model_infer(request).await.unwrap().into_inner();
    let (labels, records) = (texts(&answer, "label"), texts(&answer, "decision"));
    assert_eq!((labels.len(), records.len()), (12, 12));

    let mut decide = InferenceServiceClient::connect(url(&pool)).await.unwrap();
    for (row, (image, template)) in images.into_iter().zip(templates).enumerate() {
        let mut pictures = vec![part("image", image)];
        pictures.extend((!template.is_empty()).then(|| part("template", template)));
        let sample = v1::Sample { task: "inspect".to_owned(), parts: pictures, ..Default::default() };
        let request = v1::DecideRequest { sample: Some(sample), ..Default::default() };
        let alone = decide.decide(request).await.unwrap().into_inner().decision.unwrap();
        let verdict = alone.verdict.unwrap();
        assert_eq!(labels[row], verdict.label, "row {row}");
        let record: serde_json::Value = serde_json::from_str(&records[row]).unwrap();
        let got = record["verdict"]["probability"].as_f64().unwrap_or(0.0);
        let alone = verdict.probability.unwrap_or(0.0);
        assert!((got - alone).abs() < 1e-4, "row {row}: {got}, alone {alone}");
        assert_eq!(record["state"], "final");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_describes_itself_and_names_what_is_wrong() {
    let pool = pool().await;
    let mut client = client(&pool).await;
    let name = || ModelMetadataRequest { name: "inspect".to_owned(), version: String::new() };
    let metadata = client.model_metadata(name()).await.unwrap().into_inner();
    assert_eq!(metadata.platform, "ensemble");
    let inputs: Vec<(&str, &str)> =
        metadata.inputs.iter().map(|input| (input.name.as_str(), input.datatype.as_str())).collect();
    assert_eq!(inputs, [("image", "BYTES"), ("template", "BYTES")]);
    let probabilities = metadata.outputs.iter().find(|output| output.name == "probabilities").unwrap();
    assert_eq!(probabilities.shape, [-1, 16]);
    let config = ModelConfigRequest { name: "inspect".to_owned(), version: String::new() };
    assert!(client.model_config(config).await.unwrap().into_inner().config.is_some());

    let steel = read(&recorded_of("xsdd", 1)[0].path);
    let alone =
        client.model_infer(ask(&[("image", std::slice::from_ref(&steel))])).await.unwrap().into_inner();
    assert!(texts(&alone, "label")[0].starts_with("xsdd/"));
    for (request, words) in [
        (ask(&[("image", &[steel.clone(), b"no picture".to_vec()])]), "`image`[1]"),
        (ask(&[("image", &[])]), "no rows"),
        (ask(&[("image", &[Vec::new()])]), "no modality"),
        (ask(&[]), "missing"),
        (ask(&[("image", std::slice::from_ref(&steel)), ("template", &[Vec::new(), Vec::new()])]), "rows"),
        (ask(&[("image", &vec![Vec::new(); 257])]), "257"),
        (ask(&[("sound", &[steel])]), "`sound`"),
    ] {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(words), "{words}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_a_bundle_serves_plain_models() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("mine/1");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(bundle().join("gate/1/model.onnx"), to.join("model.onnx")).unwrap();
    let pool = pool_with(|config| {
        config.bundle = PathBuf::new();
        config.model_repository = vec![folder.path().to_path_buf()];
    })
    .await;
    let mut client = client(&pool).await;
    let ready = |name: &str| ModelReadyRequest { name: name.to_owned(), version: String::new() };
    assert!(client.model_ready(ready("mine")).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(ready("pcb-l")).await.unwrap().into_inner().ready);
    let mut experts = ExpertServiceClient::connect(url(&pool)).await.unwrap();
    let status = experts.list_experts(v1::ListExpertsRequest::default()).await.unwrap_err();
    assert!(
        status.code() == Code::FailedPrecondition && status.message().contains("no bundle"),
        "{status:?}"
    );
}
