//! What the operator makes of a verdict: accept, reject or review. Pure.
//!
//! A label has a disposition of its own. Where the operator says what a mistake costs, the disposition with the least
//! expected cost is taken instead, which moves the threshold: a part that is good with probability 0.9 is rejected where an
//! escape costs ten times what a false reject does (C. K. Chow, "On optimum recognition error and reject tradeoff", 1970).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is done with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// The part is good.
    Accept,
    /// The part is not good.
    Reject,
    /// A person decides.
    Review,
}

impl Disposition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Review => "review",
        }
    }
}

/// What mistakes cost, in any one unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// A part that should be rejected is accepted.
    pub escape: f64,
    /// A part that should be accepted is rejected.
    pub false_reject: f64,
    /// A person looks at a part; without it nothing is reviewed for its cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<f64>,
}

/// What to do with which verdict.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Disposition by label; a label that is not here is for review.
    pub labels: BTreeMap<String, Disposition>,
    pub costs: Option<Costs>,
}

impl Recipe {
    /// Without a recipe there is no disposition at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// This one, and another in what it does not name.
    pub fn over(&self, mut other: Self) -> Self {
        other.labels.extend(self.labels.iter().map(|(label, disposition)| (label.clone(), *disposition)));
        Self { costs: self.costs.or(other.costs), ..other }
    }

    /// The disposition of one label.
    pub fn of_label(&self, label: &str) -> Disposition {
        self.labels.get(label).copied().unwrap_or(Disposition::Review)
    }

    /// What to do with a part of which the labels have these probabilities, the verdict being the likeliest of them. Equal
    /// costs go to the safer disposition: reject before review before accept.
    pub fn dispose<'a>(
        &self,
        verdict: &str,
        probabilities: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Disposition {
        let of_verdict = self.of_label(verdict);
        let (Some(costs), true) = (self.costs, of_verdict != Disposition::Review) else { return of_verdict };
        let (mut good, mut bad) = (0.0, 0.0);
        for (label, probability) in probabilities {
            match self.of_label(label) {
                Disposition::Accept => good += probability,
                Disposition::Reject => bad += probability,
                Disposition::Review => {}
            }
        }
        let reject = (good * costs.false_reject, Disposition::Reject);
        let review = costs.review.map(|cost| (cost, Disposition::Review));
        let accept = (bad * costs.escape, Disposition::Accept);
        let mut best = reject;
        for other in review.into_iter().chain([accept]) {
            if other.0 < best.0 {
                best = other;
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(costs: Option<Costs>) -> Recipe {
        let labels = [("p/good", Disposition::Accept), ("p/bad", Disposition::Reject)];
        Recipe { labels: labels.map(|(label, what)| (label.to_owned(), what)).into(), costs }
    }

    fn disposed(recipe: &Recipe, good: f64) -> Disposition {
        let verdict = if good >= 0.5 { "p/good" } else { "p/bad" };
        recipe.dispose(verdict, [("p/good", good), ("p/bad", 1.0 - good)])
    }

    #[test]
    fn without_costs_the_verdict_decides() {
        assert_eq!(disposed(&recipe(None), 0.51), Disposition::Accept);
        assert_eq!(disposed(&recipe(None), 0.49), Disposition::Reject);
        assert_eq!(recipe(None).dispose("p/odd", []), Disposition::Review);
    }

    #[test]
    fn what_an_escape_costs_moves_the_threshold() {
        let costs = Costs { escape: 3.0, false_reject: 1.0, review: None };
        assert_eq!(disposed(&recipe(Some(costs)), 0.76), Disposition::Accept);
        assert_eq!(disposed(&recipe(Some(costs)), 0.74), Disposition::Reject);
        assert_eq!(
            disposed(&recipe(Some(costs)), 0.75),
            Disposition::Reject,
            "equal costs go to the safer one"
        );
    }

    #[test]
    fn a_person_is_asked_where_that_is_cheapest() {
        let costs = Costs { escape: 10.0, false_reject: 10.0, review: Some(1.0) };
        let recipe = recipe(Some(costs));
        assert_eq!(disposed(&recipe, 0.95), Disposition::Accept);
        assert_eq!(disposed(&recipe, 0.8), Disposition::Review);
        assert_eq!(disposed(&recipe, 0.05), Disposition::Reject);
    }

    #[test]
    fn what_one_recipe_does_not_name_goes_by_the_other() {
        let costs = Costs { escape: 9.0, false_reject: 1.0, review: None };
        let own = Recipe { labels: [("p/good".to_owned(), Disposition::Review)].into(), costs: None };
        let both = own.over(recipe(Some(costs)));
        assert_eq!(both.of_label("p/good"), Disposition::Review);
        assert_eq!(both.of_label("p/bad"), Disposition::Reject);
        assert_eq!(both.costs, Some(costs));
        let dearer = Costs { escape: 90.0, ..costs };
        assert_eq!(recipe(Some(dearer)).over(recipe(Some(costs))).costs, Some(dearer));
        assert_eq!(own.over(Recipe::default()), own);
    }
}
