//! Bad neighbours: each is refused for itself, with its field named, and nobody else's answer changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use futures_util::future::join_all;
use millgate_cloud::server::Running;
use millgate_shared::proto::MAX_MESSAGE_BYTES;
use millgate_shared::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use millgate_shared::proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataResponse, RepositoryIndexRequest,
};
use system_tests::asking::{Client, agree, client, metadata, request, set};
use system_tests::onnx::{self, Axis};
use system_tests::pool_with;
use tempfile::TempDir;
use tonic::Code;

/// A pool that serves the models of [`onnx`] besides its bundle.
async fn house(change: impl FnOnce(&mut millgate_cloud::CloudConfig)) -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in [
        ("tokens", onnx::tokens()),
        ("divide", onnx::divide()),
        ("mean", onnx::mean()),
        ("texts", onnx::texts()),
        ("dense", onnx::dense(2, Axis::Any("N"))),
        ("recurrent", onnx::recurrent()),
        ("slow", onnx::dense(60, Axis::Is(1))),
    ] {
        onnx::put(folder.path(), name, &file);
    }
    let pool = pool_with(|config| {
        config.model_repository = vec![folder.path().to_path_buf()];
        change(config);
    });
    (pool.await, folder)
}

/// A good request and its answer when nobody else asks.
struct Good {
    request: ModelInferRequest,
    alone: ModelInferResponse,
}

impl Good {
    async fn new(client: &mut Client, request: ModelInferRequest) -> Self {
        let alone = client.model_infer(request.clone()).await.unwrap().into_inner();
        Self { request, alone }
    }

    async fn ask(&self, mut client: Client) {
        let answer = client.model_infer(self.request.clone()).await.unwrap().into_inner();
        agree(&answer, &self.alone).unwrap();
    }
}

/// (what is wrong, the code, words of the message)
type Bad = (ModelInferRequest, Code, &'static [&'static str]);

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    let (name, datatype, shape) = (name.to_owned(), datatype.to_owned(), shape.to_vec());
    InferInputTensor { name, datatype, shape, ..InferInputTensor::default() }
}

