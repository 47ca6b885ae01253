//! Nothing that was asked for fails in silence, and saying so ends no process: with the real binaries, full disks, closed and
//! unread pipes, pools that come late, refuse, or are another port.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millgate_cloud::server::Running;
use rustix::process::Signal;
use serde_json::Value;
use system_tests::edge_process::until;
use system_tests::{bundle, pool_with, recorded_of, root, run};

mod process;
mod receiver;
mod refused;

use process::{Process, free_port, metric, wait_until_up};

const CALM: &str = "[api]\nenabled = false\n";

/// A configuration without a folder; `more` is appended.
fn config(dir: &Path, admin: u16, more: &str) -> String {
    std::fs::create_dir_all(dir.join("in")).unwrap();
    let text = format!(
        "bundle = {:?}\nstate_dir = {:?}\nthreads = 1\n{CALM}[admin]\nlisten = \"127.0.0.1:{admin}\"\n{more}",
        bundle(),
        dir.join("state"),
    );
    let path = dir.join("edge.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// One watched folder, its decisions in a file.
fn folder(dir: &Path) -> String {
    format!(
        "[[sources]]\ntype = \"folder\"\nname = \"cam\"\npath = {:?}\nsettle = \"50ms\"\nrescan = \"100ms\"\n\
         [[sinks]]\ntype = \"jsonl\"\npath = {:?}\n",
        dir.join("in"),
        dir.join("decisions.jsonl"),
    )
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_log_that_nobody_takes_ends_neither_agent_nor_pool() {
    let sample = &recorded_of("xsdd", 1)[0];
    // Full, closed, and a pipe that nobody reads and that is full.
    for stderr in ["2>/dev/full", "2>&-", "2>&9"] {
        let dir = tempfile::tempdir().unwrap();
        let (admin, grpc, metrics) = (free_port(), free_port(), free_port());
        let config = config(dir.path(), admin, &folder(dir.path()));
        let agent = Process::in_shell(&["millgate-edge", "run", "--config", &config], stderr);
        let bundle = bundle().display().to_string();
        let (grpc, metrics_at) = (format!("127.0.0.1:{grpc}"), format!("127.0.0.1:{metrics}"));
        let serve =
            ["millgate-cloud", "serve", "--bundle", &bundle, "--threads", "1", "--http", "127.0.0.1:0"];
        let serve = [&serve[..], &["--grpc", &grpc, "--metrics", &metrics_at]].concat();
        let pool = Process::in_shell(&serve, stderr);
        wait_until_up(admin);
        wait_until_up(metrics);
        std::fs::copy(&sample.path, dir.path().join("in/part.png")).unwrap();
        let decided = dir.path().join("decisions.jsonl");
        until(&format!("decided with {stderr}"), || lines(&decided).len() == 1);
        if stderr == "2>/dev/full" {
            for port in [admin, metrics] {
                until("counted", || metric(port, "millgate_log_lines_lost_total") > 0.0);
            }
        }
        assert_eq!(agent.end(Signal::TERM).code(), Some(0), "{stderr}");
        assert_eq!(pool.end(Signal::TERM).code(), Some(0), "{stderr}");
    }
}

#[test]
fn decisions_that_cannot_be_written_are_an_error_and_no_panic() {
    let picture = recorded_of("xsdd", 1)[0].path.display().to_string();
    for output in ["text", "jsonl"] {
        let args = ["millgate-edge", "infer", "--mode", "never", "--output", output, &picture];
        let ran = process::shell(&args, ">/dev/full");
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("standard output: No space left"), "{}", ran.stderr);
        // Its reader has gone before the first decision is written.
        let ran = process::shell(&args, "| exec true; exit ${PIPESTATUS[0]}");
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("its reader has gone"), "{}", ran.stderr);
        // The exit code is told also where nothing else can be.
        assert_eq!(process::shell(&args, ">/dev/full 2>/dev/full").code, 1);
    }
    let absent = ["millgate-edge", "infer", "--bundle", "/nowhere", &picture];
    assert_eq!(process::shell(&absent, "2>/dev/full").code, 3);
    let bundle = bundle().display().to_string();
    let inspect = process::shell(&["millgate-cloud", "bundle", "inspect", &bundle], ">/dev/full");
    assert_eq!(inspect.code, 1, "{}", inspect.stderr);
    assert!(inspect.stderr.contains("cannot write: No space left"), "{}", inspect.stderr);
}

#[test]
fn a_token_that_could_not_be_printed_is_good_for_nobody_and_its_name_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state").display().to_string();
    let create = ["millgate-cloud", "api-token", "create", "--name", "dash", "--state-dir", &state];
    assert_eq!(process::shell(&create, ">/dev/full").code, 1);
    let made = run("millgate-cloud", &create[1..]);
    assert!(made.code == 0 && made.stdout.starts_with("mgt_"), "{}", made.stderr);
}

fn infer<'a>(cloud: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["infer", "--mode", "always", "--cloud", cloud, "--output", "jsonl", "--threads", "1"];
    [&fixed[..], more].concat()
}

