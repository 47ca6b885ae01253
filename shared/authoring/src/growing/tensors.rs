//! Golden tensors: what a model makes of some rows of inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use millgate_array::Array;
use millgate_engine::Tract;
use millgate_engine::fixed::{FixedModel, FixedPort};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// Golden tensors of a model.
pub(super) struct Golden {
    pub(super) file: Vec<u8>,
    /// Outputs by row, each by port.
    pub(super) outputs: Vec<Vec<Array>>,
}

/// Runs a model on rows of inputs, each by port.
pub(super) fn golden(model: &[u8], ports: &[FixedPort], rows: &[Vec<Array>]) -> Result<Golden, String> {
    let model = Arc::new(FixedModel::load(&Tract, model, ports).map_err(|error| error.to_string())?);
    let mut session = model.session().map_err(|error| error.to_string())?;
    let outputs = rows.iter().map(|row| session.run(row.clone()).map_err(|error| error.to_string()));
    let outputs = outputs.collect::<Result<Vec<Vec<Array>>, String>>()?;
    let mut tensors = BTreeMap::new();
    let inputs = ports.iter().enumerate().map(|(at, port)| (format!("in.{}", port.name), at, rows));
    let named = model.outputs().iter().enumerate();
    let named = named.map(|(at, port)| (format!("out.{}", port.name), at, &outputs[..]));
    for (name, at, rows) in inputs.chain(named) {
        let of_port: Vec<&Array> = rows.iter().map(|row| &row[at]).collect();
        let joined = Array::join(&of_port).map_err(|error| error.to_string())?;
        tensors.insert(name, (joined.shape().to_vec(), joined.values().to_raw()));
    }
    let views = tensors.iter().map(|(name, (shape, raw))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), raw).map_err(|error| error.to_string())?;
        Ok((name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    let file = safetensors::serialize(views, None).map_err(|error| error.to_string())?;
    Ok(Golden { file, outputs })
}

/// The rows of inputs that golden tensors hold, each by port.
pub(super) fn inputs(file: &[u8], ports: &[FixedPort]) -> Result<Vec<Vec<Array>>, String> {
    let tensors = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
    let mut rows: Vec<Vec<Array>> = Vec::new();
    for port in ports {
        let view = tensors.tensor(&format!("in.{}", port.name)).map_err(|error| error.to_string())?;
        let size = port.shape.iter().product::<usize>().max(1);
        let (values, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        for (at, row) in values.chunks_exact(size).enumerate() {
            let array =
                Array::new(port.shape.clone(), row.to_vec().into()).map_err(|error| error.to_string())?;
            if rows.len() <= at {
                rows.push(Vec::new());
            }
            rows[at].push(array);
        }
    }
    rows.retain(|row| row.len() == ports.len());
    Ok(rows)
}
