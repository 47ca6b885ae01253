//! What the operator asked for.

use std::time::Duration;

use crate::manifest::Manifest;

/// Rule that says when the pool is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The pool is asked if the local answer's risk is over the certified threshold.
    Confidence,
    /// The pool is asked whenever the gate chose a cloud expert, in parallel with the local ones.
    Gate,
    /// The pool is asked for every sample.
    Always,
    /// The pool is never asked.
    Never,
    /// These experts are asked and no others; the gate is not run.
    Pinned(Vec<String>),
}

impl Mode {
    pub const NAMES: [&str; 5] = ["confidence", "gate", "always", "never", "pinned"];

    /// Reads a mode by its name; `pinned` are the experts of mode `pinned`. `None` if `name` is not a mode.
    pub fn from_name(name: &str, pinned: Vec<String>) -> Option<Self> {
        match name {
            "confidence" => Some(Self::Confidence),
            "gate" => Some(Self::Gate),
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            "pinned" => Some(Self::Pinned(pinned)),
            _ => None,
        }
    }
}

/// Wishes of the operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    /// Accepted error rate among the samples that stay local.
    pub risk: f64,
    /// Time from the start of a sample to its decision.
    pub deadline: Duration,
    /// Time for which further cloud answers are waited for once enough have come.
    pub grace: Duration,
}

impl Policy {
    /// The bundle's default risk, one second, ten milliseconds of grace.
    pub fn for_bundle(manifest: &Manifest) -> Self {
        Self {
            mode: Mode::Confidence,
            risk: manifest.offload.default_risk,
            deadline: Duration::from_secs(1),
            grace: Duration::from_millis(10),
        }
    }
}
