//! What clients of Triton, KServe and gRPC ask at the pool's doors, and what they look at in the answer: bodies, codes,
//! details, settings, and nothing of how the machine is laid out.

use std::path::Path;

use millgate_cloud::server::Running;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::{
    LogSettingsRequest, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
    ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, TraceSettingRequest,
};
use serde_json::{Value, json};
use system_tests::{bundle, pool_with, url};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::rest::{get, post, raw, request};

/// A repository of models that cannot be served, each for a reason of its own, and of one that can.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let to = folder.path().join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    };
    let gate = std::fs::read(bundle().join("gate/1/model.onnx")).unwrap();
    let utf_16: Vec<u8> = "\u{feff}max_batch_size: 8".encode_utf16().flat_map(u16::to_le_bytes).collect();
    put("mine/1/model.onnx", &gate);
    put("broken/1/model.onnx", b"this is no model");
    for (name, config) in [
        ("unknown-field", &b"max_batch: 8"[..]),
        ("utf-16", &utf_16),
        ("other-platform", b"platform: \"pytorch_libtorch\""),
        ("other-shape", b"input [{ name: \"nobody\" data_type: TYPE_FP32 dims: [1] }]"),
        (
            "labels",
            b"output [{ name: \"scores\" data_type: TYPE_FP32 dims: [-1] label_filename: \"none.txt\" }]",
        ),
        ("no-file", b"default_model_filename: \"other.onnx\""),
    ] {
        put(&format!("{name}/1/model.onnx"), &gate);
        put(&format!("{name}/config.pbtxt"), config);
    }
    put("flavor/MLmodel", b"flavors:\n  sklearn:\n    pickled_model: model.pkl\n");
    put("bad-yaml/MLmodel", b"flavors: [\n");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("mine/2.onnx")).unwrap();
    std::fs::create_dir_all(folder.path().join("outside/1")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("outside/1/model.onnx")).unwrap();
    folder
}

const UNSERVABLE: [&str; 10] = [
    "broken",
    "unknown-field",
    "utf-16",
    "other-platform",
    "other-shape",
    "labels",
    "no-file",
    "flavor",
    "bad-yaml",
    "outside",
];

