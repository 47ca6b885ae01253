//! Model repositories under a running pool: versions, reloads under load, MLflow folders, what is told of a model.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use millgate_cloud::server::Running;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    InferParameter, ModelConfig, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest,
    RepositoryModelLoadRequest,
};
use system_tests::{PATIENCE, binary, bundle, pool_with, url};
use tonic::transport::Channel;
use tonic::{Code, Status};

struct Client {
    stub: GrpcInferenceServiceClient<Channel>,
}

impl Client {
    async fn of(pool: &Running) -> Self {
        Self { stub: GrpcInferenceServiceClient::connect(url(pool)).await.unwrap() }
    }

    async fn load(&self, name: &str) -> Result<(), Status> {
        let request = RepositoryModelLoadRequest { model_name: name.to_owned(), ..Default::default() };
        self.stub.clone().repository_model_load(request).await.map(|_| ())
    }

    async fn metadata(&self, name: &str, version: &str) -> Result<ModelMetadataResponse, Status> {
        let request = ModelMetadataRequest { name: name.to_owned(), version: version.to_owned() };
        self.stub.clone().model_metadata(request).await.map(|response| response.into_inner())
    }

    async fn ready(&self, name: &str, version: &str) -> bool {
        let request = ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        self.stub.clone().model_ready(request).await.unwrap().into_inner().ready
    }

    async fn config(&self, name: &str) -> ModelConfig {
        let request = ModelConfigRequest { name: name.to_owned(), version: String::new() };
        self.stub.clone().model_config(request).await.unwrap().into_inner().config.unwrap()
    }

    /// Version, state and reason of each version of a model.
    async fn index(&self, name: &str) -> Vec<(String, String, String)> {
        let response = self.stub.clone().repository_index(RepositoryIndexRequest::default()).await;
        let models = response.unwrap().into_inner().models.into_iter();
        models.filter(|model| model.name == name).map(|it| (it.version, it.state, it.reason)).collect()
    }

    /// Inferences counted, by version.
    async fn counted(&self, name: &str, version: &str) -> Vec<(String, u64)> {
        let request = ModelStatisticsRequest { name: name.to_owned(), version: version.to_owned() };
        let statistics = self.stub.clone().model_statistics(request).await.unwrap().into_inner();
        statistics.model_stats.into_iter().map(|of| (of.version, of.inference_count)).collect()
    }
}

/// One row of a half each.
fn request(model: &ModelMetadataResponse, version: &str) -> ModelInferRequest {
    let (model_name, model_version) = (model.name.clone(), version.to_owned());
    let mut made = ModelInferRequest { model_name, model_version, ..ModelInferRequest::default() };
    for input in &model.inputs {
        let shape: Vec<i64> = input.shape.iter().map(|axis| (*axis).max(1)).collect();
        let count: i64 = shape.iter().product();
        made.raw_input_contents
            .push((0..count).flat_map(|_| 0.5_f32.to_le_bytes()).collect::<Vec<u8>>().into());
        let (name, datatype) = (input.name.clone(), input.datatype.clone());
        made.inputs.push(InferInputTensor { name, datatype, shape, ..InferInputTensor::default() });
    }
    made
}

/// A model of the bundle, as a file of a repository.
fn put(root: &Path, path: &str, model: &str) {
    let to = root.join(path);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(bundle().join(model).join("1/model.onnx"), to).unwrap();
}

async fn serving(root: &Path) -> (Running, Client) {
    let pool = pool_with(|config| config.model_repository = vec![root.to_path_buf()]).await;
    let client = Client::of(&pool).await;
    (pool, client)
}

