//! Whether the library multiplies 8-bit numbers rightly on this machine: a product whose result is known tells.
//!
//! On x86-64 without VNNI its kernels add up pairs of such products in 16 bits, and the sum is cut off. For constant
//! weights there is a way around it, which every session takes; for others there is none.

use millgate_shared::engine::graph::Graph;
use ort::editor::{Graph as Drawing, Model, Node, ONNX_DOMAIN, Opset};
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType};

use super::Tuning;
use super::session::options;

/// Rows of the weights, and columns.
const DEPTH: usize = 64;
const WIDTH: usize = 16;
/// The largest that there are: 255 times 127, twice, is more than 16 bits hold.
const LEFT: u8 = 255;
const RIGHT: i8 = 127;
const OPSET: u32 = 17;

/// What may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Products {
    Exact,
    /// Products with constant weights are exact; sums of others are cut off.
    OfConstants,
    /// None at all.
    Wrong,
}

impl Products {
    /// An error for a graph that would be computed wrongly.
    pub(super) fn check(self, graph: &Graph) -> Result<(), String> {
        let why = match (self, &graph.loose_product) {
            (Self::OfConstants, Some(operation)) => {
                format!("{operation} multiplies 8-bit numbers by others that are no constants")
            }
            (Self::Wrong, _) if graph.is_quantised() => "it multiplies 8-bit numbers".to_owned(),
            _ => return Ok(()),
        };
        Err(format!(
            "{why}, which ONNX Runtime does wrongly on this CPU: it has no VNNI, and sums are cut off"
        ))
    }
}

pub(super) fn check(environment: &Environment) -> ort::Result<Products> {
    let expected = DEPTH as i32 * i32::from(LEFT) * i32::from(RIGHT);
    let is_exact = |constant: bool| product(environment, constant).map(|found| found == [expected; WIDTH]);
    Ok(match (is_exact(true)?, is_exact(false)?) {
        (true, true) => Products::Exact,
        (true, false) => Products::OfConstants,
        (false, _) => Products::Wrong,
    })
}

/// One row times the weights, which are `constant` or come with the row.
fn product(environment: &Environment, constant: bool) -> ort::Result<Vec<i32>> {
    let outlet = |name: &str, ty: TensorElementType, shape: [i64; 2]| {
        let (shape, dimension_symbols) = (Shape::new(shape), SymbolicDimensions::empty(2));
        Outlet::new(name, ValueType::Tensor { ty, shape, dimension_symbols })
    };
    let (depth, width) = (DEPTH as i64, WIDTH as i64);
    let row = Tensor::from_array(([1, DEPTH], vec![LEFT; DEPTH]))?;
    // In memory of the library's own, as weights must be.
    let mut weights = Tensor::<i8>::new(&Allocator::default(), [depth, width])?;
    weights.try_extract_tensor_mut::<i8>()?.1.fill(RIGHT);
    let mut drawing = Drawing::new()?;
    let mut inputs = vec![outlet("row", TensorElementType::Uint8, [1, depth])];
    inputs.extend((!constant).then(|| outlet("weights", TensorElementType::Int8, [depth, width])));
    drawing.set_inputs(inputs)?;
    drawing.set_outputs([outlet("product", TensorElementType::Int32, [1, width])])?;
    drawing.add_node(Node::new(
        "MatMulInteger",
        ONNX_DOMAIN,
        "multiply",
        ["row", "weights"],
        ["product"],
        [],
    )?)?;
    let mut values = vec![row.into_dyn()];
    if constant {
        drawing.add_initializer("weights", weights, false)?;
    } else {
        values.push(weights.into_dyn());
    }
    let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
    model.set_graph(drawing)?;
    let mut session = model.into_session(&options(environment, &Tuning::default())?)?;
    let values: Vec<ort::session::SessionInputValue<'_>> = values.into_iter().map(Into::into).collect();
    let outputs = session.run(values.as_slice())?;
    Ok(outputs[0].try_extract_tensor::<i32>()?.1.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_cut_off_is_refused_by_its_operation() {
        let graph = |loose: Option<&str>| Graph {
            operations: ["QLinearConv".to_owned()].into(),
            loose_product: loose.map(str::to_owned),
            ..Graph::default()
        };
        let (loose, fixed) = (graph(Some("QLinearConv")), graph(None));
        assert!(Products::Exact.check(&loose).is_ok() && Products::OfConstants.check(&fixed).is_ok());
        let error = Products::OfConstants.check(&loose).unwrap_err();
        assert!(error.starts_with("QLinearConv multiplies") && error.contains("VNNI"), "{error}");
        assert!(Products::Wrong.check(&fixed).is_err() && Products::Wrong.check(&Graph::default()).is_ok());
    }
}
