//! The engines and the choice between them: what `check` says, what a wrong configuration costs, and that loading a
//! model again and again leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::python::{self, onnxruntime_library, python};
use system_tests::{Ran, root, run};

/// Nothing is asked of the package registry by a test of what needs no library.
fn check(config: &str) -> (Ran, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloud.toml");
    std::fs::write(&file, config).unwrap();
    (run("millgate-cloud", &["check", "--config", file.to_str().unwrap(), "--output", "json"]), folder)
}

/// A repository of models, one of which is broken.
fn repository(python: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = root().join("tests/tritonclient/make_models.py");
    python::run(Command::new(python).arg(script).arg(folder.path())).unwrap();
    folder
}

fn with_library() -> Result<(PathBuf, PathBuf), String> {
    Ok((python()?, onnxruntime_library()?))
}

fn model<'a>(report: &'a Value, name: &str) -> &'a Value {
    let models = report["models"].as_array().unwrap();
    models.iter().find(|model| model["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
}

#[test]
fn a_bundle_alone_is_checked() {
    let (ran, _folder) = check("threads = 1\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report = &ran.lines()[0];
    assert_eq!((report["ok"].as_bool(), report["onnxruntime_library"].is_null()), (Some(true), true));
    let gate = model(report, "gate");
    assert_eq!(
        (gate["engine"].as_str(), gate["rows_are_independent"].as_bool()),
        (Some("tract"), Some(true))
    );
    assert!(gate["us_per_row"].as_f64().unwrap() > 0.0 && gate["why"] == "the only engine of this pool");
    let text = run("millgate-cloud", &["check", "--threads", "1"]);
    assert!(text.code == 0 && text.stdout.contains("models can be served"), "{text:?}");
}

#[test]
fn what_is_wrong_with_the_configuration_is_named_and_costs_exit_code_2() {
    for (config, words) in [
        ("[engines]\ndefault = \"onnxruntime\"\n", "engines.onnxruntime_library"),
        ("[engines]\nonnxruntime_library = \"/nowhere/libonnxruntime.so\"\n", "/nowhere/libonnxruntime.so"),
        ("[engines]\nexecution_providers = [\"gpu\"]\n", "`gpu`"),
        ("[engines.models.gate]\nthread = 1\n", "thread"),
        ("bundle = \"nowhere\"\n", "nowhere"),
    ] {
        let (ran, _folder) = check(config);
        assert_eq!(ran.code, 2, "{config}: {}", ran.stderr);
        assert!(ran.lines()[0]["ok"] == false && ran.stdout.contains(words), "{config}: {}", ran.stdout);
    }
}

#[test]
fn each_model_gets_an_engine_and_what_cannot_be_served_says_why() {
    let (python, library) = match with_library() {
        Ok(found) => found,
        Err(reason) => return eprintln!("SKIPPED: no ONNX Runtime library: {reason}"),
    };
    let models = repository(&python);
    let config = format!(
        "threads = 1\nmodel_repository = [{:?}]\n[engines]\nonnxruntime_library = {library:?}\n\
         [engines.models.dense]\nengine = \"tract\"\n[engines.models.conv]\nengine = \"onnxruntime\"\nthreads = 2\n",
        models.path()
    );
    let (ran, _folder) = check(&config);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let report = &ran.lines()[0];
    let engine = |name: &str| model(report, name)["engine"].as_str().unwrap().to_owned();
    assert_eq!(
        (engine("dense"), engine("conv"), engine("determinant")),
        ("tract".into(), "onnxruntime".into(), "onnxruntime".into())
    );
    assert!(model(report, "conv")["why"].as_str().unwrap().contains("the pool's configuration"));
    assert!(model(report, "determinant")["why"].as_str().unwrap().contains("tract cannot run it"));
    let chosen = model(report, "add-sub");
    assert_eq!(chosen["alternatives"].as_array().unwrap().len(), 1, "{chosen}");
    let refused = report["cannot_be_served"].as_array().unwrap();
    for name in ["broken", "sequence", "external-outside", "pickle"] {
        let reason = refused.iter().find(|model| model["name"] == name);
        assert!(!reason.unwrap()["reason"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(refused.len(), 4, "{refused:?}");
}

#[test]
fn a_provider_that_the_library_lacks_is_never_passed_over_in_silence() {
    let library = match onnxruntime_library() {
        Ok(found) => found,
        Err(reason) => return eprintln!("SKIPPED: no ONNX Runtime library: {reason}"),
    };
    let config = |providers: &str| {
        format!(
            "threads = 1\n[engines]\nonnxruntime_library = {library:?}\nexecution_providers = {providers}\n"
        )
    };
    let (ran, _folder) = check(&config("[\"cuda:1\"]"));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stdout.contains("cuda:1") && ran.stdout.contains("built without it"), "{}", ran.stdout);
    let (ran, _folder) = check(&config("[\"cuda:1\", \"cpu\"]"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("cuda:1") && ran.stderr.contains("passed over"), "{}", ran.stderr);
}
