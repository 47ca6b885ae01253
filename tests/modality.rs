//! Modalities are data of the bundle and files of the program: a bundle names them as it likes, and a new kind needs no
//! other room's help.

use millgate_edge::agent::Ask;
use millgate_edge::input::{Input, Naming};
use millgate_shared::bundle::Bundle;
use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::deciding::Mode;
use millgate_shared::index::ModalityIx;
use millgate_shared::inputs::expert_inputs;
use millgate_shared::modality::{Effort, MODALITIES, Modality};
use millgate_shared::part::{Limits, Part};
use millgate_shared::sample;
use millgate_shared::wire::{read_parts, unread, write_part};
use system_tests::broken::Copy;
use system_tests::{agent_with, bundle, recorded_of, run};
use vector::Vectors;

mod vector;

/// The shipped manifest with two vectors beside its pictures, one of which an expert takes.
fn with_vectors(kinds: &[&'static dyn Modality], from: &str, to: &str) -> Result<Manifest, String> {
    let text = std::fs::read_to_string(bundle().join("bundle.toml")).map_err(|error| error.to_string())?;
    let modalities = r#"
[[modalities]]
name = "force"
kind = "vector"
unit = "N"
reference = "usual_force"
settings = { length = 3 }

[[modalities]]
name = "usual_force"
kind = "vector"
unit = "N"
settings = { length = 3 }

[[tasks]]
"#;
    let input = r#"
  [[experts.inputs]]
  modality = "force"
  shape = [3]
  preprocess = { scale = 0.5 }

[combine]
"#;
    let text = text.replacen("\n[[tasks]]\n", modalities, 1).replacen("\n[combine]\n", input, 1);
    assert!(text.contains(from), "{from}");
    Manifest::parse_with(&text.replacen(from, to, 1), kinds).map_err(|error| error.to_string())
}

const KINDS: [&dyn Modality; 2] = [&millgate_shared::modality::image::Images, &Vectors];

#[test]
fn a_new_kind_of_modality_goes_from_the_manifest_to_the_model_and_over_the_line() {
    let manifest = with_vectors(&KINDS, "", "").unwrap();
    let modalities = &manifest.modalities;
    let index = |name: &str| manifest.modality_index(name).unwrap();
    let picture = std::fs::read(bundle().join("golden/steel-red-iron.png")).unwrap();
    let parts = [
        Part::file("image", picture),
        Part::file("usual_force", b"[1, 2, 3]".to_vec()),
        Part::file("force", b"[1.5, 2, -4]".to_vec()),
    ];
    let read = |parts: &[Part]| sample::read(modalities, parts, &Limits::default());
    let sample = read(&parts).unwrap().sample;
    assert_eq!(sample.presence(), [true, false, true, true].into());

    let taker = manifest.experts.pairs().last().unwrap().0;
    let inputs = expert_inputs(&manifest, taker, &sample, &Default::default()).unwrap();
    let (name, force) = (&manifest.experts[taker].inputs.last().unwrap().name, inputs.last().unwrap());
    assert_eq!((name.as_str(), force.shape()), ("force", &[1, 3][..]));
    assert_eq!(force.as_fp32().unwrap(), [0.75, 1.0, -2.0]);

    // Over the line, against its reference.
    let write = |at: ModalityIx| {
        let spec = &modalities[at];
        let reference = spec.reference.as_ref().and_then(|name| sample.value(index(name)));
        let part = spec.modality().encode(spec, sample.value(at).unwrap(), reference, Effort::Full);
        write_part(part.unwrap())
    };
    let sent = vec![write(index("usual_force")), write(index("force"))];
    assert_eq!((&*sent[0].codec, &*sent[1].codec), ("tensor", "delta"));
    let back = read(&read_parts("parts", sent.clone()).unwrap()).unwrap().sample;
    for name in ["usual_force", "force"] {
        assert_eq!(back.value(index(name)).unwrap().array(), sample.value(index(name)).unwrap().array());
    }

    // What is wrong is named by its part.
    let refused = |parts: &[Part]| unread("parts", &read(parts).unwrap_err()).to_string();
    let first = read_parts("parts", vec![sent[1].clone()]).unwrap();
    assert!(refused(&first).starts_with("`parts[0].data`: its reference"));
    let short = refused(&[parts[0].clone(), Part::file("force", b"[1]".to_vec())]);
    assert!(short.starts_with("`parts[1].data`: has the shape [1], `force` has 3 numbers"), "{short}");
    let coded = Part { codec: "bw".into(), ..parts[2].clone() };
    assert!(refused(&[coded]).starts_with("`parts[0].codec`: `bw`"));
}

#[test]
fn a_manifest_is_checked_by_the_kinds_that_it_names() {
    let says =
        |kinds: &[&'static dyn Modality], from: &str, to: &str| with_vectors(kinds, from, to).unwrap_err();
    let unknown = says(MODALITIES, "", "");
    assert!(
        unknown.contains("`modalities[2].kind`: `vector` is not a kind of modality (known: image)"),
        "{unknown}"
    );
    for (from, to, key) in [
        ("settings = { length = 3 }", "settings = { size = 3 }", "size`"),
        ("settings = { length = 3 }", "settings = { length = 4 }", ".shape`"),
        ("scale = 0.5", "scale = \"half\"", ".preprocess.scale`"),
        ("reference = \"usual_force\"", "reference = \"image\"", "`modalities[2].reference`"),
    ] {
        let said = says(&KINDS, from, to);
        assert!(said.contains(key), "{to}: {said}");
    }
}

/// The shipped bundle with its pictures called `front`: in the manifest, the models and their golden tensors.
fn front() -> Copy {
    let mut renamed = Copy::new();
    let opened = Bundle::open(renamed.path()).unwrap();
    let is_renamed = |file: &&str| file.ends_with(".onnx") || file.ends_with(".safetensors");
    let files: Vec<String> = opened.files().filter(is_renamed).map(str::to_owned).collect();
    for file in files {
        if std::fs::read(renamed.file(&file)).unwrap().windows(5).any(|bytes| bytes == b"image") {
            renamed = renamed.rebuilt(&file, |bytes| {
                for at in 0..bytes.len().saturating_sub(4) {
                    if bytes[at..].starts_with(b"image") {
                        bytes[at..at + 5].copy_from_slice(b"front");
                    }
                }
            });
        }
    }
    let path = renamed.file("bundle.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("name = \"image\"", "name = \"front\"")
        .replace("modality = \"image\"", "modality = \"front\"");
    std::fs::write(path, text.replace("parts = { image = ", "parts = { front = ")).unwrap();
    renamed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_whose_picture_is_called_front_is_proved_and_fed_from_files() {
    let renamed = front();
    let sample = &recorded_of("deeppcb", 1)[0];
    let usual = agent_with(None, |config| config.mode = Mode::Never).await;
    let agent = agent_with(None, |config| {
        config.mode = Mode::Never;
        config.bundle = renamed.path().to_path_buf();
    })
    .await;
    let naming: Naming = agent.agent.naming();
    assert_eq!(naming.main(), "front");
    let input = Input::from_file(&sample.path, &naming, &[], None).unwrap();
    let decision = agent.agent.decide(input, Ask::default()).await.unwrap();
    let same = usual.decide(&sample.path).await;
    assert_eq!(decision.sample.modalities, ["front", "template"]);
    assert_eq!((decision.verdict, decision.probabilities), (same.verdict, same.probabilities));
    assert_eq!(decision.sample.sha256, same.sample.sha256);
    let path = sample.path.display().to_string();
    let args = ["infer", "--bundle", renamed.text_path(), "--mode", "never", "--output", "jsonl", &path];
    let ran = run("millgate-edge", &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.lines()[0]["sample"]["modalities"], serde_json::json!(["front", "template"]));
}

#[test]
fn a_bundle_of_format_1_is_refused_by_name() {
    let old = Copy::new().manifest("format = 2", "format = 1");
    let ran = run("millgate-edge", &["infer", "--bundle", old.text_path(), "x.png"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("`format`: is 1, this version reads 2"), "{}", ran.stderr);
}