/// Requests of model `mean` and its like, one thing wrong with each.
fn bad_ones() -> Vec<Bad> {
    let raw = |model: &str, of: InferInputTensor, raw: Vec<u8>| ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![of],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    };
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let good = || raw("mean", input("x", "FP32", &[1, 3]), floats(&[9.0; 3]));
    let with = |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let typed = |values: &[f32]| InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() };
    let output = |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    let text = |raw_texts: Vec<u8>| raw("texts", input("x", "BYTES", &[1, 2]), raw_texts);
    let invalid = Code::InvalidArgument;
    vec![
        (with(&|r| r.inputs[0].shape = vec![-1, 3]), invalid, &["inputs[0] `x`.shape", "negative"]),
        (with(&|r| r.inputs[0].shape = vec![1 << 62, 8]), invalid, &["inputs[0] `x`.shape", "overflows"]),
        (with(&|r| r.inputs[0].shape = vec![i64::MIN, i64::MAX]), invalid, &["shape", "negative"]),
        (raw("mean", input("x", "FP32", &[1 << 40, 0]), Vec::new()), invalid, &["inputs", "rows"]),
        // Counts that would fit a neighbour's: five elements as [1, 2], nine as [3, 3].
        (raw("dense", input("x", "FP32", &[2, 128]), floats(&[1.0; 256])), invalid, &["`x`", "[-1, 256]"]),
        (with(&|r| r.inputs[0].shape = vec![3, 3]), invalid, &["9 elements of FP32 are 36 bytes, got 12"]),
        (with(&|r| r.inputs[0].shape = vec![1, 2]), invalid, &["8 bytes, got 12"]),
        (with(&|r| r.inputs[0].shape = vec![3]), invalid, &["`x`", "shape"]),
        (with(&|r| r.raw_input_contents[0] = vec![0; 11].into()), invalid, &["12 bytes, got 11"]),
        (
            with(&|r| r.raw_input_contents.push(vec![0; 12].into())),
            invalid,
            &["raw_input_contents", "2 entries"],
        ),
        (with(&|r| r.inputs[0].contents = Some(typed(&[9.0; 3]))), invalid, &["`x`.contents", "beside raw"]),
        (
            with(&|r| {
                r.raw_input_contents.clear();
                r.inputs[0].contents = Some(typed(&[9.0; 5]));
            }),
            invalid,
            &["`x`.contents", "needs 3 elements, got 5"],
        ),
        (with(&|r| r.inputs[0].datatype = "FP64".to_owned()), invalid, &["24 bytes, got 12"]),
        (with(&|r| r.inputs[0].datatype = "INT32".to_owned()), invalid, &["`x` must be FP32"]),
        (with(&|r| r.inputs[0].datatype = "float".to_owned()), invalid, &["`x`.datatype"]),
        (with(&|r| r.inputs[0].name = "z".to_owned()), invalid, &["inputs[0].name", "`z` is not an input"]),
        (with(&|r| r.inputs.clear()), invalid, &["raw_input_contents"]),
        (
            with(&|r| {
                r.inputs.push(r.inputs[0].clone());
                r.raw_input_contents.push(r.raw_input_contents[0].clone());
            }),
            invalid,
            &["inputs[1].name", "twice"],
        ),
        (with(&|r| r.outputs = vec![output("nope")]), invalid, &["outputs[0].name", "`nope`"]),
        (with(&|r| r.outputs = vec![output("y"), output("y")]), invalid, &["outputs[1].name", "twice"]),
        (with(&|r| set(r, "timeout", -5)), invalid, &["timeout"]),
        (with(&|r| set(r, "priority", -5)), invalid, &["priority"]),
        (with(&|r| r.model_name = "nobody".to_owned()), Code::NotFound, &["nobody"]),
        (with(&|r| r.model_version = "7".to_owned()), Code::NotFound, &["version 7"]),
        (
            with(&|r| {
                r.inputs[0].parameters.insert("shared_memory_region".to_owned(), Default::default());
            }),
            Code::Unimplemented,
            &["`x`", "memory"],
        ),
        (text(vec![1, 0, 0]), invalid, &["`x`", "no whole length"]),
        (text(vec![200, 0, 0, 0, 1]), invalid, &["`x`", "says 200 bytes"]),
        (text(vec![255, 255, 255, 255]), invalid, &["`x`", "says 4294967295 bytes"]),
        (text(vec![0; 9]), invalid, &["`x`", "1 bytes are left"]),
        (text(vec![1, 0, 0, 0, 0xff, 0, 0, 0, 0]), invalid, &["`x`", "UTF-8"]),
        (
            with(&|r| r.inputs = vec![InferInputTensor::default(); 20_000]),
            invalid,
            &["more than 16384 fields"],
        ),
        (
            raw("mean", input("x", "FP32", &[1, 1]), vec![0; MAX_MESSAGE_BYTES + 1]),
            Code::OutOfRange,
            &["too large"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_and_nobody_else_hears_of_it() {
    let (pool, _folder) = house(|_| {}).await;
    let mut asks = client(&pool).await;
    let mut random = Rng::with_seed(7);
    let mut good = Vec::new();
    for (model, width) in
        [("mean", 3), ("mean", 5), ("dense", 1), ("recurrent", 2), ("texts", 1), ("pcb-l", 1)]
    {
        let metadata = metadata(&mut asks, model).await;
        good.push(Good::new(&mut asks, request(&metadata, 1, width, &mut random)).await);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let neighbours = good.iter().map(|good| async {
        let mut answered = 0_usize;
        while answered < 20 || !is_over.load(Ordering::Relaxed) {
            good.ask(asks.clone()).await;
            answered += 1;
        }
    });
    let bad = async {
        for (request, code, words) in bad_ones() {
            let status = asks.clone().model_infer(request).await.unwrap_err();
            assert_eq!(status.code(), code, "{status:?}, {words:?}");
            for word in words {
                assert!(status.message().contains(word), "{word}: {status:?}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(neighbours), bad);
    assert_eq!(pool.in_flight(), 0);
}

/// What is poison for a model, where something is.
fn poison(request: &mut ModelInferRequest, random: &mut Rng) -> Option<Code> {
    let raw = request.raw_input_contents.last_mut()?;
    let mut bytes = raw.to_vec();
    let code = match (request.model_name.as_str(), random.u64(..3)) {
        (_, 0) => {
            bytes.pop();
            Code::InvalidArgument
        }
        (_, 1) => {
            request.outputs = vec![InferRequestedOutputTensor { name: "?".to_owned(), ..Default::default() }];
            Code::InvalidArgument
        }
        // An error in the run: the whole batch fails.
        ("tokens", _) => {
            bytes[..8].copy_from_slice(&99_i64.to_le_bytes());
            Code::Internal
        }
        ("divide", _) => {
            bytes[..8].copy_from_slice(&5_i64.to_le_bytes());
            Code::Internal
        }
        ("texts", _) => {
            bytes[0] = 250;
            Code::InvalidArgument
        }
        // Of a plain model it is an answer like any other.
        ("mean" | "dense" | "slow" | "recurrent", _) => return None,
        _ => {
            bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            Code::InvalidArgument
        }
    };
    *raw = bytes.into();
    Some(code)
}

/// One model's requests, a tenth to a half of them poisoned, all at once.
async fn mixed(client: &Client, model: &ModelMetadataResponse, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let one_in = 2 + random.u64(..9);
    let mut asked = Vec::new();
    for _ in 0..32 {
        let rows = if random.u64(..4) == 0 { 1 + random.u64(..5) as usize } else { 1 };
        let good = request(model, rows, 1 + random.u64(..3) as usize, &mut random);
        let good = Good::new(&mut client.clone(), good).await;
        let mut poisoned = good.request.clone();
        let code = if random.u64(..one_in) == 0 { poison(&mut poisoned, &mut random) } else { None };
        asked.push((good, code.map(|code| (poisoned, code))));
    }
    let calls = asked.iter().map(|(good, poisoned)| {
        let mut client = client.clone();
        async move {
            match poisoned {
                None => good.ask(client).await,
                Some((poisoned, code)) => {
                    let status = client.model_infer(poisoned.clone()).await.unwrap_err();
                    assert_eq!(status.code(), *code, "{status:?}");
                }
            }
        }
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_random_mixes_batched_equals_single_and_only_the_poisoned_fail() {
    let (pool, _folder) = house(|_| {}).await;
    let mut client = client(&pool).await;
    let chosen = std::env::var("MILLGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(0..3, |seed: u64| seed..seed + 1);
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert!(index.models.iter().all(|model| model.state == "READY"), "{index:?}");
    for model in index.models {
        let model = metadata(&mut client, &model.name).await;
        // Made of the others; `mixture.rs` asks it.
        if model.platform == "ensemble" {
            continue;
        }
        for seed in seeds.clone() {
            println!("{}, MILLGATE_SEED={seed}", model.name);
            mixed(&client, &model, seed).await;
        }
    }
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_takes_only_their_own_work_along() {
    let (pool, _folder) = house(|config| config.threads = 1).await;
    let mut asks = client(&pool).await;
    let mut random = Rng::with_seed(3);
    for name in ["slow", "dense"] {
        let model = metadata(&mut asks, name).await;
        let mut good = Vec::new();
        for _ in 0..24 {
            good.push(Good::new(&mut asks, request(&model, 1, 1, &mut random)).await);
        }
        // Every other caller leaves as soon as one who stays has an answer.
        let first = tokio::sync::Notify::new();
        let calls = good.iter().enumerate().map(|(at, good)| {
            let (mut asks, first) = (asks.clone(), &first);
            async move {
                if at % 2 == 0 {
                    good.ask(asks).await;
                    first.notify_waiters();
                } else {
                    tokio::select! {
                        _answer = asks.model_infer(good.request.clone()) => {}
                        () = first.notified() => {}
                    }
                }
            }
        });
        join_all(calls).await;
    }
    // What the last of them left is noticed when their streams' ends have arrived.
    let patience = tokio::time::timeout(system_tests::PATIENCE, async {
        while pool.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    });
    patience.await.expect("nothing stays in flight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_runs_out_in_the_queue_is_an_answer_and_frees_its_place() {
    let (pool, _folder) = house(|config| config.threads = 1).await;
    let mut asks = client(&pool).await;
    let model = metadata(&mut asks, "slow").await;
    let mut good = Good::new(&mut asks, request(&model, 1, 1, &mut Rng::with_seed(5))).await;
    let mut alone = std::time::Duration::MAX;
    for _ in 0..8 {
        let started = std::time::Instant::now();
        good.ask(asks.clone()).await;
        alone = alone.min(started.elapsed());
    }
    set(&mut good.request, "timeout", 4 * alone.as_micros() as i64);
    let calls = (0..64).map(|_| {
        let (mut asks, request) = (asks.clone(), good.request.clone());
        async move { asks.model_infer(request).await }
    });
    let answers = join_all(calls).await;
    let late = answers.iter().filter_map(|answer| answer.as_ref().err());
    let late: Vec<Code> = late.map(tonic::Status::code).collect();
    assert!(late.len() > 16, "64 of these take much longer than 4");
    assert!(
        late.iter().all(|code| [Code::DeadlineExceeded, Code::ResourceExhausted].contains(code)),
        "{late:?}"
    );
    for answer in answers.into_iter().flatten() {
        agree(&answer.into_inner(), &good.alone).unwrap();
    }
    good.request.parameters.clear();
    good.ask(asks).await;
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_urgent_goes_first() {
    let (pool, _folder) = house(|config| config.threads = 1).await;
    let mut asks = client(&pool).await;
    let model = metadata(&mut asks, "slow").await;
    let good = Good::new(&mut asks, request(&model, 1, 1, &mut Rng::with_seed(5))).await;
    let done = std::sync::Mutex::new(Vec::new());
    let call = |priority: i64| {
        let (mut asks, mut request, done) = (asks.clone(), good.request.clone(), &done);
        set(&mut request, "priority", priority);
        async move {
            asks.model_infer(request).await.unwrap();
            done.lock().unwrap().push(priority);
        }
    };
    let later = async {
        // Something has been computed, so the others wait.
        while done.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        call(1).await;
    };
    tokio::join!(join_all((0..120).map(|_| call(200))), later);
    let order = done.into_inner().unwrap();
    let urgent = order.iter().position(|priority| *priority == 1).unwrap();
    assert!(urgent < 100, "it was the {urgent}. of 121");
}
