//! One node as the rules see it.

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::scope::Scope;

/// A node, with the version of the operators that its model imports and what is known of its inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) proto: &'a pb::NodeProto,
    /// The operator set of the default domain.
    pub(super) opset: i64,
    pub(super) scope: &'a Scope<'a>,
}

impl<'a> Node<'a> {
    /// Name of the node in messages.
    pub(super) fn label(&self) -> String {
        let (operator, name) = (&self.proto.op_type, &self.proto.name);
        if name.is_empty() { format!("`{operator}`") } else { format!("`{operator}` (`{name}`)") }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'a pb::AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// Reads an attribute of one number; `default` where the node does not give it.
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// Reads an attribute of text; one that is not UTF-8 is as good as another value.
    pub(super) fn text(&self, name: &str, default: &'a str) -> &'a str {
        self.attribute(name).map_or(default, |attribute| std::str::from_utf8(&attribute.s).unwrap_or("?"))
    }

    /// Name of an input; `None` where it is left out.
    pub(super) fn input(&self, at: usize) -> Option<&'a str> {
        self.proto.input.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn output(&self, at: usize) -> Option<&'a str> {
        self.proto.output.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn datatype(&self, at: usize) -> Option<DataType> {
        self.scope.datatype(self.input(at)?)
    }

    /// Elements of an input that is a constant of whole numbers; `None` if it is none.
    pub(super) fn integers(&self, at: usize) -> Option<Vec<i64>> {
        self.scope.integers(self.input(at)?)
    }
}
