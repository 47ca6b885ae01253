use std::sync::Arc;

use millgate_shared::array::Array;
use millgate_shared::bundle::Bundle;
use millgate_shared::index::Ix;
use millgate_shared::inputs::expert_inputs;
use millgate_shared::part::{FILE, Limits};
use millgate_shared::runner::{Holding, Models};
use millgate_shared::sample;
use millgate_shared::wire::{Numbers, read_parts, read_tensor};

use super::*;
use crate::uplink::upload::SendConfig;

const EXPERT: &str = r#"
[[experts]]
name = "any-f"
tier = "cloud"
tasks = ["inspect"]
labels = ["bsdata/clean", "bsdata/pitting"]
feature_dims = 4
cost = { macs = 1000 }
competence = { bias = 0.0, confidence = 1.0, gate = 0.0 }
inputs = [{ modality = "image", kind = "embedding", shape = [64] }]

[combine]"#;

/// The shipped one, with an expert that takes the embedding.
fn manifest() -> Manifest {
    let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
    let text = text.replacen("\n[combine]", EXPERT, 1);
    let zeros = "0".repeat(64);
    let digests = ["any-f/1/model.onnx", "golden/any-f.safetensors"];
    let digests = digests.map(|file| format!("\"{file}\" = \"sha256:{zeros}\"\n")).concat();
    Manifest::parse(&text.replacen("[digests]\n", &format!("[digests]\n{digests}"), 1)).unwrap()
}

/// The modality `image`.
fn main() -> ModalityIx {
    ModalityIx::new(0)
}

struct Recorded {
    manifest: Manifest,
    sample: Sample,
    embeddings: Embeddings,
}

/// A board and its template as the agent has them after the gate.
fn recorded() -> Recorded {
    let manifest = manifest();
    let file = |name: &str| std::fs::read(format!("../models/factory/golden/{name}")).unwrap();
    let files = vec![file("steel-red-iron.png"), file("pcb-open.template.png")];
    of(manifest, files)
}

fn of(manifest: Manifest, files: Vec<Vec<u8>>) -> Recorded {
    let parts: Vec<Part> =
        manifest.modalities.iter().zip(files).map(|(spec, file)| Part::file(&spec.name, file)).collect();
    let sample = read(&manifest, parts);
    let bundle = Bundle::open(std::path::Path::new("../models/factory")).unwrap();
    let models = Arc::new(Models::load(&bundle, Holding::Edge, crate::engines::usual()).unwrap());
    let embeddings = models.runner().unwrap().embeddings(&sample).unwrap();
    Recorded { manifest, sample, embeddings }
}

fn read(manifest: &Manifest, parts: Vec<Part>) -> Sample {
    sample::read(&manifest.modalities, &parts, &Limits::default()).unwrap().sample
}

/// The file of the picture.
fn original(recorded: &Recorded) -> &[u8] {
    recorded.sample.value(main()).unwrap().original().unwrap()
}

fn policy(manifest: &Manifest, image: Form, template: Form, datatype: Numbers) -> UploadPolicy {
    let modality = [("image".to_owned(), image.into()), ("template".to_owned(), template.into())].into();
    UploadPolicy::new(&SendConfig { modality, datatype, ..SendConfig::default() }, manifest).unwrap()
}

impl Recorded {
    fn payload(&self, policy: &UploadPolicy, expert: &str) -> Option<Payload> {
        let Self { manifest, sample, embeddings } = self;
        let expert = manifest.expert_index(expert)?;
        Screened::new(manifest, policy, sample, embeddings).payload(expert)
    }
}

fn encoded(payload: &Payload) -> Vec<u8> {
    let parts = payload.parts.iter().flat_map(|part| part.data.iter());
    parts.chain(payload.tensors.iter().flat_map(|tensor| tensor.data.iter())).copied().collect()
}

