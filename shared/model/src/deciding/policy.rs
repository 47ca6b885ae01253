//! What the operator asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::manifest::{Manifest, Task};
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
    /// Regions of one picture that are looked at, of which one is decided on: they share `false_alarms`.
    pub regions: u32,
    /// What to do with which verdict; `None`: what the bundle says.
    pub recipe: Option<Arc<Recipe>>,
}

/// What a request asks for, where it differs from what holds without it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// A name of [`Mode::NAMES`]; empty: none.
    pub mode: String,
    /// 0: none.
    pub risk: f64,
    /// The experts of mode `pinned`.
    pub pinned: Vec<String>,
    /// Products and labels that may be the answer; empty: none are named.
    pub labels: Vec<String>,
    pub false_alarms: Option<f64>,
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
            regions: 1,
            recipe: None,
        }
    }

    /// What a request makes of this.
    pub fn asked(self, wish: Wish) -> Result<Self, PolicyError> {
        let refuse = |field, message| Err(PolicyError { field, message });
        let Wish { mode, risk, pinned, labels, false_alarms } = wish;
        let mode = match &*mode {
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
        let false_alarms = match false_alarms {
            None => self.false_alarms,
            Some(share) if are_false_alarms(share) => Some(share),
            Some(share) => return refuse("false_alarms", format!("{share} is not at least 0 and below 1")),
        };
        let scope = if labels.is_empty() { self.scope } else { Scope::of(labels) };
        Ok(Self { mode, risk, scope, false_alarms, ..self })
    }

    /// Refuses labels that the task does not have.
    pub fn check_scope(&self, task: &Task) -> Result<(), PolicyError> {
        self.scope.check(task).map_err(|error| PolicyError { field: "labels", message: error.to_string() })
    }
}

/// Whether this can be a share of known samples that are called unknown; 0: none is.
pub fn are_false_alarms(share: f64) -> bool {
    (0.0..1.0).contains(&share)
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
            regions: 1,
            recipe: None,
        };
        let asked = |mode: &str, risk: f64, pinned: &[&str]| {
            let pinned = pinned.iter().map(|name| (*name).to_owned()).collect();
            standard.clone().asked(Wish { mode: mode.to_owned(), risk, pinned, ..Wish::default() })
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

    #[test]
    fn labels_and_false_alarms_are_those_of_the_request_where_it_names_them() {
        let manifest = crate::manifest::tests::manifest();
        let scope = Scope::of(["a"]);
        let standard = Policy { scope, false_alarms: Some(0.02), ..Policy::for_bundle(&manifest) };
        let asked = |labels: &[&str], false_alarms| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            standard.clone().asked(Wish { labels, false_alarms, ..Wish::default() })
        };
        assert_eq!(asked(&[], None), Ok(standard.clone()));
        let other = asked(&["b"], Some(0.0)).unwrap();
        assert_eq!((other.scope, other.false_alarms), (Scope::of(["b"]), Some(0.0)));
        for share in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(asked(&[], Some(share)).unwrap_err().field, "false_alarms");
        }
        let task = manifest.task("inspect").unwrap();
        let error = asked(&["nowhere"], None).unwrap().check_scope(task).unwrap_err();
        assert!(error.to_string().starts_with("`labels`: `nowhere` is neither a product"), "{error}");
    }
}
