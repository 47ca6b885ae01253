//! A small manifest for unit tests, and what is refused of it.

use millgate_sample::index::Ix;

use super::*;

/// Gives the text of the small manifest; no digest in it is that of a file.
pub(crate) fn text() -> String {
    include_str!("testdata/tiny.toml").to_owned()
}

pub(crate) fn manifest() -> Manifest {
    Manifest::parse(&text()).unwrap()
}

fn refused(from: &str, to: &str) -> String {
    let text = text();
    assert!(text.contains(from), "{from}");
    Manifest::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn the_lookups_find_what_is_there() {
    let manifest = manifest();
    assert_eq!(manifest.expert_index("a-l"), Some(ExpertIx::new(2)));
    assert_eq!(product_of("a/b/c"), "a");
}

#[test]
fn a_risk_between_certified_ones_takes_the_next_stricter_one() {
    let mut manifest = manifest();
    let looser = Threshold { risk: 0.03, threshold: 0.2, ..manifest.offload.thresholds[0].clone() };
    manifest.offload.thresholds.insert(0, looser);
    let certified = |product: &str, risk: f64| {
        let found = manifest.certified(product, risk, false)?;
        Some((found.risk, found.threshold, found.is_for(risk)))
    };
    assert_eq!(certified("a", 0.02), Some((0.02, 0.1, true)));
    // As a sum comes out.
    assert_eq!(certified("a", 0.01 + 0.02), Some((0.03, 0.2, true)));
    assert_eq!(certified("a", 0.029), Some((0.02, 0.1, false)));
    assert_eq!(certified("a", 0.5), Some((0.03, 0.2, false)));
    assert_eq!(certified("a", 0.019), None);
    assert_eq!(certified("b", 0.5), None);
}

#[test]
fn each_mistake_is_named_by_its_key() {
    for (from, to, key) in [
        ("format = 2", "format = 3", "`format`"),
        ("licence", "license", "license"),
        ("tier = \"edge\"", "tier = \"fog\"", "`experts[0].tier`"),
        ("k = 2", "k = 0", "`tasks[0].k`"),
        ("labels = [\"a/good\", \"a/bad\"]", "labels = [\"a/ugly\"]", "`experts[0].labels`"),
        ("\"b/good\"]", "\"bgood\"]", "`tasks[0].labels`"),
        ("substitutes = [\"all-s\"]", "substitutes = [\"nobody\"]", "`experts[0].substitutes`"),
        ("name = \"a-s\"", "name = \"../a\"", "`experts[0].name`"),
        ("name = \"a-s\"", "name = \"gate\"", "`gate`"),
        ("modality = \"image\"\ndims", "modality = \"sound\"\ndims", "`encoders[0].modality`"),
        ("shape = [1, 8, 8]", "shape = [2, 8, 8]", "`encoders[0].shape`"),
        ("shape = [1, 8, 8]", "shape = [1, 8]", "`encoders[0].shape`"),
        ("shape = [1, 8, 8]", "shape = [1, 0, 8]", "`encoders[0].shape`"),
        ("kind = \"image\"", "kind = \"smell\"", "`modalities[0].kind`"),
        ("kind = \"image\"", "kind = \"image\"\nchannels = 0", "`modalities[0].channels`"),
        ("kind = \"image\"", "kind = \"image\"\nchannels = 3", "`modalities[0].reference`"),
        ("kind = \"image\"", "kind = \"image\"\nsettings = { rate = 1 }", "`modalities[0].settings.rate`"),
        ("reference = \"template\"", "reference = \"golden\"", "`modalities[0].reference`"),
        ("reference = \"template\"", "reference = \"image\"", "`modalities[0].reference`"),
        ("std = 0.25", "std = 0.0", "`encoders[0].preprocess.std`"),
        ("std = 0.25", "std = [0.25, 0.5]", "`encoders[0].preprocess.std`"),
        ("mean = 0.5", "mean = nan", "`encoders[0].preprocess.mean`"),
        ("mean = 0.5", "means = 0.5", "means`"),
        ("price = 0.5", "price = nan", "`experts[2].price`"),
        ("macs = 1000", "macs = 0", "`experts[2].cost.macs`"),
        ("drop_below = 0.25", "drop_below = 0.5", "`combine.drop_below`"),
        ("product = \"a\"", "product = \"z\"", "`offload.thresholds[0].product`"),
        ("calibration_kept = 90", "calibration_kept = 101", "`offload.thresholds[0]`"),
        ("\"gate/1/model.onnx\" =", "\"gate/2/model.onnx\" =", "gate/1/model.onnx"),
        ("\"gate/1/model.onnx\" =", "\"../model.onnx\" =", "../model.onnx"),
        ("sha256:0", "sha1:0", "digests"),
        ("logit_tolerance", "logit_tolerence", "logit_tolerence"),
        ("precision = \"int8\"", "precision = \"int4\"", "`experts[2].variants[0].precision`"),
        ("engine = \"onnxruntime\"", "engine = \"tract\"", "`experts[2].variants[0].engine`"),
        ("\"model.int8.onnx\"", "\"../model.int8.onnx\"", "`experts[2].variants[0].file`"),
        ("\"model.int8.onnx\"", "\"model.onnx\"", "`experts[2].variants[0].file`"),
        ("\"model.int8.onnx\"", "\"model.int8.bin\"", "`experts[2].variants[0].file`"),
        ("\"model.int8.onnx\"", "\"model.int4.onnx\"", "digests.\"a-l/1/model.int4.onnx\""),
        ("logit_tolerance = 0.2", "logit_tolerance = 0.0", "`experts[2].variants[0].logit_tolerance`"),
        ("logit_tolerance = 0.2", "logit_tolerance = nan", "`experts[2].variants[0].logit_tolerance`"),
        ("logit_tolerance = 0.2", "logit_tolerance = 1.5", "`experts[2].variants[0].logit_tolerance`"),
        ("speed_up = 2.9", "speed_up = inf", "`experts[2].variants[0].measured.speed_up`"),
        ("speed_up = 2.9", "speed_up = 0.9", "`experts[2].variants[0].measured.speed_up`"),
        ("speed_up = 2.9", "speedup = 2.9", "speedup"),
        ("accuracy_lost = 0.001", "accuracy_lost = 2.0", "`experts[2].variants[0].measured.accuracy_lost`"),
        ("accuracy_lost = 0.001", "accuracy_lost = nan", "`experts[2].variants[0].measured.accuracy_lost`"),
    ] {
        let message = refused(from, to);
        assert!(message.starts_with("bundle.toml") && message.contains(key), "{from} -> {to}: {message}");
    }
}

#[test]
fn an_expert_needs_no_variant_and_has_none_twice() {
    let text = text();
    let start = text.find("[[experts.variants]]").unwrap();
    let end = start + text[start..].find("[combine]").unwrap();
    let entry = &text[start..end];
    let with = |entries: &str| Manifest::parse(&(text[..start].to_owned() + entries + &text[end..]));
    assert!(with("").unwrap().experts.iter().all(|expert| expert.variants.is_empty()));
    assert_eq!(with(entry).unwrap().experts[ExpertIx::new(2)].variants[0].file, "model.int8.onnx");
    let refused = |second: &str| with(&(entry.to_owned() + second)).unwrap_err().to_string();
    let said = refused(entry);
    assert!(said.contains("`experts[2].variants[1].file`") && said.contains("twice"), "{said}");
    let said = refused(&entry.replace("model.int8.onnx", "other.onnx"));
    assert!(said.contains("`experts[2].variants[1]`") && said.contains("int8 for onnxruntime"), "{said}");
}

/// The cloud expert takes the embedding, and nothing else.
fn with_embedding(input: &str) -> Result<Manifest, TomlError> {
    let text = text();
    let start = text.find("name = \"a-l\"").unwrap();
    let from = start + text[start..].find("inputs = [").unwrap();
    let to = from + text[from..].find("\n]\n").unwrap() + 3;
    Manifest::parse(&(text[..from].to_owned() + &format!("inputs = [{input}]\n") + &text[to..]))
}

#[test]
fn an_expert_may_take_the_embedding() {
    let input = "{ modality = \"image\", kind = \"embedding\", shape = [4] }";
    let manifest = with_embedding(input).unwrap();
    let found = &manifest.experts[ExpertIx::new(2)].inputs[0];
    assert_eq!((&*found.name, found.kind), (EMBEDDING, InputKind::Embedding));
    assert_eq!(manifest.experts[ExpertIx::new(0)].inputs[1].name, "template");
    assert_eq!(manifest.embedding_name("template"), "embedding.template");
    let pixels = "{ modality = \"image\", shape = [1, 8, 8], preprocess = { mean = 0.5, std = 0.25 } }";
    assert!(with_embedding(&format!("{input}, {pixels}")).is_ok(), "both of one modality");
}

#[test]
fn an_embedding_that_is_not_there_is_named() {
    let says = |input: &str, key: &str| {
        let message = with_embedding(input).unwrap_err().to_string();
        assert!(message.contains(&format!("`experts[2].inputs{key}`")), "{input}: {message}");
    };
    says("{ modality = \"image\", kind = \"embedding\", shape = [5] }", "[0].shape");
    says("{ modality = \"image\", kind = \"embedding\", shape = [1, 8, 8] }", "[0].shape");
    says("{ modality = \"template\", kind = \"embedding\", shape = [4] }", "[0].modality");
    says(
        "{ modality = \"image\", kind = \"embedding\", shape = [4], preprocess = { std = 1.0 } }",
        "[0].preprocess.std",
    );
    says("{ modality = \"image\", kind = \"sound\", shape = [4] }", "[0].kind");
    says("{ modality = \"image\", shape = [1, 8, 8], preprocess = { mean = 0.5 } }", "[0].preprocess");
    says("{ modality = \"image\", shape = [4], preprocess = { mean = 0.5, std = 0.25 } }", "[0].shape");
    let twice = "{ modality = \"image\", kind = \"embedding\", shape = [4] }";
    says(&format!("{twice}, {twice}"), "");
    assert!(refused("name = \"template\"", "name = \"embedding\"").contains("`modalities[1].name`"));
    assert!(refused("name = \"template\"", "name = \"embedding.x\"").contains("`modalities[1].name`"));
}

#[test]
fn a_bundle_of_format_1_is_told_what_to_do() {
    let old = text().replacen("format = 2", "format = 1", 1).replacen(
        "preprocess = { mean = 0.5, std = 0.25 }\n",
        "mean = 0.5\nstd = 0.25\n",
        1,
    );
    let said = Manifest::parse(&old).unwrap_err().to_string();
    assert!(
        said.contains("`format`: is 1, this version reads 2") && said.contains("docs/bundles.md"),
        "{said}"
    );
}

#[test]
fn a_golden_decision_names_its_parts_by_modality() {
    let decision = |parts: &str| {
        let entry = format!(
            "[[golden.decisions]]\nparts = {{ {parts} }}\ntask = \"inspect\"\nlabel = \"a/good\"\nprobability = 1.0\n\
             risk = 0.0\nexperts = [\"a-s\"]\n\n[digests]\n\"golden/a.png\" = \"sha256:{}\"\n",
            "0".repeat(64)
        );
        Manifest::parse(&text().replacen("[digests]\n", &entry, 1))
    };
    let manifest = decision("image = \"golden/a.png\"").unwrap();
    assert_eq!(manifest.golden.decisions[0].parts["image"], "golden/a.png");
    assert!(manifest.golden.decisions[0].labels.is_empty());
    for (parts, key) in [
        ("", "`golden.decisions[0].parts`"),
        ("smell = \"golden/a.png\"", "`golden.decisions[0].parts.smell`"),
        ("image = \"golden/b.png\"", "`digests.\"golden/b.png\"`"),
    ] {
        let said = decision(parts).unwrap_err().to_string();
        assert!(said.contains(key), "{parts}: {said}");
    }
}