/// Whether any eight bytes of `secret` stand in `wire`. Eight equal ones say nothing.
fn leaks(secret: &[u8], wire: &[u8]) -> bool {
    let told: std::collections::HashSet<&[u8]> = wire.windows(8).collect();
    let says_something = |window: &&[u8]| window.iter().any(|byte| *byte != window[0]);
    secret.windows(8).filter(says_something).any(|window| told.contains(window))
}

#[test]
fn under_features_there_is_nothing_of_the_picture_to_send() {
    let recorded = recorded();
    let manifest = &recorded.manifest;
    for numbers in Numbers::ALL {
        for template in Form::ALL {
            let policy = policy(manifest, Form::Features, template, numbers);
            for (index, expert) in manifest.experts.pairs() {
                let payload = recorded.payload(&policy, &expert.name);
                assert_eq!(payload.is_some(), policy.withheld(manifest, index).is_none(), "{}", expert.name);
                let Some(payload) = payload else { continue };
                assert!(payload.parts.iter().all(|part| part.modality != "image"));
                let wire = encoded(&payload);
                assert!(!leaks(original(&recorded), &wire));
                assert!(!leaks(&recorded.sample.value(main()).unwrap().array().values().to_raw(), &wire));
            }
        }
    }
    let open = policy(manifest, Form::Raw, Form::Raw, Numbers::Fp32);
    let payload = recorded.payload(&open, "any-f").unwrap();
    assert!(leaks(original(&recorded), &encoded(&payload)), "the test can tell");
}

#[test]
fn an_expert_is_sent_what_it_takes_and_no_more() {
    let recorded = recorded();
    let raw = policy(&recorded.manifest, Form::Raw, Form::Raw, Numbers::Fp32);
    let names = |expert: &str| -> Vec<String> {
        let payload = recorded.payload(&raw, expert).unwrap();
        assert!(payload.tensors.is_empty());
        payload.parts.into_iter().map(|part| part.modality).collect()
    };
    assert_eq!(names("pcb-l"), ["template", "image"]);
    assert_eq!(names("steel-l"), ["image"]);
    assert_eq!(names("any-f"), ["image"]);
}

#[test]
fn a_mixed_policy_is_kept_for_each_modality() {
    let recorded = recorded();
    let mixed = policy(&recorded.manifest, Form::Tensor, Form::Raw, Numbers::Int8);
    let payload = recorded.payload(&mixed, "pcb-l").unwrap();
    assert_eq!((payload.parts.len(), payload.tensors.len()), (1, 1));
    assert_eq!((&*payload.parts[0].modality, &*payload.tensors[0].name), ("template", "image"));
    // A picture that goes up alone is not written against one that stays.
    let kept = policy(&recorded.manifest, Form::Raw, Form::Tensor, Numbers::Int8);
    let payload = recorded.payload(&kept, "pcb-l").unwrap();
    assert_ne!(payload.parts[0].codec, "bwr");
    let features = policy(&recorded.manifest, Form::Tensor, Form::Raw, Numbers::Fp32);
    let payload = recorded.payload(&features, "any-f").unwrap();
    assert_eq!(payload.tensors[0].name, "embedding");
    assert!(payload.parts.is_empty());
}

#[test]
fn what_is_sent_as_tensors_is_what_the_expert_would_have_made() {
    let recorded = recorded();
    let manifest = &recorded.manifest;
    for (numbers, off) in [(Numbers::Fp32, 0.0), (Numbers::Fp16, 0.001), (Numbers::Int8, 2e-6)] {
        let policy = policy(manifest, Form::Tensor, Form::Tensor, numbers);
        for expert in ["pcb-l", "steel-l"] {
            let payload = recorded.payload(&policy, expert).unwrap();
            let index = manifest.expert_index(expert).unwrap();
            let wanted: Vec<Array> =
                expert_inputs(manifest, index, &recorded.sample, &recorded.embeddings).unwrap();
            for ((wire, wanted), input) in
                payload.tensors.iter().zip(&wanted).zip(&manifest.experts[index].inputs)
            {
                assert_eq!(wire.name, input.name);
                let got = read_tensor("t", wire, wanted.shape()).unwrap();
                for (got, wanted) in got.as_fp32().unwrap().iter().zip(wanted.as_fp32().unwrap()) {
                    assert!((got - wanted).abs() <= off, "{numbers:?} {got} {wanted}");
                }
            }
        }
    }
}

