//! Bundles that are wrong are refused before anything is decided, by a message that names file and key.

use system_tests::broken::Copy;
use system_tests::{recorded_of, root, run};

const MODEL: &str = "pcb-s/1/model.onnx";
const VARIANT: &str = "pcb-l/1/model.int8.onnx";

/// What both programs say of a bundle; both must refuse it, with the same words.
fn refused(bundle: &Copy) -> String {
    let picture = recorded_of("deeppcb", 1)[0].path.display().to_string();
    let agent = run("millgate-edge", &["infer", "--mode", "never", "--bundle", bundle.text_path(), &picture]);
    assert_eq!((agent.code, agent.stdout.as_str()), (3, ""), "{}", agent.stderr);
    let pool = run("millgate-cloud", &["bundle", "verify", bundle.text_path()]);
    assert_eq!(pool.code, 2, "{}", pool.stderr);
    agent.stderr + &pool.stderr
}

fn assert_refused(bundle: &Copy, words: &[&str]) {
    let said = refused(bundle);
    for word in words {
        assert_eq!(said.matches(word).count().min(2), 2, "both must say `{word}`:\n{said}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let bundle = Copy::new().manifest("licence = ", "lisence = ");
    assert_refused(&bundle, &["bundle.toml:5", "lisence"]);
}

#[test]
fn a_missing_file_is_named() {
    let bundle = Copy::new();
    std::fs::remove_file(bundle.file(MODEL)).unwrap();
    assert_refused(&bundle, &[MODEL, "missing"]);
}

#[test]
fn a_flipped_bit_is_found() {
    let bundle = Copy::new().tampered(MODEL, |bytes| bytes[1000] ^= 1);
    assert_refused(&bundle, &[MODEL, "digest"]);
}

#[test]
fn a_file_that_is_not_listed_is_named() {
    let bundle = Copy::new();
    std::fs::write(bundle.file("pcb-s/1/extra.bin"), b"?").unwrap();
    assert_refused(&bundle, &["pcb-s/1/extra.bin", "not listed"]);
}

#[test]
fn a_shape_that_the_model_does_not_have_is_named() {
    let bundle = Copy::new().manifest("shape = [1, 64, 64]", "shape = [1, 32, 32]");
    assert_refused(&bundle, &["image-encoder/1/model.onnx", "[1, 1, 32, 32]"]);
}

#[test]
fn a_label_too_few_is_caught_by_the_models_shape() {
    let bundle = Copy::new()
        .manifest("labels = [\"bsdata/clean\", \"bsdata/pitting\"]", "labels = [\"bsdata/clean\"]");
    assert_refused(&bundle, &["screw-s/1/model.onnx", "logits"]);
}

#[test]
fn a_wrong_opset_is_named() {
    // `opset_import` is field 8 of the model: { version (field 2): 17 }, with or without an empty domain before it.
    let bundle = Copy::new().rebuilt(MODEL, |bytes| {
        let with_domain =
            bytes.windows(6).rposition(|at| at == [0x42, 0x04, 0x0a, 0x00, 0x10, 17]).map(|at| at + 5);
        let without = bytes.windows(4).rposition(|at| at == [0x42, 0x02, 0x10, 17]).map(|at| at + 3);
        bytes[with_domain.or(without).expect("an opset import")] = 9;
    });
    assert_refused(&bundle, &[MODEL, "opset 9"]);
}

#[test]
fn a_weight_that_is_not_a_number_is_caught_by_the_golden_samples() {
    // Weights are stored as FP16; a run of them in the middle of the file becomes NaN.
    let bundle = Copy::new().rebuilt(MODEL, |bytes| {
        let middle = bytes.len() / 4 * 2;
        for pair in bytes[middle..middle + 64].chunks_exact_mut(2) {
            pair.copy_from_slice(&0x7e00_u16.to_le_bytes());
        }
    });
    // Where a ReLU swallows it, the values are wrong; where nothing does, they are no numbers.
    assert_refused(&bundle, &["golden/pcb-s.safetensors", MODEL, "expected"]);
}

#[test]
fn a_file_that_is_no_onnx_is_named() {
    let bundle = Copy::new().rebuilt(MODEL, |bytes| *bytes = b"hello".repeat(100));
    assert_refused(&bundle, &[MODEL]);
}

#[test]
fn calibration_that_does_not_fit_is_caught_by_the_golden_decisions() {
    let text = std::fs::read_to_string(system_tests::bundle().join("bundle.toml")).unwrap();
    let at = text.find("competence = { bias = ").unwrap();
    let line = text[at..].lines().next().unwrap().to_owned();
    let bundle = Copy::new().manifest(&line, "competence = { bias = -9.0, confidence = 1.0, gate = 0.0 }");
    assert_refused(&bundle, &["golden/", "expected"]);
}

#[test]
fn a_variants_unknown_key_is_named_by_both() {
    let bundle = Copy::new().manifest("logit_tolerance", "logit_tolerence");
    assert_refused(&bundle, &["bundle.toml:", "logit_tolerence"]);
}

#[test]
fn a_variant_that_is_not_among_the_digests_is_named_by_both() {
    let bundle = Copy::new().manifest("file = \"model.int8.onnx\"", "file = \"model.int4.onnx\"");
    assert_refused(&bundle, &["pcb-l/1/model.int4.onnx", "missing"]);
}

#[test]
fn a_flipped_bit_in_a_variant_is_found_by_both() {
    let bundle = Copy::new().tampered(VARIANT, |bytes| bytes[1000] ^= 1);
    assert_refused(&bundle, &[VARIANT, "digest"]);
}

/// The pool refuses it, by this message; the agent has no use for variants and decides as ever.
fn only_the_pool_refuses(bundle: &Copy) -> String {
    let picture = recorded_of("xsdd", 1)[0].path.display().to_string();
    let decide = |bundle: &str| {
        let args = ["infer", "--mode", "never", "--output", "jsonl", "--bundle", bundle, &picture];
        let record = run("millgate-edge", &args).lines().remove(0);
        record["verdict"].clone()
    };
    assert_eq!(decide(bundle.text_path()), decide("models/factory"));
    let pool = run("millgate-cloud", &["bundle", "verify", bundle.text_path()]);
    assert_eq!(pool.code, 2, "{}", pool.stderr);
    pool.stderr
}

#[test]
fn a_variant_that_is_no_onnx_is_named() {
    let said = only_the_pool_refuses(&Copy::new().rebuilt(VARIANT, |bytes| *bytes = b"hello".repeat(100)));
    assert!(said.contains(VARIANT) && said.contains("ONNX"), "{said}");
}

#[test]
fn a_variant_of_another_expert_is_caught_by_its_outputs() {
    let other = std::fs::read(system_tests::bundle().join("screw-l/1/model.int8.onnx")).unwrap();
    let steel = "steel-l/1/model.int8.onnx";
    let said = only_the_pool_refuses(&Copy::new().rebuilt(steel, |bytes| *bytes = other));
    assert!(said.contains(steel) && said.contains("`logits` has shape [-1, 2]"), "{said}");
}

#[test]
fn verify_and_inspect_speak_of_variants() {
    let said = run("millgate-cloud", &["bundle", "verify", "models/factory"]);
    assert!(said.stdout.contains("variants   3 with the inputs and outputs"), "{}", said.stdout);
    let shown = run("millgate-cloud", &["bundle", "inspect", "models/factory"]).stdout;
    assert!(shown.contains("int8") && shown.contains("onnxruntime"), "{shown}");
    let json = run("millgate-cloud", &["bundle", "inspect", "models/factory", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let experts = json["experts"].as_array().unwrap();
    let varied = experts.iter().filter(|expert| expert["variants"][0]["precision"] == "int8");
    let names: Vec<&str> = varied.filter_map(|expert| expert["name"].as_str()).collect();
    assert_eq!(names, ["pcb-l", "steel-l", "screw-l"]);
}

#[test]
fn the_shipped_bundle_passes_packs_and_decides_from_its_archive() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("factory.tar.zst");
    let archive = archive.to_str().unwrap();
    let packed = run("millgate-cloud", &["bundle", "pack", "models/factory", "-o", archive]);
    assert_eq!(packed.code, 0, "{}", packed.stderr);
    let verified = run("millgate-cloud", &["bundle", "verify", archive, "--output", "json"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let picture = recorded_of("xsdd", 1)[0].path.display().to_string();
    let decide = |bundle: &str| {
        let args = ["infer", "--mode", "never", "--output", "jsonl", "--bundle", bundle, &picture];
        let record = run("millgate-edge", &args).lines().remove(0);
        (record["verdict"].clone(), record["bundle"].clone())
    };
    assert_eq!(decide(archive), decide("models/factory"));
}

#[test]
fn an_archive_that_would_write_outside_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("evil.tar.zst");
    // A tar header by hand: the tar crates refuse to write such a name.
    let mut header = [0_u8; 512];
    header[..10].copy_from_slice(b"../evil.sh");
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(b"00000000005\0");
    header[156] = b'0';
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(b"evil\n");
    tar.resize(512 * 4, 0);
    std::fs::write(&archive, zstd::encode_all(&tar[..], 1).unwrap()).unwrap();
    let ran = run("millgate-cloud", &["bundle", "verify", archive.to_str().unwrap()]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("../evil.sh"), "{}", ran.stderr);
    assert!(!dir.path().parent().unwrap().join("evil.sh").exists());
}

#[test]
fn inspect_shows_what_is_in_it() {
    let shown = run("millgate-cloud", &["bundle", "inspect", "models/factory"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for word in ["factory", "pcb-s", "pcb-l", "generalist-s", "deeppcb", "sha256:"] {
        assert!(shown.stdout.contains(word), "{word}");
    }
    let json: serde_json::Value = serde_json::from_str(
        &run("millgate-cloud", &["bundle", "inspect", "models/factory", "--output", "json"]).stdout,
    )
    .unwrap();
    assert!(json.is_object());
}

#[test]
fn the_committed_bundle_is_small() {
    fn size(path: &std::path::Path) -> u64 {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries
            .map(
                |entry| {
                    if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }
                },
            )
            .sum()
    }
    let bytes = size(&root().join("models"));
    assert!(bytes <= 20 << 20, "{bytes} bytes");
}
