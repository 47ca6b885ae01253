//! The unchanged `tritonclient` against the pool, every answer compared with onnxruntime's, with each engine. The checks
//! are in `tritonclient/suite.py`. Python and its packages come from the machine and the package registry; without them
//! these suites are skipped and say so.

use std::process::Command;

use millgate_cloud::engines::{Kind, Preference};
use system_tests::python::{onnxruntime_library, python, run};
use system_tests::{pool_with, root};

/// `engine` is what the suite is told to expect: tract where the pool has no other. An error says why it is skipped.
async fn passes_with(engine: &'static str) -> Result<(), String> {
    let found = tokio::task::spawn_blocking(|| Ok::<_, String>((python()?, onnxruntime_library()?)));
    let (python, library) = found.await.unwrap()?;
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().to_path_buf();
    let suite = root().join("tests/tritonclient");
    run(Command::new(&python).arg(suite.join("make_models.py")).arg(&models)).unwrap();
    let pool = pool_with(|config| {
        config.model_repository = vec![models.clone()];
        // Empty: none, and none is looked for.
        let library = if engine == "tract" { std::path::PathBuf::new() } else { library };
        config.engines.onnxruntime_library = Some(library);
        if engine == "onnxruntime" {
            config.engines.default = Preference::Only(Kind::ONNX_RUNTIME);
        }
    })
    .await;
    let (grpc, http) = (pool.grpc_addr().to_string(), pool.http_addr().to_string());
    let metrics = pool.metrics_addr().to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(&python);
        let addresses = ["--grpc", &grpc, "--http", &http, "--metrics", &metrics];
        command.arg(suite.join("suite.py")).args(addresses).args(["--engine", engine, "--models"]);
        run(command.arg(&models))
    });
    let report = ran.await.unwrap().unwrap_or_else(|report| panic!("{report}"));
    assert!(report.contains(" checks, 0 failed"), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_tritonclient_gets_the_answers_of_onnxruntime() {
    if let Err(reason) = passes_with("tract").await {
        eprintln!("SKIPPED: no Python with tritonclient: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_gets_them_from_onnx_runtime_too() {
    if let Err(reason) = passes_with("onnxruntime").await {
        eprintln!("SKIPPED: no Python with tritonclient: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_gets_them_from_whichever_engine_is_faster() {
    if let Err(reason) = passes_with("auto").await {
        eprintln!("SKIPPED: no Python with tritonclient: {reason}");
    }
}
