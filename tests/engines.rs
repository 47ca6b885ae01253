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
    // Another test's pool may have kept a bundle in the usual state directory.
    let state_dir = folder.path().join("state");
    std::fs::write(&file, format!("state_dir = {state_dir:?}\n{config}")).unwrap();
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

/// A wheel that holds the library where the real one does, and one for another kind of machine.
fn wheels(python: &Path, library: &Path, folder: &Path) -> (PathBuf, PathBuf) {
    let script = "\
import pathlib, sys, zipfile
library, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
content, name = library.read_bytes(), 'onnxruntime/capi/' + library.name
for wheel, head in (('onnxruntime-right.whl', content[:20]), ('onnxruntime-wrong.whl', content[:18] + bytes([40, 0]))):
    with zipfile.ZipFile(folder / wheel, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        out.writestr(name, head + content[20:])
        out.writestr('onnxruntime/capi/onnxruntime_pybind11_state.so', b'python')
";
    python::run(Command::new(python).args(["-c", script]).arg(library).arg(folder)).unwrap();
    (folder.join("onnxruntime-right.whl"), folder.join("onnxruntime-wrong.whl"))
}

#[test]
fn one_command_brings_onnx_runtime_in_place_and_check_says_what_is_lost_without_it() {
    let (python, library) = match with_library() {
        Ok(found) => found,
        Err(reason) => return eprintln!("SKIPPED: no ONNX Runtime library: {reason}"),
    };
    let (models, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = repository(&python);
    for name in ["scaler", "conv", "dense"] {
        std::fs::rename(all.path().join(name), models.path().join(name)).unwrap();
    }
    let (file, state) = (folder.path().join("cloud.toml"), folder.path().join("state"));
    let text = format!(
        "threads = 1\nbundle = \"\"\nmodel_repository = [{:?}]\nstate_dir = {state:?}\n",
        models.path()
    );
    std::fs::write(&file, text).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let engine = |args: &[&str]| run("millgate-cloud", &[&["engine"], args, &config].concat());
    let check = || run("millgate-cloud", &[&["check", "--output", "json"], &config[..]].concat());
    let before = check();
    assert_eq!(before.code, 2, "{}", before.stderr);
    let without = &before.lines()[0]["without_onnxruntime"];
    assert_eq!(without["cannot_be_served"], serde_json::json!(["scaler"]), "{without}");
    assert_eq!(without["may_gain"], serde_json::json!(["conv"]), "{without}");
    let remedy = without["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("millgate-cloud engine install "), "{remedy}");
    let text = run("millgate-cloud", &[&["check"], &config[..]].concat()).stdout;
    assert!(text.contains("ONNX Runtime is not here") && text.contains(remedy), "{text}");

    let (right, wrong) = wheels(&python, &library, folder.path());
    for (path, words) in [
        (wrong.to_str().unwrap(), "is for another kind of machine"),
        (file.to_str().unwrap(), "is no wheel"),
        ("/nowhere.whl", "/nowhere.whl: "),
    ] {
        let refused = engine(&["install", path]);
        assert!(refused.code != 0 && refused.stderr.contains(words), "{refused:?}");
    }
    let installed = engine(&["install", right.to_str().unwrap(), "--output", "json"]);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    let installed = &installed.lines()[0];
    let place = PathBuf::from(installed["library"].as_str().unwrap());
    assert!(
        place.starts_with(&state) && installed["source_sha256"].as_str().unwrap().len() == 64,
        "{installed}"
    );
    assert_eq!(std::fs::read(&place).unwrap(), std::fs::read(&library).unwrap());
    let listed = engine(&["list", "--output", "json"]).lines()[0]["engines"][0].clone();
    assert_eq!(
        (listed["version"].clone(), &listed["is_first"]),
        (installed["version"].clone(), &Value::Bool(true))
    );

    let after = check();
    assert_eq!(after.code, 0, "{}{}", after.stdout, after.stderr);
    let report = &after.lines()[0];
    assert_eq!(report["onnxruntime_library"], installed["library"]);
    assert!(report["without_onnxruntime"].is_null());
    assert_eq!(model(report, "scaler")["engine"], "onnxruntime");

    let version = installed["version"].as_str().unwrap();
    assert_eq!(engine(&["remove", version]).code, 0);
    let again = engine(&["remove", version]);
    assert!(again.code == 2 && again.stderr.contains("is not installed"), "{again:?}");
    assert_eq!(check().code, 2);
}
