//! Inputs and outputs of a model: their names, datatypes and shapes.

use millgate_array::Datatype;

/// Axis of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    Fixed(usize),
    /// Axis of any length, which is the same wherever the name stands in one request.
    Named(String),
    Any,
}

/// Named input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub datatype: Datatype,
    /// Shape; `None` where the file does not say.
    pub shape: Option<Vec<Axis>>,
}

impl Port {
    /// Shape as the protocol writes it: -1 for an axis of any length. A port of unknown rank gives an empty one.
    pub fn wire_shape(&self) -> Vec<i64> {
        let length = |axis: &Axis| match axis {
            Axis::Fixed(length) => i64::try_from(*length).unwrap_or(i64::MAX),
            Axis::Named(_) | Axis::Any => -1,
        };
        self.shape.iter().flatten().map(length).collect()
    }

    pub(crate) fn starts_free(&self) -> bool {
        let first = self.shape.as_ref().and_then(|shape| shape.first());
        first.is_some_and(|axis| !matches!(axis, Axis::Fixed(_)))
    }
}
