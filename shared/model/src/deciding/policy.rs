//! What the operator asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::manifest::Manifest;
use crate::recipe::Recipe;
use crate::scope::Scope;

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
    /// Labels that may be the answer.
    pub scope: Scope,
    /// Share of known samples that may be called unknown; 0: none is; `None`: what the bundle says.
    pub false_alarms: Option<f64>,
    /// What to do with which verdict; `None`: what the bundle says.
    pub recipe: Option<Arc<Recipe>>,
}

/// What a request asks for makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {message}")]
pub struct PolicyError {
    /// The request's.
    pub field: &'static str,
    pub message: String,
}

impl Policy {
    /// The bundle's default risk, one second, ten milliseconds of grace.
    pub fn for_bundle(manifest: &Manifest) -> Self {
        Self {
            mode: Mode::Confidence,
            risk: manifest.offload.default_risk,
            deadline: Duration::from_secs(1),
            grace: Duration::from_millis(10),
            scope: Scope::default(),
            false_alarms: None,
            recipe: None,
        }
    }

    /// What a request makes of this: its mode unless that is empty, its accepted risk unless that is 0. `pinned` are the
    /// experts of mode `pinned`.
    pub fn asked(self, mode: &str, risk: f64, pinned: Vec<String>) -> Result<Self, PolicyError> {
        let refuse = |field, message| Err(PolicyError { field, message });
        let mode = match mode {
            "" => self.mode,
            name => match Mode::from_name(name, pinned) {
                Some(Mode::Pinned(names)) if names.is_empty() => {
                    return refuse("pinned", "must name the experts of mode `pinned`".to_owned());
                }
                Some(mode) => mode,
                None => {
                    return refuse("mode", format!("`{name}` is none of {}", Mode::NAMES.join(", ")));
                }
            },
        };
        let risk = match risk {
            0.0 => self.risk,
            risk if risk > 0.0 && risk < 1.0 => risk,
            risk => return refuse("risk", format!("{risk} is not above 0 and below 1")),
        };
        Ok(Self { mode, risk, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_changes_what_it_names_and_nothing_else() {
        let standard = Policy {
            mode: Mode::Gate,
            risk: 0.02,
            deadline: Duration::from_secs(1),
            grace: Duration::from_millis(10),
            scope: Scope::default(),
            false_alarms: None,
            recipe: None,
        };
        let asked = |mode: &str, risk: f64, pinned: &[&str]| {
            let pinned = pinned.iter().map(|name| (*name).to_owned()).collect();
            standard.clone().asked(mode, risk, pinned)
        };
        assert_eq!(asked("", 0.0, &[]), Ok(standard.clone()));
        assert_eq!(
            asked("never", 0.05, &["x"]),
            Ok(Policy { mode: Mode::Never, risk: 0.05, ..standard.clone() })
        );
        assert_eq!(asked("pinned", 0.0, &["x"]).unwrap().mode, Mode::Pinned(vec!["x".to_owned()]));
        let field = |mode, risk, pinned| asked(mode, risk, pinned).unwrap_err().field;
        assert_eq!(field("sometimes", 0.0, &[]), "mode");
        assert_eq!(field("pinned", 0.0, &[]), "pinned");
        for risk in [1.0, 7.0, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(field("", risk, &[]), "risk");
        }
    }
}
