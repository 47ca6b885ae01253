//! How large a graph's values become, as far as that shows without running it: a file of two kilobytes can ask for
//! terabytes, by shapes that double from node to node or by weights that are only said to be there.
//!
//! Axes that nothing fixes count as 1, and what is not known counts as nothing, so that every number here is a least one
//! and nothing that would fit is refused. What grows only while it runs is not seen: a run has a limit of its own.
//!
//! * [`value`]: what is known of one value. [`rules`]: what an operation makes of its inputs.

use std::collections::HashMap;

use millgate_base::memory;
use tract_onnx::pb;

use crate::error::EngineError;
use rules::{Operation, output};
use value::Value;

mod rules;
mod value;

/// Most bytes of one value.
const LARGEST: u64 = 4 << 30;
/// Most bytes of all constants together; they are there as long as the model is.
const MOST_CONSTANTS: u64 = 16 << 30;
/// Operations that show the elements of their input in another shape.
const VIEWS: [&str; 5] = ["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"];
/// Bytes under which nobody looks at how much memory there is.
const SMALL: u64 = 16 << 20;

/// Refuses a model one of whose values cannot be had, by the name of the node or weight that makes it.
pub(super) fn check(model: &pb::ModelProto) -> Result<(), EngineError> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let mut walk = Walk { constants: 0, available: None };
    walk.graph(graph, None)
}

/// The values that a graph's nodes may name: its own, and those of the graphs around it.
struct Scope<'a> {
    around: Option<&'a Self>,
    values: HashMap<&'a str, Value>,
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.around?.find(name))
    }
}

struct Walk {
    /// Bytes of all constants so far.
    constants: u64,
    /// Memory that was found available when it was first asked for.
    available: Option<u64>,
}

impl Walk {
    fn graph(&mut self, graph: &pb::GraphProto, around: Option<&Scope<'_>>) -> Result<(), EngineError> {
        let mut scope = Scope { around, values: HashMap::new() };
        for input in &graph.input {
            if let Some(value) = Value::declared(input) {
                scope.values.insert(&input.name, value);
            }
        }
        for tensor in &graph.initializer {
            let value = self.tensor(tensor)?;
            scope.values.insert(&tensor.name, value);
        }
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse)?;
        }
        for node in &graph.node {
            self.node(node, &mut scope)?;
        }
        Ok(())
    }

    fn node<'a>(&mut self, node: &'a pb::NodeProto, scope: &mut Scope<'a>) -> Result<(), EngineError> {
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.tensor(tensor)?;
            }
            for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
                self.sparse(sparse)?;
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(inner, Some(scope))?;
            }
        }
        let inputs: Vec<Option<&Value>> = node.input.iter().map(|name| scope.find(name)).collect();
        let Some(value) = output(&Operation { node, inputs: &inputs }) else { return Ok(()) };
        let label = || format!("node `{}` ({})", label(node), node.op_type);
        let given = inputs.iter().flatten().map(|input| input.bytes()).fold(0, u64::saturating_add);
        // What only looks at the same elements otherwise takes no room of its own.
        let is_view = VIEWS.contains(&node.op_type.as_str());
        self.fits(value.bytes(), if is_view { 0 } else { given }, label)?;
        if value.is_constant && node.op_type != "Constant" && !is_view {
            self.keep(value.bytes(), label)?;
        }
        // Where it has several outputs, only the first is known.
        if let Some(name) = node.output.first() {
            scope.values.insert(name, value);
        }
        Ok(())
    }

    /// A weight must hold what its shape says, and is kept.
    fn tensor(&mut self, tensor: &pb::TensorProto) -> Result<Value, EngineError> {
        let value = Value::held(tensor)?;
        self.keep(value.bytes(), || format!("weight `{}`", tensor.name))?;
        Ok(value)
    }

    /// Engines make a whole tensor of a sparse one.
    fn sparse(&mut self, sparse: &pb::SparseTensorProto) -> Result<(), EngineError> {
        let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
        let bytes = value::dense(sparse)?;
        let label = || format!("sparse weight `{name}`");
        self.fits(bytes, 0, label)?;
        self.keep(bytes, label)
    }

    fn fits(&mut self, bytes: u64, given: u64, label: impl Fn() -> String) -> Result<(), EngineError> {
        if bytes <= SMALL {
            return Ok(());
        }
        if bytes > LARGEST {
            return Err(too_large(&label(), bytes, &format!("a value has at most {} MiB", LARGEST >> 20)));
        }
        // What it is made of is there meanwhile.
        self.there_are(bytes.saturating_add(given), &label)
    }

    fn keep(&mut self, bytes: u64, label: impl Fn() -> String) -> Result<(), EngineError> {
        self.constants = self.constants.saturating_add(bytes);
        if bytes <= SMALL && self.constants <= SMALL {
            return Ok(());
        }
        if self.constants > MOST_CONSTANTS {
            let most = format!("a model's constants have at most {} MiB", MOST_CONSTANTS >> 20);
            return Err(too_large(
                &format!("{} and the constants before it", label()),
                self.constants,
                &most,
            ));
        }
        let all = || format!("{} and the constants before it", label());
        self.there_are(self.constants, &all)
    }

    fn there_are(&mut self, bytes: u64, label: &impl Fn() -> String) -> Result<(), EngineError> {
        let available = *self.available.get_or_insert_with(|| memory::available().unwrap_or(u64::MAX));
        if bytes > available {
            return Err(too_large(&label(), bytes, &format!("there are {} MiB", available >> 20)));
        }
        Ok(())
    }
}

fn label(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

fn too_large(label: &str, bytes: u64, bound: &str) -> EngineError {
    let needs = bytes.div_ceil(1 << 20);
    EngineError::Prepare(format!("{label} needs at least {needs} MiB of memory, and {bound}"))
}

#[cfg(test)]
mod tests;
