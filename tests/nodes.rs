//! The node cases of the onnx package through the pool: what is answered is right, and what is not answered says why and
//! what helps. The cases are in `deploy/bench/nodes`; the table of all of them is in `docs/serving.md`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use system_tests::python::{python, run};
use system_tests::{binary, root, skip};

/// Fewer right answers than this, and something that was served no longer is.
const FEWEST_RIGHT: usize = 1100;
/// Fewest right answers, as [`FEWEST_RIGHT`], with ONNX Runtime beside tract.
const FEWEST_RIGHT_OF_BOTH: usize = 1550;

/// Each case's line of results.
fn results(python: &Path, arguments: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.jsonl");
    let binaries = binary("millgate-cloud").parent().unwrap().to_path_buf();
    let mut command = Command::new(python);
    command.arg(root().join("deploy/bench/node_cases.py")).args(arguments);
    command.arg("--binaries").arg(binaries).arg("--results").arg(&file);
    let report = run(&mut command).unwrap_or_else(|report| panic!("{report}"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {report}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(results: &[Value], outcomes: &[&str]) -> usize {
    results.iter().filter(|case| outcomes.contains(&case["outcome"].as_str().unwrap())).count()
}

#[test]
fn no_node_case_of_the_onnx_package_is_answered_wrongly() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skip(&reason),
    };
    let results = results(&python, &["--engine", "tract"]);
    assert!(results.len() > 1500, "{} cases", results.len());
    assert_eq!(count(&results, &["WRONG", "CRASH", "ENDLESS"]), 0);
    let right = count(&results, &["right", "rounding"]);
    assert!(right >= FEWEST_RIGHT, "{right} right of {}", results.len());
    for case in &results {
        let detail = case["detail"].as_str().unwrap();
        let is_refused = case["outcome"].as_str().unwrap().starts_with("refused");
        assert!(!is_refused || !detail.is_empty(), "{case}");
        // What tract is not trusted with names the way out.
        assert!(!detail.contains("wrongly") || detail.contains("engine install"), "{case}");
    }
}

/// The node cases with ONNX Runtime beside tract: where tract refuses it serves, and where either is wrong neither does.
#[test]
fn no_node_case_is_answered_wrongly_with_both_engines() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skip(&reason),
    };
    let results = results(&python, &["--engine", "auto"]);
    assert_eq!(count(&results, &["WRONG", "CRASH", "ENDLESS"]), 0);
    let right = count(&results, &["right", "rounding"]);
    assert!(right >= FEWEST_RIGHT_OF_BOTH, "{right} right of {}", results.len());
}

#[test]
fn cases_made_at_random_are_right_or_refused_by_the_built_in_engine() {
    // A few of each operator; `deploy/bench/node_cases.py --bare --random 100 --seed N` is the long form.
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skip(&reason),
    };
    let results = results(&python, &["--bare", "--random", "4", "--seed", "20"]);
    assert!(results.len() > 500, "{} cases", results.len());
    assert_eq!(count(&results, &["WRONG", "CRASH", "ENDLESS"]), 0);
}