async fn serving(root: &Path) -> (Running, GrpcInferenceServiceClient<Channel>) {
    let pool = pool_with(|config| config.model_repository = vec![root.to_path_buf()]).await;
    let client = GrpcInferenceServiceClient::connect(url(&pool)).await.unwrap();
    (pool, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_can_never_be_served_says_why_and_not_where_it_lies() {
    let folder = repository();
    let (pool, mut client) = serving(folder.path()).await;
    let at = pool.http_addr();
    let root = folder.path().display().to_string();
    let names_no_place = |text: &str| {
        assert!(!text.contains(&root) && !text.contains("/etc/") && !text.contains("/1/"), "{text}");
    };
    for name in UNSERVABLE {
        let named = || (name.to_owned(), String::new());
        let (model_name, model_version) = named();
        let infer = ModelInferRequest { model_name, model_version, ..Default::default() };
        let load = RepositoryModelLoadRequest { model_name: name.to_owned(), ..Default::default() };
        let (name_, version) = named();
        let metadata = ModelMetadataRequest { name: name_, version };
        let (name_, version) = named();
        let config = ModelConfigRequest { name: name_, version };
        let (name_, version) = named();
        let statistics = ModelStatisticsRequest { name: name_, version };
        let refused: [Status; 5] = [
            client.model_infer(infer).await.unwrap_err(),
            client.model_metadata(metadata).await.unwrap_err(),
            client.model_config(config).await.unwrap_err(),
            client.model_statistics(statistics).await.unwrap_err(),
            client.repository_model_load(load).await.unwrap_err(),
        ];
        for status in refused {
            assert_eq!(status.code(), Code::FailedPrecondition, "{name}: {status:?}");
            assert!(
                status.message().starts_with(&format!("model `{name}` cannot be served: ")),
                "{status:?}"
            );
            names_no_place(status.message());
            names_no_place(&String::from_utf8_lossy(status.details()));
        }
        let ready = ModelReadyRequest { name: name.to_owned(), version: String::new() };
        assert!(!client.model_ready(ready).await.unwrap().into_inner().ready);
        for (method, path, body) in [
            ("POST", "/infer", "{\"inputs\": []}"),
            ("GET", "", ""),
            ("GET", "/config", ""),
            ("GET", "/stats", ""),
            ("GET", "/ready", ""),
        ] {
            let path = format!("/v2/models/{name}{path}");
            let answer = raw(at, &request(method, &path, "", body.as_bytes())).await;
            assert_eq!(answer.status, 400, "{path}: {}", answer.head);
            names_no_place(&answer.error());
        }
        let answer = post(at, &format!("/v2/repository/models/{name}/load"), "", b"").await;
        assert_eq!(answer.status, 400, "{name}");
        names_no_place(&answer.error());
    }
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner().models;
    let reason = |name: &str| &index.iter().find(|model| model.name == name).unwrap().reason;
    for (name, words) in [
        ("broken", "model.onnx: not an ONNX file"),
        ("unknown-field", "config.pbtxt: line 1: "),
        ("utf-16", "config.pbtxt: is UTF-16"),
        ("labels", "none.txt: "),
        ("no-file", "other.onnx: "),
        ("flavor", "MLmodel: flavors: there is no `onnx`"),
        ("bad-yaml", "MLmodel: "),
        ("empty", "empty: there is no folder named by a version number"),
        ("outside", "model.onnx: leads out of the repository"),
    ] {
        assert!(reason(name).starts_with(words), "{name}: {}", reason(name));
    }
    index.iter().for_each(|model| names_no_place(&model.reason));
    names_no_place(&String::from_utf8(post(at, "/v2/repository/index", "", b"").await.body).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_and_ready_have_the_protocols_bodies() {
    let folder = repository();
    let (pool, _client) = serving(folder.path()).await;
    let at = pool.http_addr();
    for (path, status, expected) in [
        ("/v2/health/live", 200, json!({ "live": true })),
        ("/v2/health/live/", 200, json!({ "live": true })),
        ("/v2/health/ready", 200, json!({ "ready": true })),
        ("/v2/models/mine/ready", 200, json!({ "name": "mine", "ready": true })),
        ("/v2/models/mine/versions/1/ready", 200, json!({ "name": "mine", "ready": true })),
        ("/v2/models/%6dine/ready", 200, json!({ "name": "mine", "ready": true })),
        ("/v2/models/mine/versions/7/ready", 404, json!({ "name": "mine", "ready": false })),
        ("/v2/models/nobody/ready", 404, json!({ "name": "nobody", "ready": false })),
        ("/v2/models/broken/ready", 400, json!({ "name": "broken", "ready": false })),
    ] {
        let answer = get(at, path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/json")),
            "{path}"
        );
        let mut body = answer.json();
        let error = body.as_object_mut().unwrap().remove("error");
        assert_eq!((body, error.is_some_and(|error| error.is_string())), (expected, status != 200), "{path}");
        let head = raw(at, &request("HEAD", path, "", b"")).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    let unloaded = post(at, "/v2/repository/models/mine/unload", "", b"").await;
    assert_eq!(unloaded.status, 200);
    // It may be loaded again, so that a client may wait for it.
    let answer = get(at, "/v2/models/mine/ready").await;
    assert_eq!((answer.status, &answer.json()["ready"]), (503, &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_read_by_whoever_reads_them_and_never_changed() {
    let (pool, mut client) = {
        let pool = pool_with(|config| {
            config.traces.endpoint = Some("http://127.0.0.1:9".to_owned());
            config.traces.sample_ratio = 0.01;
        })
        .await;
        let client = GrpcInferenceServiceClient::connect(url(&pool)).await.unwrap();
        (pool, client)
    };
    let at = pool.http_addr();
    let traced = json!({
        "trace_level": ["TIMESTAMPS"], "trace_rate": "100", "trace_count": "-1", "log_frequency": "0",
        "trace_file": "", "trace_mode": "opentelemetry",
    });
    for path in
        ["/v2/trace/setting", "/v2/models/gate/trace/setting", "/v2/models/gate/versions/1/trace/setting"]
    {
        assert_eq!(get(at, path).await.json(), traced, "{path}");
        for nothing in [&b""[..], b"{}"] {
            assert_eq!(post(at, path, "", nothing).await.json(), traced, "{path}");
        }
        let refused = post(at, path, "", b"{\"trace_level\": [\"OFF\"]}").await;
        assert!(refused.status == 501 && refused.error().contains("`trace_level`"), "{}", refused.head);
        assert_eq!(post(at, path, "", b"[").await.status, 400, "{path}");
    }
    assert_eq!(get(at, "/v2/models/nobody/trace/setting").await.status, 404);
    let log = get(at, "/v2/logging").await.json();
    let names: Vec<&String> = log.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["log_error", "log_file", "log_format", "log_info", "log_verbose_level", "log_warning"]
    );
    assert_eq!(post(at, "/v2/logging", "", b"{}").await.json(), log);
    assert_eq!(post(at, "/v2/logging", "", b"{\"log_info\": false}").await.status, 501);

    let of = |model: &str| TraceSettingRequest { model_name: model.to_owned(), ..Default::default() };
    for model in ["", "gate"] {
        let settings = client.trace_setting(of(model)).await.unwrap().into_inner().settings;
        assert_eq!(settings["trace_rate"].value, ["100"]);
    }
    assert_eq!(client.trace_setting(of("nobody")).await.unwrap_err().code(), Code::NotFound);
    let mut change = of("");
    change.settings.insert("trace_rate".to_owned(), Default::default());
    assert_eq!(client.trace_setting(change).await.unwrap_err().code(), Code::Unimplemented);
    let settings = client.log_settings(LogSettingsRequest::default()).await.unwrap().into_inner().settings;
    assert_eq!(settings.len(), names.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_knows_the_details_of_errors() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };
    let pool = pool_with(|_| {}).await;
    let channel = Channel::from_shared(url(&pool)).unwrap().connect().await.unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let of_details = ["Status", "BadRequest", "RetryInfo", "ErrorInfo", "PreconditionFailure"];
    let symbols = of_details.map(|name| MessageRequest::FileContainingSymbol(format!("google.rpc.{name}")));
    // What they depend on.
    let files = ["any", "duration"]
        .map(|name| MessageRequest::FileByFilename(format!("google/protobuf/{name}.proto")));
    for asked in symbols.into_iter().chain(files) {
        let asked = ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
        let mut answers =
            client.server_reflection_info(tokio_stream::once(asked)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    }
}

/// A client's own words are given back as it sent them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_itself_is_quoted_whole() {
    let pool = pool_with(|_| {}).await;
    let answer = get(pool.http_addr(), "/v2/models/%2Fetc%2Fa.txt").await;
    assert_eq!((answer.status, answer.error()), (404, "model `/etc/a.txt` is not here".to_owned()));
    let body: Value =
        json!({ "inputs": [{ "name": "/a/b.onnx", "shape": [1], "datatype": "FP32", "data": [0] }] });
    let answer = post(pool.http_addr(), "/v2/models/gate/infer", "", body.to_string().as_bytes()).await;
    assert!(answer.status == 400 && answer.error().contains("`/a/b.onnx`"), "{}", answer.error());
}
