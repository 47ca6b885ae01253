//! A graph with the weights of each layer in another order: the same network that has learned nothing. What a head reaches
//! on its features is what the shape of the network and the numbers of the weights give by themselves.

use half::f16;
use millgate_engine::pb;
use millgate_engine::pb::tensor_proto::DataType;

use super::tensors::{elements, numbers};

/// Fewer numbers are no layer's weights but a bias, an axis or a bound.
const FEWEST: usize = 32;

/// Gives the model with the weights of each layer permuted among themselves.
pub fn shuffled(model: &pb::ModelProto, seed: u64) -> pb::ModelProto {
    let mut model = model.clone();
    let mut random = fastrand::Rng::with_seed(seed);
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if tensor.dims.len() < 2 || elements(tensor) < FEWEST {
            continue;
        }
        let Some(mut values) = numbers(tensor) else { continue };
        random.shuffle(&mut values);
        tensor.float_data.clear();
        tensor.raw_data = if tensor.data_type == i32::from(DataType::Float16) {
            values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
    }
    model
}
