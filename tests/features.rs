//! A bundle with an expert that takes the shared embedding: the shipped one, with `pcb-solo-l` made anew.

use crate::broken::Copy;
use crate::onnx;
use crate::tensors::{Tensor, write};

/// The expert's name.
pub const EXPERT: &str = "pcb-solo-l";
pub const DIMS: usize = 64;
const LABELS: usize = 7;
/// Golden rows.
const ROWS: usize = 3;

/// What the expert makes of an embedding.
pub fn logits(embedding: &[f32]) -> Vec<f32> {
    let weight = |row: usize, label: usize| onnx::value((row * LABELS + label) as i64);
    let logit = |label| embedding.iter().enumerate().map(|(row, value)| value * weight(row, label)).sum();
    (0..LABELS).map(logit).collect()
}

/// See the module's head.
pub fn bundle() -> Copy {
    let bundle = Copy::new();
    let text = std::fs::read_to_string(bundle.file("bundle.toml")).expect("a manifest");
    let expert = text.find(&format!("name = \"{EXPERT}\"")).expect("the expert");
    let start = expert + text[expert..].find("  [[experts.inputs]]").expect("its inputs");
    let end = start + text[start..].find("[[experts]]").expect("the next expert");
    let features =
        text[expert..].lines().find(|line| line.starts_with("feature_dims")).expect("its features");
    let (inputs, old_expert) = (text[start..end].to_owned(), text[expert..start].to_owned());
    let new_expert = old_expert.replace(features, &format!("feature_dims = {DIMS}"));
    let input = "  [[experts.inputs]]\n  modality = \"image\"\n  kind = \"embedding\"\n  shape = [64]\n\n";
    let whole = old_expert + &inputs;
    bundle
        .manifest(&whole, &(new_expert + input))
        .rebuilt(&format!("{EXPERT}/1/model.onnx"), |bytes| {
            *bytes = onnx::on_embedding(DIMS as i64, LABELS as i64);
        })
        .rebuilt(&format!("golden/{EXPERT}.safetensors"), |bytes| *bytes = golden())
}

/// Golden rows of the expert.
fn golden() -> Vec<u8> {
    let embeddings: Vec<Vec<f32>> =
        (0..ROWS).map(|row| (0..DIMS).map(|at| onnx::value((row * 100 + 7 * at) as i64)).collect()).collect();
    let logits: Vec<Vec<f32>> = embeddings.iter().map(|embedding| logits(embedding)).collect();
    let tensor = |name, width, rows: &[Vec<f32>]| Tensor::new(name, &[ROWS, width], &rows.concat());
    write(&[
        tensor("in.embedding", DIMS, &embeddings),
        tensor("out.logits", LABELS, &logits),
        tensor("out.feat", DIMS, &embeddings),
    ])
}