async fn pool_at(grpc: SocketAddr) -> Running {
    pool_with(|config| config.grpc = grpc).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infer_waits_for_a_pool_that_is_coming_up() {
    let pictures: Vec<String> =
        recorded_of("deeppcb", 3).iter().map(|sample| sample.path.display().to_string()).collect();
    // Nobody listens yet; or, as while models load, somebody does who does not answer.
    for is_loading in [false, true] {
        let loading = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = loading.local_addr().unwrap();
        let loading = is_loading.then_some(loading);
        let cloud = format!("http://{at}");
        let paths: Vec<&str> = pictures.iter().map(String::as_str).collect();
        let args = infer(&cloud, &[&["--require-cloud", "--wait-cloud", "60s"], &paths[..]].concat());
        let process = Process::logged("millgate-edge", &args);
        until("it waits and says so", || process.log().contains("waiting up to 1m for the pool"));
        assert!(process.log().contains(&at.to_string()), "{}", process.log());
        drop(loading);
        let pool = pool_at(at).await;
        let ran = tokio::task::spawn_blocking(move || process.ended()).await.unwrap();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        for record in ran.lines() {
            assert_eq!(record["state"], "final", "{record}");
            assert!(record.to_string().contains("cloud:node-1"), "{record}");
        }
        assert!(ran.stderr.contains("the pool answers, after"), "{}", ran.stderr);
        assert!(ran.stderr.contains("3 decided, 0 not\n  3 final, 0 provisional"), "{}", ran.stderr);
        pool.drain(Duration::ZERO).await;
    }
}

#[test]
fn infer_says_what_was_missing_and_fails_where_the_pool_is_required() {
    let pictures = recorded_of("deeppcb", 2);
    let (one, other) = (pictures[0].path.display().to_string(), pictures[1].path.display().to_string());
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let ran = run("millgate-edge", &infer(&nobody, &["--wait-cloud", "200ms", &one, &other, "absent.png"]));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert_eq!(ran.lines().len(), 3);
    for words in [
        "waiting up to 200ms for the pool",
        "no pool within 200ms; deciding without it",
        "2 decided, 1 not",
        "0 final, 2 provisional: 2 offline",
        "2 wanted the pool and did not get its answer",
        "not decided: 1 unreadable",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let required = run("millgate-edge", &infer(&nobody, &["--wait-cloud", "0s", "--require-cloud", &one]));
    assert_eq!((required.code, required.stdout.as_str()), (3, ""), "{}", required.stderr);
    assert!(required.stderr.contains("--require-cloud: there is no pool"), "{}", required.stderr);
    for args in
        [&["--require-cloud", &one][..], &["--mode", "never", "--require-cloud", "--cloud", &nobody, &one]]
    {
        let ran = run("millgate-edge", &[&["infer"], args].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("--require-cloud"), "{args:?}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_there_and_does_not_answer_a_sample_fails_where_it_is_required() {
    let pool = pool_with(|config| config.threads = 1).await;
    let cloud = format!("http://{}", pool.grpc_addr());
    let picture = recorded_of("deeppcb", 1)[0].path.display().to_string();
    let ran = tokio::task::spawn_blocking(move || {
        // Features alone may go up, and no expert of the pool takes those: nobody can be asked.
        let args = infer(&cloud, &["--send", "features", "--require-cloud", &picture]);
        run("millgate-edge", &args)
    });
    let ran = ran.await.unwrap();
    assert_eq!((ran.code, ran.lines().len()), (3, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 decisions are without the pool"), "{}", ran.stderr);
}

/// A free port whose successor is free too.
fn two_ports() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..1000)
        .find_map(|_| {
            Some(free_port()).filter(|port| is_free(*port) && port.checked_add(1).is_some_and(is_free))
        })
        .expect("two free ports")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_port_given_as_the_pool_is_known_for_what_it_is() {
    let rest = two_ports();
    let pool = pool_with(|config| {
        config.http = ([127, 0, 0, 1], rest).into();
        config.grpc = ([127, 0, 0, 1], rest + 1).into();
    })
    .await;
    let metrics = pool.metrics_addr().port();
    let bundle = bundle().display().to_string();
    let ran = tokio::task::spawn_blocking(move || {
        let (given, meant) = (format!("http://127.0.0.1:{rest}"), format!("http://127.0.0.1:{}", rest + 1));
        let check = run("millgate-edge", &["check", "--bundle", &bundle, "--cloud", &given]);
        assert_eq!(check.code, 1, "{}", check.stdout);
        for words in ["HTTP/1 is spoken there", "REST port", &format!("{meant}: is that meant?")] {
            assert!(check.stdout.contains(words), "{words}: {}", check.stdout);
        }
        assert!(!check.stdout.contains("serve` running"), "{}", check.stdout);
        let picture = recorded_of("xsdd", 1)[0].path.display().to_string();
        // It is not waited for: a port does not become another one.
        let ran = run("millgate-edge", &infer(&given, &["--wait-cloud", "10m", &picture]));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{meant}: is that meant?")), "{}", ran.stderr);
        let operators = format!("http://127.0.0.1:{metrics}");
        let check = run("millgate-edge", &["check", "--bundle", &bundle, "--cloud", &operators]);
        assert!(check.stdout.contains("HTTP/1 is spoken there"), "{}", check.stdout);
    });
    ran.await.unwrap();
}

#[test]
fn check_concludes_nothing_from_a_configuration_that_it_could_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.toml");
    std::fs::write(&path, "threads = \"many\"\n[offload]\ncloud = \"https://pool.example:8001\"\n").unwrap();
    let path = path.display().to_string();
    let check = run("millgate-edge", &["check", "--config", &path]);
    assert_eq!(check.code, 1, "{}", check.stdout);
    assert!(check.stdout.contains("threads"), "{}", check.stdout);
    assert!(!check.stdout.contains("none is configured"), "{}", check.stdout);
    assert!(check.stdout.contains("not looked at"), "{}", check.stdout);
    let local = run("millgate-edge", &["check", "--config", &path, "--local", "--output", "json"]);
    let report: Value = serde_json::from_str(&local.stdout).unwrap();
    let items = report["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["name"] == "not looked at").unwrap();
    assert!(!item["message"].as_str().unwrap().contains("pool"), "{item}");
    // What a flag names is looked at all the same.
    let bundle = bundle().display().to_string();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let check = run("millgate-edge", &["check", "--config", &path, "--bundle", &bundle, "--cloud", &nobody]);
    for words in ["golden samples", &nobody] {
        assert!(check.stdout.contains(words), "{words}: {}", check.stdout);
    }
}

#[test]
fn a_risk_between_certified_ones_is_said_by_check_and_by_the_decision() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), free_port(), "[offload]\nrisk = 0.04\n");
    let check = run("millgate-edge", &["check", "--config", &config, "--local"]);
    assert!(check.stdout.contains("deeppcb goes by 0.03, xsdd goes by 0.03"), "{}", check.stdout);
    let picture = recorded_of("xsdd", 1)[0].path.display().to_string();
    let rule = |risk: &str| {
        let ran = run("millgate-edge", &["infer", "--risk", risk, "--output", "jsonl", &picture]);
        ran.lines()[0]["why"]["rule"].as_str().unwrap().to_owned()
    };
    assert!(
        rule("0.04").ends_with("at risk 0.03, the next stricter certified one for 0.04"),
        "{}",
        rule("0.04")
    );
    assert!(
        rule("0.1").ends_with("at risk 0.05, the next stricter certified one for 0.1"),
        "{}",
        rule("0.1")
    );
    assert!(rule("0.03").ends_with("at risk 0.03"), "{}", rule("0.03"));
    assert!(rule("0.001").contains("no certified threshold for xsdd at risk 0.001"), "{}", rule("0.001"));
}

#[test]
fn outside_the_repository_the_flag_that_names_the_bundle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let picture = recorded_of("xsdd", 1)[0].path.display().to_string();
    let elsewhere = |name: &str, args: &[&str]| {
        let mut command = Command::new(system_tests::binary(name));
        let output = command.args(args).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = elsewhere("millgate-edge", &["infer", &picture]);
    assert_eq!(code, 3, "{stderr}");
    for words in ["models/factory", "--bundle PATH", "MILLGATE_BUNDLE"] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    // A service may find its bundle at the next try; whoever asks for a check has named the wrong one.
    for (args, expected) in [
        (&["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0"][..], 1),
        (&["check"], 2),
    ] {
        let (code, stderr) = elsewhere("millgate-cloud", args);
        assert_eq!(code, expected, "{stderr}");
        for words in ["models/factory", "--bundle PATH", "--no-bundle"] {
            assert!(stderr.contains(words), "{words}: {stderr}");
        }
    }
    std::fs::write(
        dir.path().join("edge.toml"),
        "bundle = \"nowhere\"\n[api]\nenabled = false\n[admin]\nenabled = false\n",
    )
    .unwrap();
    let (code, stderr) = elsewhere("millgate-edge", &["run", "--config", "edge.toml"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("set `bundle` in the configuration"), "{stderr}");
}

#[test]
fn a_filter_of_log_lines_that_is_none_is_named() {
    let picture = root().join("nowhere.png").display().to_string();
    let mut command = Command::new(system_tests::binary("millgate-edge"));
    command.args(["infer", "--mode", "never", &picture]).current_dir(root()).env("MILLGATE_LOG", "loud=very");
    let stderr = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(stderr.contains("MILLGATE_LOG is no filter") && stderr.contains("loud=very"), "{stderr}");
}

#[test]
fn dropping_what_is_not_in_the_queue_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display().to_string();
    let ran = run("millgate-edge", &["queue", "drop", "--id", "nobody", "--state-dir", &state]);
    assert_eq!((ran.code, ran.stdout.trim()), (2, "0 dropped"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`nobody` is not in the queue"), "{}", ran.stderr);
    assert_eq!(run("millgate-edge", &["queue", "drop", "--all", "--state-dir", &state]).code, 0);
}
