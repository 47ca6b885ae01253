//! The programs of `examples/`, run as their README says.

use std::path::PathBuf;
use std::process::Command;

use system_tests::python::{python, run};
use system_tests::{binary, bundle, pool, recorded_of, root, skip, url};

/// A picture and its label, which a pool decides rightly.
fn picture() -> (PathBuf, String) {
    let recorded = recorded_of("xsdd", 1).remove(0);
    (recorded.path, recorded.label)
}

/// What a program prints; it must succeed.
async fn printed(mut command: Command) -> String {
    command.current_dir(root());
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap().unwrap()
}

async fn example(name: &str) -> Command {
    let path = format!("examples/{name}");
    Command::new(tokio::task::spawn_blocking(move || binary(&path)).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_rust_gets_the_decision_of_a_picture() {
    let pool = pool().await;
    let (picture, label) = picture();
    let mut command = example("decide").await;
    command.arg(picture).arg(url(&pool));
    let text = printed(command).await;
    assert!(text.starts_with(&format!("verdict  {label} ")) && text.contains("\nwhy      "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_inside_another_program_decides() {
    let (picture, label) = picture();
    let mut command = example("embedded").await;
    command.arg(bundle()).arg(picture);
    let text = printed(command).await;
    assert!(text.contains(&format!(": {label} ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_gets_decisions_over_grpc() {
    let found = tokio::task::spawn_blocking(python).await.unwrap();
    let Ok(python) = found else { return skip("no Python with tritonclient") };
    let pool = pool().await;
    let (picture, label) = picture();
    let mut command = Command::new(python);
    command.arg("examples/python/decide.py").args(["--pool", &pool.grpc_addr().to_string()]).arg(picture);
    let text = printed(command).await;
    assert!(text.contains(&format!(": {label} ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_nothing_but_python_gets_decisions_over_rest() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("no python3");
    }
    let pool = pool().await;
    let (picture, label) = picture();
    let mut command = Command::new("python3");
    let address = format!("http://{}", pool.http_addr());
    command.arg("examples/python/decide_rest.py").args(["--pool", &address]).arg(picture);
    let text = printed(command).await;
    assert!(text.contains(&format!(": {label} ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_a_decision_over_rest() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("no curl");
    }
    let pool = pool().await;
    let (picture, label) = picture();
    let mut command = Command::new("examples/curl/decide.sh");
    command.arg(picture).arg(format!("http://{}", pool.http_addr()));
    let text = printed(command).await;
    assert!(text.contains(&format!("\"{label}\"")), "{text}");
}
