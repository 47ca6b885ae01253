//! What of a graph tract may be trusted with.
//!
//! tract computes some operators wrongly, without an error, and passes over attributes that it does not know. Each operator
//! that it has was held against ONNX Runtime and the reference of the onnx package (`deploy/bench/node_cases.py`). What
//! was wrong there, and what was not checked, is refused by name, before anyone gets an answer.
//!
//! * [`heeded`]: the operators that were checked, and the attributes that tract takes into account.
//! * [`rules`]: what is wrong with single operators.
//! * [`infinities`]: whether a model holds any.
//! * [`later`]: what can be told only once shapes are known.
//! * [`scope`], [`node`], [`types`]: what is known of values and nodes.

use tract_onnx::pb;

use later::Later;
use node::Node;
use scope::Scope;

mod heeded;
mod infinities;
pub(super) mod later;
mod node;
mod rules;
mod scope;
mod types;

/// Newest operator set that was checked: newer ones may give old operators a new meaning.
const NEWEST_OPSET: i64 = 28;

/// Operators of which tract's versions give a number where they are given NaN.
const DEAF_TO_NAN: [&str; 17] = [
    "Clip",
    "FastGelu",
    "GRU",
    "Gelu",
    "HardSigmoid",
    "LSTM",
    "Max",
    "Min",
    "Mish",
    "QuantizeLinear",
    "QuickGelu",
    "RNN",
    "Relu",
    "Sigmoid",
    "Swish",
    "Tanh",
    "TopK",
];

/// Findings in a graph.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// First thing that cannot be trusted, as a clause; `None` if there is none.
    pub(super) wrong: Option<String>,
    /// Conditions that must hold once shapes are known.
    pub(super) later: Vec<Later>,
    /// Node that makes a number of NaN, in a graph that does not look for NaN itself.
    pub(super) deaf_to_nan: Option<String>,
    /// Node that makes a finite number of an infinite one.
    pub(super) deaf_to_infinity: Option<String>,
}

impl Findings {
    fn refuse(&mut self, node: &Node<'_>, how: &str) {
        let found = || format!("tract computes {} wrongly {how}", node.label());
        self.wrong.get_or_insert_with(found);
    }

    fn unchecked(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

/// Number of nodes, those of nested graphs too.
pub(super) fn nodes(graph: &pb::GraphProto) -> usize {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let inner = attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    graph.node.len() + inner.map(nodes).sum::<usize>()
}

/// Looks at every node, those of nested graphs too.
pub(super) fn findings(proto: &pb::ModelProto) -> Findings {
    let mut found = Findings::default();
    let default = |import: &&pb::OperatorSetIdProto| matches!(import.domain.as_str(), "" | "ai.onnx");
    let opset = proto.opset_import.iter().find(default).map_or(0, |import| import.version);
    if opset > NEWEST_OPSET {
        found.unchecked(format!("tract was never checked with opset {opset}"));
    }
    if let Some(graph) = &proto.graph {
        let own: Vec<(&str, &str)> = proto
            .functions
            .iter()
            .map(|function| {
                (function.domain.as_deref().unwrap_or(""), function.name.as_deref().unwrap_or(""))
            })
            .collect();
        let mut walk = Walk { opset, functions: &own, looks_for_nan: false };
        walk.graph(graph, None, &mut found);
        if walk.looks_for_nan {
            found.deaf_to_nan = None;
        }
        if let Some(node) = found.deaf_to_infinity.clone()
            && infinities::holds_any(graph)
        {
            found.unchecked(format!(
                "tract computes {node} wrongly where all is infinite, and the model holds infinities"
            ));
        }
    }
    found
}

struct Walk<'a> {
    opset: i64,
    /// Domain and name of each function that the model defines itself.
    functions: &'a [(&'a str, &'a str)],
    looks_for_nan: bool,
}

impl Walk<'_> {
    fn graph(&mut self, graph: &pb::GraphProto, around: Option<&Scope<'_>>, found: &mut Findings) {
        let mut scope = Scope::new(graph, around);
        for proto in &graph.node {
            let node = Node { proto, opset: self.opset, scope: &scope };
            let before = found.later.len();
            self.node(&node, found);
            self.looks_for_nan |= proto.op_type == "IsNaN";
            if DEAF_TO_NAN.contains(&proto.op_type.as_str()) {
                found.deaf_to_nan.get_or_insert_with(|| node.label());
            }
            if matches!(proto.op_type.as_str(), "ReduceMax" | "ReduceMin") {
                found.deaf_to_infinity.get_or_insert_with(|| node.label());
            }
            if around.is_some() {
                // Nothing will be known of values in here; what would be odd shapes is left to them.
                let open: Vec<Later> = found.later.drain(before..).collect();
                if let Some(first) = open.iter().find(|later| !later.is_of_shapes()) {
                    found.unchecked(first.unproven());
                }
            }
            for inner in
                proto.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
            {
                self.graph(inner, Some(&scope), found);
            }
            let types = types::outputs(&node);
            scope.learn(proto, &types);
        }
    }

    fn node(&self, node: &Node<'_>, found: &mut Findings) {
        let (domain, operator) = (node.proto.domain.as_str(), node.proto.op_type.as_str());
        // tract goes by the name alone.
        if self.functions.contains(&(domain, operator)) {
            return found
                .unchecked(format!("tract does not read {}, a function of the model's own", node.label()));
        }
        if !matches!(domain, "" | "ai.onnx" | "ai.onnx.ml" | "com.microsoft") {
            return found.unchecked(format!(
                "tract does not tell domains apart, and {} is of `{domain}`",
                node.label()
            ));
        }
        let Some(attributes) = heeded::attributes(operator) else {
            // What tract has not at all it refuses itself, in words that name it.
            if heeded::NEVER_CHECKED.contains(&operator) {
                found.unchecked(format!("tract was never checked with {}", node.label()));
            }
            return;
        };
        let unknown = node.proto.attribute.iter().find(|given| !attributes.contains(&given.name.as_str()));
        if let Some(unknown) = unknown
            && !rules::is_harmless(node, unknown)
        {
            return found.unchecked(format!("tract does not heed `{}` of {}", unknown.name, node.label()));
        }
        rules::look(node, found);
    }
}

#[cfg(test)]
mod tests;