fn outputs(model: &ModelMetadataResponse) -> Vec<&str> {
    model.outputs.iter().map(|output| output.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_knows_the_versions() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "mine/1/model.onnx", "gate");
    put(root.path(), "mine/3/model.onnx", "image-encoder");
    std::fs::write(root.path().join("mine/config.pbtxt"), "version_policy { all {} }").unwrap();
    let (_pool, client) = serving(root.path()).await;
    let (gate, encoder) =
        (client.metadata("mine", "1").await.unwrap(), client.metadata("mine", "").await.unwrap());
    assert_eq!((outputs(&gate), outputs(&encoder)), (vec!["scores"], vec!["embedding"]));
    assert_eq!((&gate.versions, &encoder.versions), (&vec!["1".to_owned(), "3".to_owned()], &gate.versions));
    let states: Vec<(String, String)> =
        client.index("mine").await.into_iter().map(|(version, state, _)| (version, state)).collect();
    let ready = |version: &str| (version.to_owned(), "READY".to_owned());
    assert_eq!(states, [ready("1"), ready("3")]);
    for (version, is_ready) in [("", true), ("1", true), ("3", true), ("2", false), ("01", false)] {
        assert_eq!(client.ready("mine", version).await, is_ready, "{version}");
    }
    let mut stub = client.stub.clone();
    for (version, of) in [("1", &gate), ("3", &encoder), ("", &encoder)] {
        let answer = stub.model_infer(request(of, version)).await.unwrap().into_inner();
        assert_eq!(answer.model_version, if version.is_empty() { "3" } else { version });
    }
    let status = stub.model_infer(request(&gate, "2")).await.unwrap_err();
    assert_eq!((status.code(), status.message().contains("version 2")), (Code::NotFound, true));
    let counted = |version: &str, count| (version.to_owned(), count);
    assert_eq!(client.counted("mine", "").await, [counted("1", 1), counted("3", 2)]);
    assert_eq!(client.counted("mine", "1").await, [counted("1", 1)]);
    // A version goes; the other has lost nothing.
    std::fs::remove_dir_all(root.path().join("mine/3")).unwrap();
    client.load("mine").await.unwrap();
    assert_eq!(client.metadata("mine", "").await.unwrap().versions, ["1"]);
    assert_eq!(client.counted("mine", "").await, [counted("1", 1)]);
    let status = stub.model_infer(request(&encoder, "3")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "mine/1/model.onnx", "gate");
    let (_pool, client) = serving(root.path()).await;
    let model = client.metadata("mine", "").await.unwrap();
    let expected = client.stub.clone().model_infer(request(&model, "")).await.unwrap().into_inner();
    let (is_done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = |_| {
        let (mut stub, request, expected) = (client.stub.clone(), request(&model, ""), &expected);
        let (is_done, answered) = (Arc::clone(&is_done), Arc::clone(&answered));
        async move {
            while !is_done.load(Ordering::Relaxed) {
                let answer = stub.model_infer(request.clone()).await.unwrap().into_inner();
                assert_eq!(answer.raw_output_contents.len(), expected.raw_output_contents.len());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let reloads = async {
        for reload in 0..40 {
            // Another configuration makes it another model; its version comes and goes beside.
            let delay = format!("dynamic_batching {{ max_queue_delay_microseconds: {reload} }}");
            std::fs::write(root.path().join("mine/config.pbtxt"), delay).unwrap();
            match reload % 4 {
                1 => put(root.path(), "mine/2/model.onnx", "gate"),
                3 => std::fs::remove_dir_all(root.path().join("mine/2")).unwrap(),
                _ => {}
            }
            let before = answered.load(Ordering::Relaxed);
            client.load("mine").await.unwrap();
            while answered.load(Ordering::Relaxed) < before + 8 {
                tokio::task::yield_now().await;
            }
        }
        is_done.store(true, Ordering::Relaxed);
    };
    tokio::join!(reloads, join_all((0..16).map(load)));
    assert!(answered.load(Ordering::Relaxed) >= 320);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_fails_keeps_serving_and_tells_its_caller() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "mine/1/model.onnx", "gate");
    let (_pool, client) = serving(root.path()).await;
    let model = client.metadata("mine", "").await.unwrap();
    let whole = std::fs::read(root.path().join("mine/1/model.onnx")).unwrap();
    // Half copied.
    std::fs::create_dir(root.path().join("mine/2")).unwrap();
    std::fs::write(root.path().join("mine/2/model.onnx"), &whole[..whole.len() / 2]).unwrap();
    let status = client.load("mine").await.unwrap_err();
    assert!(
        status.code() == Code::FailedPrecondition && status.message().contains("version 2: model.onnx: "),
        "{status:?}"
    );
    client.stub.clone().model_infer(request(&model, "")).await.unwrap();
    assert_eq!(client.index("mine").await, [("1".to_owned(), "READY".to_owned(), String::new())]);
    std::fs::write(root.path().join("mine/2/model.onnx"), &whole).unwrap();
    // Many ask at once; each is told how it ended.
    for answer in join_all((0..8).map(|_| client.load("mine"))).await {
        answer.unwrap();
    }
    assert_eq!(client.metadata("mine", "").await.unwrap().versions, ["2"]);
    assert_eq!(client.load("../mine").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_mlflow_is_served_and_says_where_it_comes_from() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "flow/model.onnx", "gate");
    put(root.path(), "plain/model.onnx", "gate");
    let page = "artifact_path: model\nflavors:\n  onnx:\n    code: null\n    data: model.onnx\n    \
                onnx_version: 1.16.1\n    providers:\n    - CPUExecutionProvider\n  python_function:\n    \
                data: model.onnx\n    env: {conda: conda.yaml}\n    loader_module: mlflow.onnx\n\
                mlflow_version: 2.20.1\nmodel_uuid: 55e1070ae2d84d4390ab9aa9f4e4e5e1\n\
                run_id: 0f2c6d5e8a7b4c3d9e1f0a2b3c4d5e6f\nutc_time_created: '2025-02-03 10:11:12.345678'\n";
    std::fs::write(root.path().join("flow/MLmodel"), page).unwrap();
    let (_pool, client) = serving(root.path()).await;
    for name in ["flow", "plain"] {
        let model = client.metadata(name, "").await.unwrap();
        assert_eq!((outputs(&model), model.versions.as_slice()), (vec!["scores"], &["1".to_owned()][..]));
        client.stub.clone().model_infer(request(&model, "1")).await.unwrap();
    }
    let parameters = client.config("flow").await.parameters;
    assert_eq!(parameters["mlflow.run_id"].string_value, "0f2c6d5e8a7b4c3d9e1f0a2b3c4d5e6f");
    assert_eq!(parameters["mlflow.utc_time_created"].string_value, "2025-02-03 10:11:12.345678");
    // What MLflow says of tensors is held against the file.
    let signature = "signature:\n  inputs: '[{\"name\": \"nobody\", \"type\": \"tensor\", \"tensor-spec\": \
                     {\"dtype\": \"float32\", \"shape\": [-1, 3]}}]'\n";
    std::fs::write(root.path().join("flow/MLmodel"), page.to_owned() + signature).unwrap();
    let status = client.load("flow").await.unwrap_err();
    assert!(status.message().contains("signature.inputs: the model has no `nobody`"), "{status:?}");
    assert!(client.ready("flow", "").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_a_model_without_configuration_is_what_it_takes() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "mine/1/model.onnx", "gate");
    let (_pool, client) = serving(root.path()).await;
    let (model, config) = (client.metadata("mine", "").await.unwrap(), client.config("mine").await);
    assert!(config.max_batch_size > 1 && config.scheduling_choice.is_some(), "{config:?}");
    for (input, of_file) in config.input.iter().zip(&model.inputs) {
        assert_eq!((of_file.shape[0], &of_file.shape[1..]), (-1, input.dims.as_slice()));
    }
    let mut most = request(&model, "");
    for (input, raw) in most.inputs.iter_mut().zip(&mut most.raw_input_contents) {
        input.shape[0] = i64::from(config.max_batch_size) + 1;
        *raw = vec![0; 4 * usize::try_from(input.shape.iter().product::<i64>()).unwrap()].into();
    }
    let mut stub = client.stub.clone().max_encoding_message_size(usize::MAX);
    let status = stub.model_infer(most).await.unwrap_err();
    assert!([Code::InvalidArgument, Code::OutOfRange].contains(&status.code()), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_models_queue_policy_is_followed() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "short/1/model.onnx", "gate");
    put(root.path(), "full/1/model.onnx", "gate");
    let policy = |name: &str, text: &str| {
        let text = format!("max_batch_size: 8 dynamic_batching {{ {text} }}");
        std::fs::write(root.path().join(name).join("config.pbtxt"), text).unwrap();
    };
    policy(
        "short",
        "priority_levels: 2 default_priority_level: 2 priority_queue_policy { key: 1 value {\n\
                     default_timeout_microseconds: 1 } }",
    );
    // Two wait for company; there is no room for a third.
    policy("full", "max_queue_delay_microseconds: 1000000 default_queue_policy { max_queue_size: 2 }");
    let (_pool, client) = serving(root.path()).await;
    let (short, full) =
        (client.metadata("short", "").await.unwrap(), client.metadata("full", "").await.unwrap());
    let with_priority = |priority: i64| {
        let mut made = request(&short, "");
        let choice = Some(ParameterChoice::Int64Param(priority));
        made.parameters.insert("priority".to_owned(), InferParameter { parameter_choice: choice });
        let mut stub = client.stub.clone();
        async move { stub.model_infer(made).await }
    };
    // Level 1 has a microsecond; 2, the default, and what is no level have none of their own.
    assert_eq!(with_priority(1).await.unwrap_err().code(), Code::DeadlineExceeded);
    for priority in [0, 2, 3] {
        with_priority(priority).await.unwrap();
    }
    let ask = || {
        let (mut stub, made) = (client.stub.clone(), request(&full, ""));
        async move { stub.model_infer(made).await }
    };
    let answers = join_all((0..3).map(|_| ask())).await;
    let refused: Vec<&Status> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!((refused.len(), refused[0].code()), (1, Code::ResourceExhausted), "{refused:?}");
    assert!(refused[0].message().contains("the model's queue is full"), "{refused:?}");
}

/// A pool of its own on one repository, with its log.
fn serve(dir: &Path) -> Child {
    let mut command = Command::new(binary("millgate-cloud"));
    command.args(["--log-json", "serve", "--no-bundle", "--config"]).arg(dir.join("cloud.toml"));
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_loading_ends_the_pool_is_left_out_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let model = bundle().join("gate/1/model.onnx");
    for name in ["bad", "good"] {
        let folder = dir.path().join("models").join(name).join("1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(&model, folder.join("model.onnx")).unwrap();
    }
    let text = format!(
        "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\nthreads = 1\n\
         state_dir = \"{0}/state\"\nmodel_repository = [\"{0}/models\"]\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("cloud.toml"), text).unwrap();
    let marker = dir.path().join("state/loading-node-1.json");
    for deaths in 0..3 {
        let mut pool = serve(dir.path());
        let begun = Instant::now();
        let is_loading = || {
            let text = std::fs::read(&marker).unwrap_or_default();
            let kept = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
            // And not what the one before has left.
            kept["loading"]["bad"].is_string() && kept["died"]["bad"]["times"].as_u64().unwrap_or(0) == deaths
        };
        // As native code does that crashes.
        while !is_loading() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        pool.kill().unwrap();
        pool.wait().unwrap();
    }
    let mut pool = serve(dir.path());
    let lines = BufReader::new(pool.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
    let serving = lines.find(|line| line["fields"]["message"] == "serving").unwrap();
    let url = format!("http://{}", serving["fields"]["grpc"].as_str().unwrap());
    let client = Client { stub: GrpcInferenceServiceClient::connect(url).await.unwrap() };
    assert!(client.ready("good", "").await && !client.ready("bad", "").await);
    let reason = client.index("bad").await[0].2.clone();
    assert!(reason.contains("died 3 times"), "{reason}");
    // Whoever means it has it tried again.
    client.load("bad").await.unwrap();
    assert!(client.ready("bad", "").await);
    pool.kill().unwrap();
    pool.wait().unwrap();
}
