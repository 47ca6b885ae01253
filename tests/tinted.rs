//! A bundle made here, of any number of channels, whose experts tell red from green by the means of a picture's channels.

use std::fmt::Write;
use std::path::Path;

use millgate_shared::digest::sha256_hex;

use crate::onnx;
use crate::tensors::{Tensor, write};

/// The expert of the device.
pub const EDGE: &str = "tint-s";
/// The expert of the pool.
pub const CLOUD: &str = "tint-l";
/// What the experts answer, in the order of their logits.
pub const LABELS: [&str; 2] = ["tint/red", "tint/green"];
/// Height and width of the experts' input.
const SIDE: usize = 8;

/// A channel's mean and deviation, as the manifest says them.
fn numbers(channel: usize) -> (f32, f32) {
    (0.1 * (channel + 1) as f32, if channel == 0 { 0.5 } else { 0.25 })
}

/// What a channel speaks for: red for the first label, green for the second, the others for none.
fn weights(channels: usize) -> Vec<f32> {
    (0..channels)
        .flat_map(|channel| match channel {
            0 => [4.0, -4.0],
            1 => [-4.0, 4.0],
            _ => [0.0, 0.0],
        })
        .collect()
}

/// Writes the bundle, whose one modality `image` has so many channels, into an empty folder.
pub fn write_bundle(dir: &Path, channels: usize) {
    let mut digests = String::new();
    let mut put = |file: String, bytes: Vec<u8>| {
        let path = dir.join(&file);
        std::fs::create_dir_all(path.parent().expect("it lies in the bundle")).expect("a folder");
        std::fs::write(path, &bytes).expect("a file");
        writeln!(digests, "\"{file}\" = \"sha256:{}\"", sha256_hex(&bytes)).expect("a string takes all");
    };
    let (plane, weights) = (SIDE * SIDE, weights(channels));
    // Two rows: what all values of a channel are is its mean.
    let means: Vec<f32> = (0..2 * channels).map(|at| at as f32 / 4.0 - 1.0).collect();
    let pixels: Vec<f32> = means.iter().flat_map(|mean| vec![*mean; plane]).collect();
    let logits: Vec<f32> = means
        .chunks(channels)
        .flat_map(|row| {
            [0, 1].map(|label| row.iter().enumerate().map(|(at, mean)| mean * weights[2 * at + label]).sum())
        })
        .collect();
    let image = Tensor::new("in.image", &[2, channels, SIDE, SIDE], &pixels);
    let feat = |name| Tensor::new(name, &[2, channels], &means);

    put("image-encoder/1/model.onnx".into(), onnx::channel_means(channels, SIDE, "embedding", None));
    put("golden/image-encoder.safetensors".into(), write(&[image.clone(), feat("out.embedding")]));
    put("gate/1/model.onnx".into(), onnx::fixed_gate(channels, &[1.0, 0.0]));
    let gate = [
        Tensor::new("in.embeddings", &[2, 1, channels], &means),
        Tensor::new("in.presence", &[2, 1], &[1.0, 1.0]),
        Tensor::new("out.scores", &[2, 2], &[1.0, 0.0, 1.0, 0.0]),
    ];
    put("golden/gate.safetensors".into(), write(&gate));
    for expert in [EDGE, CLOUD] {
        let model = onnx::channel_means(channels, SIDE, "feat", Some(&weights));
        put(format!("{expert}/1/model.onnx"), model);
        let outputs = [image.clone(), Tensor::new("out.logits", &[2, 2], &logits), feat("out.feat")];
        put(format!("golden/{expert}.safetensors"), write(&outputs));
    }
    let manifest = manifest(channels) + "\n[digests]\n" + &digests;
    std::fs::write(dir.join("bundle.toml"), manifest).expect("a file");
}

fn manifest(channels: usize) -> String {
    let each =
        |number: fn((f32, f32)) -> f32| (0..channels).map(|at| number(numbers(at))).collect::<Vec<_>>();
    let (mean, std) = (each(|(mean, _)| mean), each(|(_, std)| std));
    let input =
        format!("shape = [{channels}, {SIDE}, {SIDE}]\npreprocess = {{ mean = {mean:?}, std = {std:?} }}\n");
    let expert = |name: &str, tier: &str| {
        format!(
            "[[experts]]\nname = \"{name}\"\ntier = \"{tier}\"\ntasks = [\"inspect\"]\nlabels = {LABELS:?}\n\
             feature_dims = {channels}\ncost = {{ macs = 1 }}\n\
             competence = {{ bias = 1.0, confidence = 1.0, gate = 1.0 }}\n\
             [[experts.inputs]]\nmodality = \"image\"\n{input}\n"
        )
    };
    format!(
        "format = 2\nname = \"tint\"\nversion = \"1.0.0\"\ndescription = \"Tells red from green\"\nlicence = \"MIT\"\n\n\
         [[modalities]]\nname = \"image\"\nkind = \"image\"\nunit = \"level 0-255\"\nchannels = {channels}\n\n\
         [[tasks]]\nname = \"inspect\"\nk = 1\nlabels = {LABELS:?}\n\n\
         [[encoders]]\nname = \"image-encoder\"\nmodality = \"image\"\ndims = {channels}\n{input}cost = {{ macs = 1 }}\n\n\
         [gate]\nname = \"gate\"\ncost = {{ macs = 1 }}\n\n{}{}\
         [combine]\nk_min = 1\ndrop_below = 0.1\nsharpness = 1.0\n\n\
         [offload]\ndefault_risk = 0.02\ndelta = 0.05\n\n\
         [golden]\nrelative_tolerance = 0.001\nabsolute_tolerance = 0.0001\n",
        expert(EDGE, "edge"),
        expert(CLOUD, "cloud"),
    )
}
