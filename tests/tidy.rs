//! Rules about the files themselves.

use std::path::{Path, PathBuf};

use system_tests::root;

mod floors;

/// Longer files have more than one job.
const MOST_LINES: usize = 500;

fn rust_files() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() && !entry.ends_with("target") {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|ending| ending == "rs") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    for part in ["shared", "edge", "cloud", "deploy", "examples", "tests"] {
        walk(&root().join(part), &mut found);
    }
    assert!(found.len() > 50, "the walk finds the sources");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    for path in rust_files() {
        let text = read(&path);
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{}: {lines} lines", path.display());
        let is_unit_test =
            path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
        let in_system_tests = path.starts_with(root().join("tests"));
        assert!(
            is_unit_test && !in_system_tests || text.starts_with("//!"),
            "{}: no `//!` head",
            path.display()
        );
        assert!(!path.ends_with("mod.rs"), "{}: use foo.rs beside foo/", path.display());
    }
}

#[test]
fn only_their_rooms_name_the_engine_and_the_wire() {
    for path in rust_files() {
        let text = read(&path);
        let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        // Not as the end of another word.
        let names =
            |word: &str| text.match_indices(word).any(|(at, _)| !text[..at].ends_with(char::is_alphanumeric));
        assert!(
            !names("tract_")
                || place.starts_with("shared/engine/src/")
                || place.starts_with("tests/")
                || place.contains("benches/"),
            "{place} names tract"
        );
        assert!(
            !names("ort::")
                || place.starts_with("cloud/src/engines/onnxruntime")
                || place.starts_with("tests/"),
            "{place} names ort"
        );
        let uplink =
            ["breaker.rs", "session.rs", "session/", "split.rs", "pacing.rs", "estimate.rs", "budget.rs"];
        let is_uplink = |part: &&str| place.starts_with(&format!("edge/src/uplink/{part}"));
        let cores = [
            "cloud/src/guests/backoff.rs",
            "cloud/src/guests/message.rs",
            "cloud/src/holding/heads.rs",
            "cloud/src/holding/ledger.rs",
            "cloud/src/holding/messages.rs",
            "cloud/src/holding/pace.rs",
            "cloud/src/holding/readers.rs",
            "cloud/src/holding/unfolding.rs",
            "cloud/src/serving/threads/watch.rs",
            "edge/src/joining.rs",
            "edge/src/source/folder/alarm.rs",
            "edge/src/source/folder/core",
            "edge/src/spool/age.rs",
            "edge/src/spool/index.rs",
            "shared/base/src/trouble.rs",
            "shared/model/src/",
        ];
        let is_core = cores.iter().any(|core| place.starts_with(core)) || uplink.iter().any(is_uplink);
        let is_test = place.contains("/tests");
        if !is_test && is_core {
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in ["Instant::now", "tokio::", "std::fs", "std::net", "proto::"] {
                assert!(!code.contains(word), "{place} is pure, but names {word}");
            }
        }
    }
}

/// Domain errors carry a kind of their own: what that is in gRPC is said in one place, and in HTTP in another.
#[test]
fn only_the_pools_rim_names_the_codes_of_grpc() {
    // The first says what a failure is called, the second reads what an answer says.
    let rooms = ["cloud/src/api/status.rs", "cloud/src/trace/call.rs"];
    for path in rust_files() {
        let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if !place.starts_with("cloud/src/") || place.contains("/tests") || rooms.contains(&&*place) {
            continue;
        }
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        let imports = code.split(';').filter(|it| it.trim_start().starts_with("use tonic::"));
        let mut words = imports.flat_map(|it| it.split(|letter: char| !letter.is_alphanumeric()));
        assert!(
            !code.contains("tonic::Code::") && words.all(|word| word != "Code"),
            "{place} names a gRPC code"
        );
    }
}

