//! Graphs that are written load in the engine and compute what they should.

use std::sync::Arc;

use millgate_array::Array;
use millgate_engine::Tract;
use millgate_engine::fixed::{FixedModel, FixedPort};

use super::*;

/// Runs a file on one sample; inputs and their shapes with the first axis.
pub(crate) fn run(file: &[u8], inputs: &[(&str, &[usize], Vec<f32>)]) -> Vec<(String, Vec<f32>)> {
    let ports =
        inputs.iter().map(|(name, shape, _)| FixedPort { name: (*name).into(), shape: shape.to_vec() });
    let model = Arc::new(FixedModel::load(&Tract, file, &ports.collect::<Vec<_>>()).unwrap());
    let arrays =
        inputs.iter().map(|(_, shape, values)| Array::new(shape.to_vec(), values.clone().into()).unwrap());
    let outputs = model.session().unwrap().run(arrays.collect()).unwrap();
    let names = model.outputs().iter().map(|port| port.name.clone());
    names.zip(outputs.iter().map(|output| output.as_fp32().unwrap().to_vec())).collect()
}

/// A small convolutional network with the outputs of a backbone: `stage3` of 6 channels at an eighth, `stage5` of 8 at a
/// sixteenth of the size.
pub(crate) fn backbone(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut graph = GraphBuilder::new("backbone");
    let image = graph.free_input("image", 1);
    let mut value = image;
    let mut channels = 1;
    let mut stage3 = None;
    for (at, out) in [8usize, 8, 6, 8].into_iter().enumerate() {
        let spread = (2.0 / (9.0 * channels as f32)).sqrt();
        let weights: Vec<f32> =
            (0..out * channels * 9).map(|_| (random.f32() - 0.5) * 3.4 * spread).collect();
        let weight = graph.half(&[out, channels, 3, 3], &weights);
        let bias = graph.float(&[out], &vec![0.05; out]);
        let filtered = graph.conv(&value, &weight, &bias, 3, 2);
        value = graph.relu(&filtered);
        channels = out;
        if at == 2 {
            stage3 = Some(value.clone());
        }
    }
    graph.free_output(&stage3.unwrap(), "stage3", 6);
    graph.free_output(&value, "stage5", 8);
    graph.finish()
}

#[test]
fn every_operation_computes_what_it_says() {
    let mut graph = GraphBuilder::new("all");
    let x = graph.input("x", &[2, 2, 2]);
    let weight = graph.half(&[1, 2, 1, 1], &[1.0, -1.0]);
    let bias = graph.float(&[1], &[0.5]);
    let mixed = graph.conv_1x1(&x, &weight, Some(&bias));
    let enlarged = graph.enlarge(&mixed, 2);
    graph.output(&enlarged, "enlarged", &[1, 4, 4]);
    let (mean, max) = (graph.mean(&x), graph.max(&x));
    let both = graph.concat(&[&mean, &max]);
    graph.output(&both, "both", &[4]);
    let (sum, min) = (graph.sum_channels(&x), graph.min_channels(&x));
    let difference = graph.sub(&sum, &min);
    let difference = graph.abs(&difference);
    let flat = graph.flat(&difference);
    graph.output(&flat, "flat", &[4]);
    let smooth = graph.average_3x3(&x);
    let smooth = graph.flat(&smooth);
    graph.output(&smooth, "smooth", &[8]);
    let square = graph.mul(&both, &both);
    let root = graph.sqrt(&square);
    let matrix = graph.float(&[4, 1], &[1.0, 1.0, 1.0, 1.0]);
    let summed = graph.gemm(&root, &matrix, &bias);
    let negative = graph.neg(&summed);
    let doubled = graph.add(&negative, &negative);
    graph.output(&doubled, "doubled", &[1]);

    let values = vec![1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
    let outputs = run(&graph.finish(), &[("x", &[1, 2, 2, 2], values)]);
    let named = |name: &str| &outputs.iter().find(|(known, _)| known == name).unwrap().1;
    let row = [-8.5, -8.5, -17.5, -17.5];
    let rows = [-26.5, -26.5, -35.5, -35.5];
    assert_eq!(named("enlarged").as_slice(), [row, row, rows, rows].concat());
    assert_eq!(named("both").as_slice(), [2.5, 25.0, 4.0, 40.0]);
    assert_eq!(named("flat").as_slice(), [10.0, 20.0, 30.0, 40.0]);
    assert_eq!(named("smooth").as_slice(), [2.5, 2.5, 2.5, 2.5, 25.0, 25.0, 25.0, 25.0]);
    assert_eq!(named("doubled").as_slice(), [-144.0]);
}

#[test]
fn a_model_is_taken_in_twice_and_stored_once() {
    let file = backbone(1);
    let model = read(&file).unwrap();
    let mut graph = GraphBuilder::in_opset("twice", opset(&model));
    let (a, b) = (graph.input("a", &[1, 32, 32]), graph.input("b", &[1, 32, 32]));
    let first = graph.include(&model, &[("image", &a)], None).unwrap();
    let second = graph.include(&model, &[("image", &b)], Some(&first)).unwrap();
    let difference = graph.sub(first.value("stage3").unwrap(), second.value("stage3").unwrap());
    let difference = graph.flat(&difference);
    graph.output(&difference, "difference", &[6 * 4 * 4]);
    let twice = graph.finish();
    assert!(twice.len() < file.len() * 2, "{} of {}", twice.len(), file.len());

    let picture = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..32 * 32).map(|_| random.f32()).collect::<Vec<f32>>()
    };
    let alone = |values: Vec<f32>| run(&file, &[("image", &[1, 1, 32, 32], values)])[0].1.clone();
    let shape = &[1, 1, 32, 32][..];
    let together = run(&twice, &[("a", shape, picture(1)), ("b", shape, picture(2))])[0].1.clone();
    for (got, (a, b)) in together.iter().zip(alone(picture(1)).iter().zip(&alone(picture(2)))) {
        assert!((got - (a - b)).abs() < 1e-5, "{got} {a} {b}");
    }
}

