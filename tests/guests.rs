//! What a model can do to the pool that serves it: nothing but fail itself. The real binary, with models of bad manners.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    ModelInferRequest, ModelReadyRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, ServerReadyRequest,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use system_tests::onnx::{self, bad};
use system_tests::python::onnxruntime_library;
use system_tests::{PATIENCE, binary, run, skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// The patience of a caller who is sure of an answer.
const SURE: Duration = Duration::from_secs(20);
/// As good as for ever.
const FOR_EVER: i64 = i64::MAX;

/// A pool of its own on one repository.
struct Pool {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    metrics: String,
    client: GrpcInferenceServiceClient<Channel>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let last = log[log.len().saturating_sub(40)..].join("\n");
            std::io::stderr().write_all(last.as_bytes()).ok();
        }
    }
}

/// A folder with a repository and a configuration; `more` goes to its end. Without a `library` tract runs everything.
fn site(models: &[(&str, Vec<u8>)], library: Option<&Path>, more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, file) in models {
        onnx::put(&dir.path().join("models"), name, file);
    }
    let text = format!(
        "bundle = \"\"\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\nthreads = 2\n\
         state_dir = \"{0}/state\"\nmodel_repository = [\"{0}/models\"]\n[engines]\nonnxruntime_library = {1:?}\n{more}",
        dir.path().display(),
        library.unwrap_or(Path::new("")),
    );
    std::fs::write(dir.path().join("cloud.toml"), text).unwrap();
    dir
}

