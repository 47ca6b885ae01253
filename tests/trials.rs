//! What a trial cannot make up, and rows that are not as many on each side: served, each for itself.

use futures_util::future::join_all;
use millgate_cloud::server::Running;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelStatisticsRequest,
    RepositoryIndexRequest,
};
use system_tests::asking::{Client, client};
use system_tests::{onnx, pool_with};
use tempfile::TempDir;
use tonic::Code;

const WARM: &str = "max_batch_size: 16 model_warmup [{ name: \"sample\" batch_size: 2 inputs { key: \"ids\"\n\
                    value { data_type: TYPE_INT64 dims: [2] input_data_file: \"ids\" } } }]";

/// A pool without ONNX Runtime.
async fn house() -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in [("picky", onnx::picky()), ("warm", onnx::picky()), ("sides", onnx::two_sides())] {
        onnx::put(folder.path(), name, &file);
    }
    let warm = folder.path().join("warm");
    std::fs::write(warm.join("config.pbtxt"), WARM).unwrap();
    std::fs::create_dir(warm.join("warmup")).unwrap();
    let ids: Vec<u8> = [1000_i64, 1001, 1004, 1002].iter().flat_map(|id| id.to_le_bytes()).collect();
    std::fs::write(warm.join("warmup/ids"), ids).unwrap();
    let pool = pool_with(|config| {
        config.model_repository = vec![folder.path().to_path_buf()];
        config.engines.onnxruntime_library = Some(std::path::PathBuf::new());
    });
    (pool.await, folder)
}

fn request(model: &str, inputs: Vec<InferInputTensor>) -> ModelInferRequest {
    ModelInferRequest { model_name: model.to_owned(), inputs, ..ModelInferRequest::default() }
}

fn ids(model: &str, rows: &[[i64; 2]]) -> ModelInferRequest {
    let contents = InferTensorContents { int64_contents: rows.concat(), ..Default::default() };
    let (name, datatype, shape) = ("ids".to_owned(), "INT64".to_owned(), vec![rows.len() as i64, 2]);
    request(
        model,
        vec![InferInputTensor { name, datatype, shape, contents: Some(contents), ..Default::default() }],
    )
}

fn side(name: &str, rows: i64) -> InferInputTensor {
    let values = (0..2 * rows).map(|at| at as f32).collect();
    let contents = Some(InferTensorContents { fp32_contents: values, ..Default::default() });
    let (name, datatype, shape) = (name.to_owned(), "FP32".to_owned(), vec![rows, 2]);
    InferInputTensor { name, datatype, shape, contents, ..Default::default() }
}

/// Reads an output from typed fields, as it was asked for.
fn floats(answer: &ModelInferResponse, output: usize) -> Vec<f32> {
    answer.outputs[output].contents.clone().unwrap_or_default().fp32_contents
}

async fn parameter(client: &mut Client, model: &str, name: &str) -> Option<String> {
    let request = ModelConfigRequest { name: model.to_owned(), version: String::new() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    config.parameters.get(name).map(|value| value.string_value.clone())
}

/// State and reason.
async fn listed(client: &mut Client, model: &str) -> (String, String) {
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    let found = index.models.into_iter().find(|it| it.name == model).unwrap();
    (found.state, found.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_made_up_input_fits_is_served_unproven_and_is_never_batched() {
    let (pool, _folder) = house().await;
    let mut asks = client(&pool).await;
    let asked: Vec<[i64; 2]> = (0..24).map(|at| [1000 + at % 5, 1004]).collect();
    let answers = asked.iter().map(|row| {
        let mut asks = asks.clone();
        async move { asks.model_infer(ids("picky", &[*row])).await.unwrap().into_inner() }
    });
    for (row, answer) in asked.iter().zip(join_all(answers).await) {
        let expected: Vec<f32> =
            row.iter().flat_map(|id| (0..3).map(move |at| onnx::value(3 * (id - 1000) + at))).collect();
        assert_eq!(floats(&answer, 0), expected, "{row:?}");
    }
    // Some rows of one request are computed as they come.
    let together = asks.model_infer(ids("picky", &asked)).await.unwrap().into_inner();
    assert_eq!((together.outputs[0].shape.as_slice(), floats(&together, 0).len()), (&[24, 2, 3][..], 24 * 6));
    let request = ModelStatisticsRequest { name: "picky".to_owned(), version: String::new() };
    let counted = asks.model_statistics(request).await.unwrap().into_inner().model_stats;
    let sizes: Vec<u64> = counted[0].batch_stats.iter().map(|batch| batch.batch_size).collect();
    assert_eq!((sizes, counted[0].execution_count), (vec![1], 25));
    // Its answers do not make it a proven one.
    let (state, reason) = listed(&mut asks, "picky").await;
    assert!(
        state == "READY" && reason.starts_with("unproven: ") && reason.contains("never batched"),
        "{reason}"
    );
    assert!(parameter(&mut asks, "picky", "unproven").await.is_some());
    let refused = asks.model_infer(ids("picky", &[[0, 1]])).await.unwrap_err();
    assert!(refused.message().contains("picky"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inputs_of_a_models_configuration_prove_it_and_its_rows() {
    let (pool, _folder) = house().await;
    let mut asks = client(&pool).await;
    assert_eq!(listed(&mut asks, "warm").await, ("READY".to_owned(), String::new()));
    assert_eq!(parameter(&mut asks, "warm", "rows_are_independent").await.unwrap(), "true");
    let answer = asks.model_infer(ids("warm", &[[1000, 1001], [1004, 1003]])).await.unwrap().into_inner();
    assert_eq!(answer.outputs[0].shape, [2, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_may_have_different_numbers_of_rows_and_none_at_all() {
    let (pool, _folder) = house().await;
    let mut asks = client(&pool).await;
    for (a, b) in [(2, 3), (3, 1), (2, 2), (0, 2), (0, 0)] {
        let asked = request("sides", vec![side("a", a), side("b", b)]);
        let answer = match asks.model_infer(asked).await {
            Ok(answer) => answer.into_inner(),
            // The engine may not take what is empty; it is the request that is told so.
            Err(status) if a == 0 => {
                assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
                assert!(status.message().contains("rows, which model `sides` does not take"), "{status:?}");
                continue;
            }
            Err(status) => panic!("{a}, {b}: {status:?}"),
        };
        for (output, rows) in [(0, a), (1, b)] {
            assert_eq!(answer.outputs[output].shape, [rows, 2]);
            let doubled: Vec<f32> = (0..2 * rows).map(|at| 2.0 * at as f32).collect();
            assert_eq!(floats(&answer, output), doubled, "{a}, {b}");
        }
    }
    let both = asks.model_infer(request("sides", vec![side("a", 1 << 20), side("b", 1)])).await.unwrap_err();
    assert!(both.code() == Code::InvalidArgument && both.message().contains("takes at most"), "{both:?}");
}