/// What leaves a device goes through the operator's policy: see `edge/src/uplink/upload.rs`.
#[test]
fn only_the_payloads_room_makes_requests_of_samples() {
    let rooms = ["edge/src/agent/payload.rs", "edge/src/uplink/upload.rs"];
    // It sends a golden sample of the bundle, and none of the device.
    let exempt = ["edge/src/check/pool.rs"];
    for path in rust_files() {
        let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if !place.starts_with("edge/src/") || place.contains("tests") {
            continue;
        }
        let text = read(&path);
        let text = text.split("#[cfg(test)]").next().unwrap();
        let words = [
            "RunExpertsRequest {",
            "DecideRequest {",
            "ModelInferRequest {",
            "write_part(",
            "write_packed(",
            "write_tensor(",
        ];
        for word in words {
            let made = text.contains(word);
            assert!(!made || rooms.contains(&&*place) || exempt.contains(&&*place), "{place}: {word}");
        }
    }
}

#[test]
fn the_documents_name_files_that_exist() {
    for document in [
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
        "docs/api.md",
        "docs/architecture.md",
        "docs/benchmarks.md",
        "docs/bundles.md",
        "docs/bytes.md",
        "docs/operations.md",
        "docs/own-product.md",
        "docs/security.md",
        "docs/serving.md",
        "docs/sources-and-sinks.md",
        "docs/spool.md",
        "docs/uplink.md",
        "examples/README.md",
    ] {
        let text = read(&root().join(document));
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let base = root().join(document);
            let path = base.parent().unwrap().join(target);
            assert!(path.exists(), "{document} links to {target}");
        }
    }
}

#[test]
fn the_readmes_two_commands_are_there() {
    let readme = read(&root().join("README.md"));
    assert!(readme.lines().count() <= 150, "reference text belongs on a page under docs/");
    assert!(readme.contains("<!-- run -->"));
    assert!(readme.contains("<!-- test -->"));
}

/// A doc comment must be true on its own page, which rustdoc shows without the lines around it: it begins with the thing or
/// a verb.
#[test]
fn doc_comments_begin_with_their_subject() {
    const FRAGMENTS: [&str; 8] = ["Also ", "And ", "But ", "It ", "Likewise", "Nor ", "Of ", "The same "];
    for path in rust_files() {
        let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let mut is_within = false;
        for (at, line) in read(&path).lines().map(str::trim_start).enumerate() {
            let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            let begins = |text: &str| FRAGMENTS.iter().find(|word| text.trim_start().starts_with(**word));
            let fragment = text.and_then(begins);
            assert!(
                is_within || fragment.is_none(),
                "{place}:{}: a doc comment begins with {fragment:?}",
                at + 1
            );
            is_within = text.is_some();
        }
    }
}

/// The fuzz targets are a workspace of their own, which no other build would find out of date.
#[test]
fn the_fuzz_targets_lock_file_follows_the_manifests() {
    let lock = read(&root().join("tests/fuzz/Cargo.lock"));
    let parts = [
        ("shared", "shared"),
        ("shared/array", "array"),
        ("shared/base", "base"),
        ("shared/bundle", "bundle"),
        ("shared/door", "door"),
        ("shared/engine", "engine"),
        ("shared/identity", "identity"),
        ("shared/mixture", "mixture"),
        ("shared/model", "model"),
        ("shared/rim", "rim"),
        ("shared/sample", "sample"),
        ("shared/transport", "transport"),
        ("shared/wire", "wire"),
        ("cloud", "cloud"),
    ];
    for (dir, part) in parts {
        let manifest = read(&root().join(dir).join("Cargo.toml"));
        let section =
            manifest.split("\n[").find_map(|section| section.strip_prefix("dependencies]\n")).unwrap();
        let needed = section.lines().filter(|line| !line.contains("optional") && line.contains('='));
        let package = format!("name = \"millgate-{part}\"\n");
        let locked = lock.split("[[package]]\n").find(|locked| locked.starts_with(&package)).unwrap();
        for name in needed.filter_map(|line| line.split(['.', ' ', '=']).next()) {
            let is_there =
                [format!(" \"{name}\","), format!(" \"{name} ")].iter().any(|it| locked.contains(it));
            assert!(
                is_there,
                "tests/fuzz/Cargo.lock: millgate-{part} has no {name}: cargo update --workspace there"
            );
        }
    }
}