#[test]
fn a_jpeg_and_a_png_go_up_byte_for_byte() {
    let dir = "../deploy/demo/samples/";
    let list = std::fs::read_to_string(format!("{dir}labels.jsonl")).unwrap();
    let path = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        entry["path"].as_str().unwrap().to_owned()
    };
    let (mut jpegs, mut pngs, mut passed) = (0, 0, 0);
    let bundle = Bundle::open(std::path::Path::new("../models/factory")).unwrap();
    let manifest = bundle.manifest();
    let spec = &manifest.modalities[main()];
    for path in list.lines().map(path) {
        let file = std::fs::read(format!("{dir}{path}")).unwrap();
        let value = read(manifest, vec![Part::file("image", file.clone())]).value(main()).unwrap().clone();
        let part = spec.modality().encode(spec, &value, None, Effort::Full).unwrap();
        let is_jpeg = file.starts_with(b"\xff\xd8\xff");
        *(if is_jpeg { &mut jpegs } else { &mut pngs }) += 1;
        if part.codec == FILE && part.bytes == file {
            passed += 1;
        } else {
            assert!(part.bytes.len() < file.len(), "{path}: replaced by what is not smaller");
            let back = read(manifest, vec![part]);
            assert_eq!(back.value(main()).unwrap().array(), value.array(), "{path}");
        }
    }
    println!("{jpegs} JPEG, {pngs} other; {passed} as they were");
    assert!(passed > 0);
}

/// What the pool makes of a payload for an expert of pixels.
fn at_the_pool(manifest: &Manifest, expert: &str, payload: &Payload) -> Vec<Array> {
    let sample = read(manifest, read_parts("i", payload.parts.clone()).unwrap());
    let index = manifest.expert_index(expert).unwrap();
    expert_inputs(manifest, index, &sample, &Embeddings::default()).unwrap()
}

/// A PNG of a picture, enlarged.
fn enlarged(file: &[u8], side: u32) -> Vec<u8> {
    let picture = image::load_from_memory(file).unwrap();
    let large = picture.resize_exact(side, side, image::imageops::FilterType::Triangle);
    let mut png = Vec::new();
    large.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    png
}

fn auto(manifest: &Manifest) -> UploadPolicy {
    UploadPolicy::new(&SendConfig::default(), manifest).unwrap()
}

#[test]
fn by_default_a_large_picture_goes_up_in_the_size_that_the_expert_takes() {
    let steel = std::fs::read("../models/factory/golden/steel-red-iron.png").unwrap();
    let board = std::fs::read("../models/factory/golden/pcb-open.template.png").unwrap();
    let recorded = of(manifest(), vec![enlarged(&steel, 2000), enlarged(&board, 300)]);
    let manifest = &recorded.manifest;
    let auto = auto(manifest);
    let raw = policy(manifest, Form::Raw, Form::Raw, Numbers::Fp32);
    for expert in ["steel-l", "pcb-l"] {
        let (small, large) =
            (recorded.payload(&auto, expert).unwrap(), recorded.payload(&raw, expert).unwrap());
        let (bytes, before) = (encoded(&small).len(), encoded(&large).len());
        assert!(bytes < 20_000 && 5 * bytes < before, "{expert}: {bytes} of {before} bytes");
        let index = manifest.expert_index(expert).unwrap();
        let wanted = expert_inputs(manifest, index, &recorded.sample, &recorded.embeddings).unwrap();
        assert_eq!(at_the_pool(manifest, expert, &small), wanted, "{expert}: not a bit is different");
        assert_eq!(at_the_pool(manifest, expert, &large), wanted, "{expert}");
        assert!(auto.clear(manifest, request(&small)).is_ok());
    }
}