impl Pool {
    async fn start(site: &Path) -> Self {
        let mut command = Command::new(binary("millgate-cloud"));
        command.args(["--log-json", "serve", "--config"]).arg(site.join("cloud.toml"));
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, serving) = tokio::sync::oneshot::channel();
        let (mut found, kept) = (Some(found), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines {
                let read = serde_json::from_str::<Value>(&line).unwrap_or_default();
                if read["fields"]["message"] == "serving"
                    && let Some(found) = found.take()
                {
                    found.send(read["fields"].clone()).ok();
                }
                kept.lock().unwrap().push(line);
            }
        });
        let serving = tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
        let address = |key: &str| serving[key].as_str().unwrap().to_owned();
        let client =
            GrpcInferenceServiceClient::connect(format!("http://{}", address("grpc"))).await.unwrap();
        let client = client.max_encoding_message_size(1 << 30).max_decoding_message_size(1 << 30);
        Self { process, log, metrics: address("metrics"), client }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// An answer's first output, as raw bytes.
    fn ask(
        &self,
        model: &str,
        inputs: Vec<(InferInputTensor, Vec<u8>)>,
        patience: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, Status>> + Send + use<> {
        let (inputs, raw): (Vec<_>, Vec<Vec<u8>>) = inputs.into_iter().unzip();
        let raw_input_contents = raw.into_iter().map(Into::into).collect();
        let made = ModelInferRequest {
            model_name: model.to_owned(),
            inputs,
            raw_input_contents,
            ..Default::default()
        };
        let mut request = Request::new(made);
        request.set_timeout(patience);
        let mut client = self.client.clone();
        async move {
            let answer = client.model_infer(request).await?.into_inner();
            Ok(answer.raw_output_contents[0].to_vec())
        }
    }

    fn mean(&self, patience: Duration) -> impl Future<Output = Result<Vec<u8>, Status>> + Send + use<> {
        self.ask("mean", vec![floats("x", &[1, 2], &[1.0, 3.0])], patience)
    }

    async fn mean_is_right(&self) {
        assert_eq!(self.mean(SURE).await.unwrap(), 2.0_f32.to_le_bytes());
    }

    fn turn(
        &self,
        times: i64,
        patience: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, Status>> + Send + use<> {
        self.ask("endless", vec![wholes("times", &[1], &[times]), floats("x", &[1], &[0.0])], patience)
    }

    async fn is_ready(&self, model: &str) -> bool {
        let request = ModelReadyRequest { name: model.to_owned(), version: String::new() };
        self.client.clone().model_ready(request).await.unwrap().into_inner().ready
    }

    /// The reason of a model in the index.
    async fn reason(&self, model: &str) -> String {
        let index = self.client.clone().repository_index(RepositoryIndexRequest::default()).await;
        let models = index.unwrap().into_inner().models;
        models.into_iter().find(|listed| listed.name == model).unwrap().reason
    }

    async fn load(&self, model: &str) -> Result<(), Status> {
        let request = RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() };
        self.client.clone().repository_model_load(request).await.map(|_| ())
    }

    /// The answer of the metrics port, with its head.
    async fn get(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(&self.metrics).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.metrics);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// How many workers of a model have ended, for that reason.
    async fn ended(&self, worker: &str, reason: &str) -> u64 {
        let page = self.get("/metrics").await;
        let line = page.lines().find(|line| {
            line.starts_with("millgate_workers_ended_total{")
                && line.contains(&format!("worker=\"{worker}\""))
                && line.contains(&format!("reason=\"{reason}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    let (name, datatype) = (name.to_owned(), datatype.to_owned());
    InferInputTensor { name, datatype, shape: shape.to_vec(), ..Default::default() }
}

fn floats(name: &str, shape: &[i64], values: &[f32]) -> (InferInputTensor, Vec<u8>) {
    (tensor(name, "FP32", shape), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn wholes(name: &str, shape: &[i64], values: &[i64]) -> (InferInputTensor, Vec<u8>) {
    (tensor(name, "INT64", shape), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn library() -> Option<PathBuf> {
    onnxruntime_library().map_err(|reason| skip(&format!("no ONNX Runtime library: {reason}"))).ok()
}

/// Polls for a condition.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The processes whose parent is this one.
fn children(of: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state, then the parent. A zombie runs no more.
        let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
        (rest.next()? != "Z").then(|| rest.next()?.parse().ok())?
    };
    numbers.filter(|pid| parent(*pid) == Some(of)).collect()
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_runs_cost_no_other_model_an_answer_and_an_unload_works() {
    let Some(library) = library() else { return };
    let models = [("endless", bad::endless()), ("mean", onnx::mean())];
    let site = site(&models, Some(&library), "");
    let mut pool = Pool::start(site.path()).await;
    let zero = pool.turn(3, SURE).await.unwrap();
    assert_eq!(zero, 3.0_f32.to_le_bytes());
    // As many as there are threads, and more that wait.
    let mut endless = JoinSet::new();
    for _ in 0..4 {
        endless.spawn(pool.turn(FOR_EVER, Duration::from_secs(6)));
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        pool.mean_is_right().await;
        let ready = pool.client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready;
        let page = pool.get("/readyz").await;
        assert!(ready && page.starts_with("HTTP/1.1 200"), "others are answered: {page}");
    }
    let unload = RepositoryModelUnloadRequest { model_name: "endless".to_owned(), ..Default::default() };
    pool.client.repository_model_unload(unload).await.unwrap();
    assert!(!pool.is_ready("endless").await);
    for asked in endless.join_all().await {
        asked.unwrap_err();
    }
    // Nobody waits for them any more, so that they end, and with them the worker.
    let pid = pool.pid();
    until("only the worker of `mean` is left", async || children(pid).len() == 1).await;
    pool.mean_is_right().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_worker_that_a_model_ends_is_its_last_one_over_restarts_too() {
    let Some(library) = library() else { return };
    let models = [("endless", bad::endless()), ("mean", onnx::mean())];
    let site = site(&models, Some(&library), "");
    let pool = Pool::start(site.path()).await;
    for times in 1..=3 {
        // A worker that has just ended may rest before the next one is started.
        until("a run begins", async || {
            let failed = pool.turn(FOR_EVER, Duration::from_millis(500)).await.unwrap_err();
            failed.code() == Code::DeadlineExceeded || failed.message().contains("set aside")
        })
        .await;
        until("the run is ended", async || {
            pool.ended("endless", "ended").await >= times || !pool.is_ready("endless").await
        })
        .await;
    }
    until("it is set aside", async || !pool.is_ready("endless").await).await;
    let refused = pool.turn(1, SURE).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("has ended its worker 3 times"), "{refused}");
    assert!(pool.reason("endless").await.starts_with("set aside"));
    assert!(pool.get("/metrics").await.contains("millgate_model_set_aside{model=\"endless\""));
    pool.mean_is_right().await;
    drop(pool);

    let pool = Pool::start(site.path()).await;
    assert!(!pool.is_ready("endless").await && pool.is_ready("mean").await);
    assert!(pool.reason("endless").await.contains("has ended its worker 3 times"));
    // Whoever means it has it tried again.
    pool.load("endless").await.unwrap();
    assert_eq!(pool.turn(2, SURE).await.unwrap(), 2.0_f32.to_le_bytes());
    drop(pool);
    // What was forgiven stays so.
    assert!(Pool::start(site.path()).await.is_ready("endless").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_code_that_crashes_costs_the_request_inside_or_the_load() {
    let Some(library) = library() else { return };
    let models =
        [("divides", bad::spectrum(None)), ("divided", bad::spectrum(Some(0))), ("mean", onnx::mean())];
    let engines = "[engines.models.divides]\nengine = \"onnxruntime\"\n[engines.models.divided]\nengine = \"onnxruntime\"\n";
    let site = site(&models, Some(&library), engines);
    let pool = Pool::start(site.path()).await;
    assert!(!pool.is_ready("divided").await);
    let reason = pool.reason("divided").await;
    assert!(reason.contains("SIGFPE"), "{reason}");
    let spectrum = |length: i64, patience| {
        let signal = floats("signal", &[1, 128, 1], &[0.5; 128]);
        pool.ask("divides", vec![signal, wholes("length", &[], &[length])], patience)
    };
    let good = spectrum(16, SURE).await.unwrap();
    let failed = spectrum(0, SURE).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "{failed}");
    assert!(failed.message().contains("SIGFPE"), "{failed}");
    assert_eq!(spectrum(16, SURE).await.unwrap(), good, "another process goes on");
    pool.mean_is_right().await;
    drop(pool);
    // What `check` says of it is no death either.
    let config = site.path().join("cloud.toml");
    let ran = run("millgate-cloud", &["check", "--config", config.to_str().unwrap(), "--output", "json"]);
    let refused = ran.lines()[0]["cannot_be_served"].as_array().unwrap().clone();
    assert!(refused.len() == 1 && refused[0]["reason"].as_str().unwrap().contains("SIGFPE"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_take_more_memory_than_there_is_is_refused_by_name_before_it_runs() {
    const SIDE: i64 = 2_500;
    let library = library();
    let site = site(
        &[("greedy", bad::greedy()), ("mean", onnx::mean())],
        library.as_deref(),
        "[guests]\nmemory_mib = 1024\n",
    );
    let pool = Pool::start(site.path()).await;
    let picture = |side: i64| {
        let pixels = vec![0.5; usize::try_from(side * side).unwrap()];
        pool.ask("greedy", vec![floats("x", &[1, 1, side, side], &pixels)], SURE)
    };
    assert_eq!(picture(100).await.unwrap().len(), 64 * 100 * 100 * 4);
    let (one, two) = tokio::join!(picture(SIDE), picture(SIDE));
    for refused in [one, two] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let message = refused.message();
        assert!(message.contains("input `x` of 1x1x2500x2500 would take about"), "{message}");
        assert!(message.contains("a worker has 1.0 GiB"), "{message}");
    }
    assert_eq!((pool.ended("greedy", "signal").await, pool.ended("greedy", "memory").await), (0, 0));
    assert_eq!(picture(100).await.unwrap().len(), 64 * 100 * 100 * 4);
    pool.mean_is_right().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_that_are_large_to_load_are_refused_within_the_limits() {
    let library = library();
    let models = [("doubling", bad::doubling(34)), ("chain", bad::chain(60_000)), ("mean", onnx::mean())];
    assert!(models[0].1.len() < 4 << 10);
    let site = site(&models, library.as_deref(), "[guests]\nmemory_mib = 512\nload_limit_ms = 5000\n");
    let begun = Instant::now();
    let pool = Pool::start(site.path()).await;
    pool.mean_is_right().await;
    assert!(begun.elapsed() < PATIENCE);
    assert!(!pool.is_ready("doubling").await);
    let reason = pool.reason("doubling").await;
    assert!(!reason.is_empty());
    // It may be short enough for this machine; if not, it is ended.
    if !pool.is_ready("chain").await {
        let reason = pool.reason("chain").await;
        assert!(!reason.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_under_load_costs_what_was_inside_and_the_pool_takes_its_workers_along() {
    let site = site(&[("mean", onnx::mean())], None, "");
    let pool = Arc::new(Pool::start(site.path()).await);
    let workers = children(pool.pid());
    assert_eq!(workers.len(), 1, "one model, one worker");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
        clients.spawn(async move {
            let (mut answered, mut failed) = (0, Vec::new());
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                match pool.mean(SURE).await {
                    Ok(_) => answered += 1,
                    Err(status) => failed.push(status),
                }
            }
            (answered, failed)
        });
    }
    for worker in workers {
        kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
    }
    until("it is noticed", async || pool.ended("mean", "signal").await == 1).await;
    for _ in 0..50 {
        pool.mean_is_right().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut answered, mut failed) = (0, Vec::new());
    for (well, badly) in clients.join_all().await {
        answered += well;
        failed.extend(badly);
    }
    assert!(answered > 0 && failed.len() <= 8, "{answered} answered, {failed:?}");
    assert!(failed.iter().all(|status| status.code() == Code::Unavailable), "{failed:?}");
    assert!(pool.is_ready("mean").await, "nobody holds it against the model");
    let workers = children(pool.pid());
    assert_eq!(workers.len(), 1);
    // The pool itself is killed: it can clear up nothing.
    kill_process(Pid::from_raw(pool.pid()).unwrap(), Signal::KILL).unwrap();
    until("no worker is left", async || workers.iter().all(|worker| !is_alive(*worker))).await;
}
