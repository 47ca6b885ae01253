//! The unchanged `tritonclient` against the pool, every answer compared with onnxruntime's. The checks are in
//! `tritonclient/suite.py`. Python and its packages come from the machine and the package registry; without them this
//! suite is skipped and says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{pool_with, root};

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// A Python with the suite's packages, made once for these requirements.
fn python() -> Result<PathBuf, String> {
    let requirements = root().join("tests/tritonclient/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tritonclient");
    let (python, made) = (venv.join("bin/python"), venv.join("made-for.txt"));
    if std::fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg(&requirements))?;
    std::fs::write(&made, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_tritonclient_gets_the_answers_of_onnxruntime() {
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return eprintln!("SKIPPED: no Python with tritonclient: {reason}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().to_path_buf();
    let suite = root().join("tests/tritonclient");
    run(Command::new(&python).arg(suite.join("make_models.py")).arg(&models)).unwrap();
    let pool = pool_with(|config| config.model_repository = vec![models.clone()]).await;
    let (grpc, http) = (pool.grpc_addr().to_string(), pool.http_addr().to_string());
    let metrics = pool.metrics_addr().to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(&python);
        let addresses = ["--grpc", &grpc, "--http", &http, "--metrics", &metrics, "--models"];
        run(command.arg(suite.join("suite.py")).args(addresses).arg(&models))
    });
    let report = ran.await.unwrap().unwrap_or_else(|report| panic!("{report}"));
    assert!(report.contains(" checks, 0 failed"), "{report}");
}
