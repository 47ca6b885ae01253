//! What is lost where ONNX Runtime is not here, and what brings it. Pure.

use std::collections::BTreeSet;

use millgate_shared::engine::graph::ML_DOMAIN;
use millgate_shared::engine::{REMEDY, Signature};

/// What brings it.
pub(crate) const INSTALL: &str = "millgate-cloud engine install onnxruntime-*.whl (docs/serving.md)";
/// What [`REMEDY`] and like sentences begin with.
const REMEDY_BEGINS: &str = "serve it with ONNX Runtime";
/// Operations that it computes so much faster that the library is worth its size.
const GAINING: [&str; 3] = ["Conv", "ConvTranspose", "ConvInteger"];

/// A reason with what helps, unless it says that already.
pub(crate) fn with_remedy(reason: String) -> String {
    if reason.contains(REMEDY_BEGINS) { reason } else { format!("{reason}; {REMEDY}") }
}

/// Models that would be served, or served faster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Missing {
    pub(crate) cannot_be_served: BTreeSet<String>,
    pub(crate) may_gain: BTreeSet<String>,
}

impl Missing {
    /// What is lost of the models that are served, by what their files say, and of those that are not, by the reason.
    pub(crate) fn of<'a>(
        served: impl IntoIterator<Item = (&'a str, &'a Signature)>,
        refused: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let refused = refused.into_iter().filter(|(_, reason)| reason.contains(REMEDY_BEGINS));
        let gaining = served.into_iter().filter(|(_, signature)| gains(signature));
        Self {
            cannot_be_served: refused.map(|(name, _)| name.to_owned()).collect(),
            may_gain: gaining.map(|(name, _)| name.to_owned()).collect(),
        }
    }
}

fn gains(signature: &Signature) -> bool {
    let graph = &signature.graph;
    graph.is_quantised()
        || graph.has_domain(ML_DOMAIN)
        || GAINING.iter().any(|operation| graph.operations.contains(*operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_once_what_helps() {
        let once = with_remedy("no operation `Scaler`".to_owned());
        assert!(
            once.starts_with("no operation `Scaler`; serve it with ONNX Runtime: `millgate-cloud engine")
        );
        assert_eq!(with_remedy(once.clone()), once);
    }

    #[test]
    fn what_is_refused_and_what_would_be_faster_are_told_apart() {
        let with = |operation: &str| {
            let mut signature = Signature::default();
            signature.graph.operations.insert(operation.to_owned());
            signature
        };
        let (conv, dense, forest) = (with("Conv"), with("MatMul"), with("ai.onnx.ml.TreeEnsembleRegressor"));
        let served = [("conv", &conv), ("dense", &dense), ("forest", &forest)];
        let (remedy, broken) = (with_remedy("no `Scaler`".to_owned()), "no model");
        let missing = Missing::of(served, [("scaler", remedy.as_str()), ("broken", broken)]);
        assert_eq!(missing.may_gain, ["conv", "forest"].map(str::to_owned).into());
        assert_eq!(missing.cannot_be_served, ["scaler".to_owned()].into());
    }
}