#[test]
fn what_is_shuffled_has_the_same_numbers_elsewhere() {
    let model = read(&backbone(1)).unwrap();
    let other = shuffled(&model, 7);
    let weights = |model: &pb::ModelProto| -> Vec<Vec<f32>> {
        model.graph.as_ref().unwrap().initializer.iter().filter_map(numbers).collect()
    };
    let (before, after) = (weights(&model), weights(&other));
    assert_ne!(before, after);
    for (mut before, mut after) in before.into_iter().zip(after) {
        before.sort_by(f32::total_cmp);
        after.sort_by(f32::total_cmp);
        assert_eq!(before, after);
    }
    assert_eq!(shuffled(&model, 7), other, "the same seed gives the same order");
}

#[test]
fn multiplications_are_counted() {
    let model = read(&backbone(1)).unwrap();
    let expected = 8 * 9 * 16 * 16 + 8 * 8 * 9 * 8 * 8 + 6 * 8 * 9 * 4 * 4 + 8 * 6 * 9 * 2 * 2;
    assert_eq!(macs(&model, 32), expected);
    let mut graph = GraphBuilder::new("head");
    let x = graph.input("x", &[10]);
    let (weight, bias) = (graph.half(&[10, 3], &[0.0; 30]), graph.float(&[3], &[0.0; 3]));
    let y = graph.gemm(&x, &weight, &bias);
    graph.output(&y, "y", &[3]);
    assert_eq!(macs(&read(&graph.finish()).unwrap(), 1), 30);
}

#[test]
fn what_cannot_be_taken_in_is_refused() {
    assert!(matches!(read(b"no model"), Err(OnnxError::Unreadable(_))));
    let model = read(&backbone(1)).unwrap();
    let mut other = GraphBuilder::in_opset("other", 13);
    let x = other.input("x", &[1, 32, 32]);
    let error = other.include(&model, &[("image", &x)], None).unwrap_err().to_string();
    assert_eq!(error, "is written in opset 17, the graph that takes it in in 13");
    let mut same = GraphBuilder::new("same");
    let x = same.input("x", &[1, 32, 32]);
    let error = same.include(&model, &[("picture", &x)], None).unwrap_err().to_string();
    assert_eq!(error, "has an input `image` that is bound to nothing");
}
