//! Inputs and outputs of a model: their names, datatypes and shapes.

use millgate_array::Datatype;

/// One axis of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    Fixed(usize),
    /// Any length, the same wherever the name stands.
    Named(String),
    Any,
}

/// A named input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub datatype: Datatype,
    /// `None` where the file does not say.
    pub shape: Option<Vec<Axis>>,
}

impl Port {
    /// The protocol's shape: -1 where any length goes. An unknown rank gives an empty one.
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