fn request(payload: &Payload) -> v1::RunExpertsRequest {
    let Payload { parts, tensors } = payload.clone();
    v1::RunExpertsRequest { parts, tensors, ..Default::default() }
}

#[test]
fn by_default_what_is_smaller_as_it_is_stays_as_it_is() {
    let recorded = recorded();
    let raw = policy(&recorded.manifest, Form::Raw, Form::Raw, Numbers::Fp32);
    // The pictures have the size that these experts take.
    for expert in ["steel-l", "pcb-l"] {
        let index = recorded.manifest.expert_index(expert).unwrap();
        let takes = |input: &ExpertInput| {
            let modality = recorded.manifest.modality_index(&input.modality).unwrap();
            let value = recorded.sample.value(modality).unwrap();
            value.array().shape()[..2] == input.shape[1..]
        };
        if recorded.manifest.experts[index].inputs.iter().all(takes) {
            let auto = recorded.payload(&auto(&recorded.manifest), expert);
            assert_eq!(auto, recorded.payload(&raw, expert), "{expert}");
        }
    }
    // A large picture with little in it.
    let (width, height) = (900, 700);
    let mut pixels = vec![0; width * height];
    pixels[100_000..100_050].fill(255);
    let mut file = Vec::new();
    let blank = image::GrayImage::from_raw(width as u32, height as u32, pixels).unwrap();
    blank.write_to(&mut std::io::Cursor::new(&mut file), image::ImageFormat::Png).unwrap();
    let sparse = of(manifest(), vec![file.clone(), file]);
    let payload = sparse.payload(&auto(&sparse.manifest), "steel-l").unwrap();
    assert_eq!(payload.parts[0].shape, [700, 900]);
    assert!(encoded(&payload).len() < 100, "{} bytes", encoded(&payload).len());
}

#[test]
fn by_default_who_takes_the_embedding_is_sent_that_and_exactly() {
    let recorded = recorded();
    let send = SendConfig { datatype: Numbers::Int8, ..SendConfig::default() };
    let auto = UploadPolicy::new(&send, &recorded.manifest).unwrap();
    let payload = recorded.payload(&auto, "any-f").unwrap();
    assert!(payload.parts.is_empty());
    let sent = read_tensor("t", &payload.tensors[0], &[1, 64]).unwrap();
    let known = recorded.embeddings.of(&recorded.manifest, "image").unwrap();
    assert_eq!(sent, *known.array());
    // Without one at hand the pool makes it of the picture.
    let without = Recorded { embeddings: Embeddings::default(), ..recorded };
    let payload = without.payload(&auto, "any-f").unwrap();
    assert_eq!((payload.parts.len(), payload.tensors.len()), (1, 0));
}

#[test]
fn a_picture_that_its_file_does_not_give_goes_up_as_it_was_read() {
    let steel = std::fs::read("../models/factory/golden/steel-red-iron.png").unwrap();
    let recorded = of(manifest(), vec![steel.clone(), steel]);
    // As the agent has a 12-bit picture: read, and without its file.
    let unread = Recorded { sample: recorded.sample.without_originals(), ..recorded };
    let raw = policy(&unread.manifest, Form::Raw, Form::Raw, Numbers::Fp32);
    for policy in [auto(&unread.manifest), raw] {
        let payload = unread.payload(&policy, "steel-l").unwrap();
        let parts = read_parts("i", payload.parts).unwrap();
        let read = sample::read(&unread.manifest.modalities, &parts, &Limits::default()).unwrap();
        let value = |sample: &Sample| sample.value(main()).unwrap().array().clone();
        assert_eq!(value(&read.sample), value(&unread.sample));
        assert!(read.notes.is_empty(), "the pool need not assume anything");
    }
}
