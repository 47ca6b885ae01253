//! A provisional decision, kept open: what is needed to combine again once late answers come, without running a model.
//!
//! Experts are named, not numbered, so that what was written to disk by one process is read by the next. It only makes
//! sense with the bundle it was made with: the caller keeps the digest beside it.

use millgate_sample::index::ExpertIx;
use serde::{Deserialize, Serialize};

use super::Deciding;
use crate::combine::{Weighed, combine};
use crate::competence::{Answer, competence};
use crate::decision::{Degraded, FailedCheck, Missing, MissingExpert, Outcome, State, Why};
use crate::gate::Place;
use crate::manifest::{Expert, Manifest};
use crate::novelty::Novelty;
use crate::recipe::Recipe;
use crate::scope::Scope;

#[cfg(test)]
mod tests;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub task: String,
    /// What answered in time.
    pub answers: Vec<OpenAnswer>,
    /// Every expert that did not, in the order in which they were given up.
    pub missing: Vec<Wanted>,
    pub why: Why,
    /// Labels that may be the answer.
    #[serde(default, skip_serializing_if = "Scope::is_open")]
    pub scope: Scope,
    /// How the sample compared with known ones; late answers change nothing of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<Novelty>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<FailedCheck>,
    /// The operator's; `None`: the bundle's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
}

/// An answer that came in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAnswer {
    pub expert: String,
    pub probabilities: Vec<f64>,
    pub competence: f64,
    /// The gate's.
    pub share: f64,
}

/// An expert that was wanted and did not answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub expert: String,
    pub reason: Missing,
    /// The gate's.
    pub share: f64,
    /// What its competence goes by; 1 where no gate was run.
    pub trusted_share: f64,
    /// One of the pool's: it can be asked later.
    pub is_remote: bool,
}

/// Why late answers cannot be worked in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    #[error("`{0}` is not a task of this bundle")]
    UnknownTask(String),
    #[error("`{0}` is not an expert of this bundle")]
    UnknownExpert(String),
    #[error("expert `{0}` has another number of labels in this bundle")]
    Labels(String),
    #[error("expert `{0}` has answered twice")]
    Twice(String),
    #[error("none of the experts that were missing has answered")]
    NoAnswer,
}

impl Deciding {
    /// `None` if no expert of the pool is missing.
    pub(super) fn open(&self) -> Option<Open> {
        let name = |expert: ExpertIx| self.manifest.experts[expert].name.clone();
        let wanted = |(expert, reason): &(ExpertIx, Missing)| Wanted {
            expert: name(*expert),
            reason: *reason,
            share: self.ranking.shares[*expert],
            trusted_share: self.trusted_share(*expert),
            is_remote: self.ranking.places[*expert] != Place::Local,
        };
        let answer = |weighed: &Weighed| OpenAnswer {
            expert: name(weighed.answer.expert),
            probabilities: weighed.answer.probabilities.clone(),
            competence: weighed.competence,
            share: self.ranking.shares[weighed.answer.expert],
        };
        let missing: Vec<Wanted> = self.missing.iter().map(wanted).collect();
        missing.iter().any(|wanted| wanted.is_remote).then(|| Open {
            task: self.task().name.clone(),
            answers: self.answers.iter().map(answer).collect(),
            missing,
            why: self.why(),
            scope: self.policy.scope.clone(),
            novelty: self.novelty.clone(),
            checks: self.checks.clone(),
            recipe: self.policy.recipe.as_deref().cloned(),
        })
    }
}

impl Open {
    /// The experts to ask later.
    pub fn to_ask(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().filter(|wanted| wanted.is_remote).map(|wanted| wanted.expert.as_str())
    }

    /// Combines again, with `late` answers of experts that were missing; those of any other expert are left out. The
    /// order of `late` does not matter.
    pub fn amend(&self, manifest: &Manifest, late: &[Answer]) -> Result<Outcome, AmendError> {
        let task = manifest.task(&self.task).ok_or_else(|| AmendError::UnknownTask(self.task.clone()))?;
        let mut answers = Vec::with_capacity(self.answers.len() + late.len());
        let mut shares = Vec::with_capacity(answers.capacity());
        for open in &self.answers {
            let (index, spec) = expert(manifest, &open.expert)?;
            if spec.labels.len() != open.probabilities.len() {
                return Err(AmendError::Labels(open.expert.clone()));
            }
            let answer = Answer { expert: index, probabilities: open.probabilities.clone() };
            answers.push(Weighed { answer, competence: open.competence });
            shares.push((index, open.share));
        }
        let mut missing = Vec::new();
        for wanted in &self.missing {
            let (index, spec) = expert(manifest, &wanted.expert)?;
            let mut of_it = late.iter().filter(|answer| answer.expert == index);
            match (of_it.next(), of_it.next()) {
                (Some(answer), None) => {
                    if spec.labels.len() != answer.probabilities.len() {
                        return Err(AmendError::Labels(wanted.expert.clone()));
                    }
                    let Some(answer) = self.within_scope(spec, answer) else {
                        missing.push(wanted);
                        continue;
                    };
                    let competence = competence(&spec.competence, answer.confidence(), wanted.trusted_share);
                    answers.push(Weighed { answer, competence });
                    shares.push((index, wanted.share));
                }
                (None, _) => missing.push(wanted),
                (Some(_), Some(_)) => return Err(AmendError::Twice(wanted.expert.clone())),
            }
        }
        if missing.len() == self.missing.len() {
            return Err(AmendError::NoAnswer);
        }
        // As `Deciding::close` does, so that late answers give what the same answers in time would have given.
        answers.sort_by_key(|weighed| weighed.answer.expert);
        shares.sort_by_key(|(index, _)| *index);
        let answered = shares.iter().map(|(_, share)| share).sum::<f64>();
        let mixed = combine(&manifest.combine, task, &manifest.experts, &answers);
        let mixed = mixed.ok_or(AmendError::NoAnswer)?;
        let degraded = missing.first().map(|first| {
            let wanted = answered + missing.iter().map(|wanted| wanted.share).sum::<f64>();
            Degraded {
                reason: first.reason,
                missing: missing.iter().map(|wanted| wanted.as_missing()).collect(),
                weight_mass: if wanted > 0.0 { answered / wanted } else { 0.0 },
                later: None,
            }
        });
        let mut outcome = Outcome {
            state: State::Amended,
            degraded,
            why: self.why.clone(),
            mixed,
            answers,
            novelty: self.novelty.clone(),
            checks: self.checks.clone(),
            disposition: None,
        };
        outcome.dispose(manifest, task, self.recipe.as_ref());
        Ok(outcome)
    }

    fn within_scope(&self, spec: &Expert, answer: &Answer) -> Option<Answer> {
        let answer = answer.clone();
        if spec.labels.iter().all(|label| self.scope.allows(label)) {
            return Some(answer);
        }
        answer.within(|at| spec.labels.get(at).is_some_and(|label| self.scope.allows(label)))
    }
}

impl Wanted {
    fn as_missing(&self) -> MissingExpert {
        MissingExpert { name: self.expert.clone(), reason: self.reason }
    }
}

fn expert<'a>(manifest: &'a Manifest, name: &str) -> Result<(ExpertIx, &'a Expert), AmendError> {
    let index = manifest.expert_index(name).ok_or_else(|| AmendError::UnknownExpert(name.to_owned()))?;
    Ok((index, &manifest.experts[index]))
}
