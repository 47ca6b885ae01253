//! What a graph costs: multiply-accumulates of one sample.

use std::collections::HashMap;

use millgate_engine::pb;

use super::tensors::{elements, numbers};

/// Multiply-accumulates of one sample by the operations that have nearly all of them: convolutions and products of matrices.
/// `size` is the height and width of every picture that goes in.
pub fn macs(model: &pb::ModelProto, size: usize) -> u64 {
    let Some(graph) = &model.graph else { return 0 };
    let weights: HashMap<&str, &pb::TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    // A weight in FP16 stands behind a cast.
    let casts: HashMap<&str, &str> = (graph.node.iter().filter(|node| node.op_type == "Cast"))
        .filter_map(|node| Some((node.output.first()?.as_str(), node.input.first()?.as_str())))
        .collect();
    let weight = |name: &str| weights.get(name).or_else(|| weights.get(casts.get(name)?)).copied();
    let mut sizes: HashMap<&str, (usize, usize)> =
        graph.input.iter().map(|input| (input.name.as_str(), (size, size))).collect();
    let mut total = 0;
    for node in &graph.node {
        let of_input = node.input.iter().find_map(|input| sizes.get(input.as_str()).copied());
        let (height, width) = of_input.unwrap_or((1, 1));
        let kernel = node.input.get(1).and_then(|name| weight(name));
        let after = match node.op_type.as_str() {
            "Conv" => {
                let after = (after(node, 0, height, kernel), after(node, 1, width, kernel));
                total += kernel.map_or(0, elements) * after.0 * after.1;
                after
            }
            "Gemm" | "MatMul" => {
                total += kernel.map_or(0, elements);
                (1, 1)
            }
            "GlobalAveragePool" | "GlobalMaxPool" | "Flatten" => (1, 1),
            "Resize" => {
                let scales = node.input.get(2).and_then(|name| weight(name)).and_then(numbers);
                let times = |axis: usize| {
                    scales.as_ref().and_then(|all| all.get(axis)).map_or(1, |times| *times as usize)
                };
                (height * times(2), width * times(3))
            }
            _ => (height, width),
        };
        for output in &node.output {
            sizes.insert(output, after);
        }
    }
    total as u64
}

/// Length of an axis behind a convolution.
fn after(node: &pb::NodeProto, axis: usize, length: usize, kernel: Option<&pb::TensorProto>) -> usize {
    let ints = |name: &str, at: usize| -> Option<usize> {
        let attribute = node.attribute.iter().find(|attribute| attribute.name == name)?;
        usize::try_from(*attribute.ints.get(at)?).ok()
    };
    let stride = ints("strides", axis).unwrap_or(1).max(1);
    let of_weight = || kernel.and_then(|kernel| usize::try_from(*kernel.dims.get(axis + 2)?).ok());
    let kernel = ints("kernel_shape", axis).or_else(of_weight).unwrap_or(1);
    let pads = ints("pads", axis).unwrap_or(0) + ints("pads", axis + 2).unwrap_or(0);
    (length + pads).saturating_sub(kernel) / stride + 1
}
