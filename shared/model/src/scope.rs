//! Which labels may be the answer: what a source is known to look at. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::manifest::{Expert, Task, product_of};

/// Labels that may be the answer; all of the task's unless it was restricted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope {
    /// Labels and products as they were named; `None`: no restriction.
    named: Option<BTreeSet<String>>,
}

/// A restriction that leaves nothing, or names what is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a product nor a label of task `{1}`")]
pub struct ScopeError(pub String, pub String);

impl Scope {
    /// Restricts to these, each a product (`deeppcb`) or a label (`deeppcb/open`); none: no restriction.
    pub fn of<I: IntoIterator<Item = S>, S: Into<String>>(named: I) -> Self {
        let named: BTreeSet<String> = named.into_iter().map(Into::into).collect();
        Self { named: (!named.is_empty()).then_some(named) }
    }

    /// Refuses what the task does not have.
    pub fn check(&self, task: &Task) -> Result<(), ScopeError> {
        for name in self.named.iter().flatten() {
            let is_known = task.labels.iter().any(|label| label == name || product_of(label) == name);
            if !is_known {
                return Err(ScopeError(name.clone(), task.name.clone()));
            }
        }
        Ok(())
    }

    /// Whether nothing was restricted.
    pub fn is_open(&self) -> bool {
        self.named.is_none()
    }

    /// Whether this label may be the answer.
    pub fn allows(&self, label: &str) -> bool {
        let Some(named) = &self.named else { return true };
        named.contains(label) || named.contains(product_of(label))
    }

    /// Whether an expert has any label that may be the answer.
    pub fn allows_expert(&self, expert: &Expert) -> bool {
        self.named.is_none() || expert.labels.iter().any(|label| self.allows(label))
    }

    /// Whether every label of the task may be the answer.
    pub fn is_whole(&self, task: &Task) -> bool {
        task.labels.iter().all(|label| self.allows(label))
    }

    /// The product, if all labels of just one product may be the answer, and no others.
    pub fn product<'a>(&self, task: &'a Task) -> Option<&'a str> {
        let mut allowed = task.labels.iter().filter(|label| self.allows(label));
        let product = product_of(allowed.next()?);
        let is_its = |label: &String| product_of(label) == product;
        let is_whole = task.labels.iter().filter(|label| is_its(label)).all(|label| self.allows(label));
        (allowed.all(is_its) && is_whole).then_some(product)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.named {
            None => write!(f, "all labels"),
            Some(named) => write!(f, "{}", named.iter().cloned().collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        let labels = ["a/x", "a/y", "b/x"].map(str::to_owned).into();
        Task { name: "inspect".to_owned(), k: 1, labels }
    }

    #[test]
    fn a_product_is_all_its_labels() {
        let scope = Scope::of(["a"]);
        assert_eq!(scope.check(&task()), Ok(()));
        assert!(scope.allows("a/x") && scope.allows("a/y") && !scope.allows("b/x"));
        assert_eq!(scope.product(&task()), Some("a"));
        assert_eq!(Scope::of(["a/x", "a/y"]).product(&task()), Some("a"));
    }

    #[test]
    fn part_of_a_product_is_not_the_product() {
        assert_eq!(Scope::of(["a/x"]).product(&task()), None);
        assert_eq!(Scope::of(["a/x", "a/y", "b/x"]).product(&task()), None);
        assert!(Scope::of(["a", "b"]).is_whole(&task()));
    }

    #[test]
    fn no_restriction_allows_everything() {
        let scope = Scope::of(Vec::<String>::new());
        assert_eq!(scope, Scope::default());
        assert!(scope.is_whole(&task()) && scope.allows("c/z"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = Scope::of(["a", "c"]).check(&task()).unwrap_err();
        assert_eq!(error.to_string(), "`c` is neither a product nor a label of task `inspect`");
    }
}
