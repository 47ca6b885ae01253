//! One sample's way from what was read of it to its verdict: the one driver of [`Deciding`], over experts that run
//! wherever they run.
//!
//! ```text
//! begin ── embed, score (unless the mode pins its experts) ──> choice
//! run   ── ask ──> next answer ──> ask whom Deciding names then ──> … until nobody is out, or patience ends
//! close ── combine ──> the outcome, and what a late answer needs to be worked in
//! ```
//!
//! Whoever can be asked is behind two traits: [`Gate`] runs encoders and gate, [`Experts`] gives answers. A model thread is
//! both ([`crate::local`]); the agent's uplink is [`Experts`] alone; the pool's scheduler is both. The driver may be moved
//! between two calls of [`Driver::run`]: the agent runs it on a model thread until only the pool is out, and then in a
//! task that waits for the pool. It reads no clock and starts no timer: what it is told of came at a time, and who waits
//! is given the time until which to wait.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use millgate_model::competence::Answer;
use millgate_model::deciding::{Compared, Deciding, DecidingError, Mode, Open, Policy, Todo};
use millgate_model::decision::{Missing, Outcome, Run};
use millgate_model::gate::{Place, Ranking};
use millgate_model::manifest::Manifest;
use millgate_sample::index::{By, ExpertIx, ModalityIx, TaskIx};

#[cfg(test)]
mod tests;

/// What came of asking one expert.
#[derive(Debug, Clone)]
pub struct Reply {
    pub expert: ExpertIx,
    /// When it came.
    pub at: Instant,
    /// The answer and how it was computed, or why there is none.
    pub answer: Result<(Answer, Run), Missing>,
}

/// Where a decision stands when experts are asked.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The calibrated risk of the local answers; `None` until the last of them is in.
    pub local_risk: Option<f64>,
    pub deadline: Instant,
}

/// Experts that can be asked about one sample, which they have.
pub trait Experts {
    /// Starts asking these; each of them that can be asked here will be one of [`Self::next`]'s, also if it fails at once.
    /// Gives what the record is to say of it, such as why an expert was not asked.
    fn ask(&mut self, todo: Todo, standing: Standing) -> Vec<String>;

    /// The next reply. `None`: by `until` none came, or nobody is out who is waited for here.
    fn next(&mut self, until: Instant) -> impl Future<Output = Option<Reply>> + Send;

    /// Compares the sample with what is known of a product, once the experts of this place have answered. Whoever does not hold
    /// the sample, or has no bank of the product, gives nothing.
    fn compare(&mut self, product: &str) -> impl Future<Output = Compared> + Send;
}

/// The encoders and the gate for one sample, beside its experts.
pub trait Gate: Experts {
    type Error;

    /// Runs every encoder whose modality is there.
    fn embed(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Whether a picture fails a check that needs no expert's answer: those of the product, where only one may be the answer, or
    /// those that hold for every picture. Whoever has everything at hand has nothing to save by it.
    fn fails(&mut self, _product: Option<&str>) -> bool {
        false
    }

    /// Runs the gate on what the encoders made: a logit for each expert.
    fn score(&mut self) -> impl Future<Output = Result<By<ExpertIx, f64>, Self::Error>> + Send;
}

/// What is asked of a sample.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub task: &'a str,
    pub policy: Policy,
    /// Where each expert can be run.
    pub places: By<ExpertIx, Place>,
    /// Whether each modality is there.
    pub presence: By<ModalityIx, bool>,
    /// When the sample was accepted.
    pub started: Instant,
}

/// Why a sample has no decision. `E` is why encoders or gate gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError<E> {
    #[error("`{0}` is not a task of this bundle")]
    UnknownTask(String),
    #[error(transparent)]
    Gate(E),
    #[error(transparent)]
    Deciding(#[from] DecidingError),
}

/// What a sample came to.
#[derive(Debug)]
pub struct Closed {
    pub task: TaskIx,
    pub outcome: Outcome,
    /// What late answers need to be worked in; `None` if there is nobody to ask later.
    pub open: Option<Open>,
    /// Runs of the experts that answered.
    pub runs: BTreeMap<ExpertIx, Run>,
}

/// One sample on its way.
#[derive(Debug)]
pub struct Driver {
    deciding: Deciding,
    /// What to ask first; `None` once it was asked.
    first: Option<Todo>,
    runs: BTreeMap<ExpertIx, Run>,
}

impl Driver {
    /// Has encoders and gate run, unless the mode pins its experts, and chooses who is asked.
    pub async fn begin<G: Gate>(
        manifest: &Arc<Manifest>,
        gate: &mut G,
        ask: Ask<'_>,
    ) -> Result<Self, DriverError<G::Error>> {
        let Ask { task, policy, places, presence, started } = ask;
        let task = manifest.task_index(task).ok_or_else(|| DriverError::UnknownTask(task.to_owned()))?;
        let scores = match policy.mode {
            Mode::Pinned(_) => By::filled(manifest.experts.len(), 0.0),
            Mode::Confidence | Mode::Gate | Mode::Always | Mode::Never => {
                gate.embed().await.map_err(DriverError::Gate)?;
                gate.score().await.map_err(DriverError::Gate)?
            }
        };
        let ranking = Ranking::new(manifest, &manifest.tasks[task], &policy.scope, &presence, scores, places);
        let mut deciding = Deciding::new(manifest, task, &presence, ranking, policy, started)?;
        if deciding.asks_unseen() && gate.fails(deciding.only_product()) {
            deciding.hold_back();
        }
        let first = Some(deciding.start());
        Ok(Self { deciding, first, runs: BTreeMap::new() })
    }

    /// Asks, and works in what comes, until nobody is out, until patience ends, or until these experts have no more to
    /// give; what others still owe is worked in by the next call.
    pub async fn run<E: Experts>(&mut self, experts: &mut E) {
        if let Some(first) = self.first.take() {
            self.ask(experts, first);
        }
        while let Some(until) = self.deciding.wait_until() {
            let Some(Reply { expert, at, answer }) = experts.next(until).await else { return };
            let todo = match answer {
                Ok((answer, run)) => {
                    self.runs.insert(expert, run);
                    self.deciding.answered(answer, at)
                }
                Err(reason) => self.deciding.failed(expert, reason),
            };
            self.ask(experts, todo);
            if let Some(product) = self.deciding.to_compare() {
                let compared = experts.compare(product).await;
                let todo = self.deciding.compared(compared);
                self.ask(experts, todo);
            }
        }
    }

    fn ask<E: Experts>(&mut self, experts: &mut E, todo: Todo) {
        if todo.is_empty() {
            return;
        }
        let (local_risk, deadline) = (self.deciding.local_risk(), self.deciding.deadline());
        for note in experts.ask(todo, Standing { local_risk, deadline }) {
            self.deciding.note(&note);
        }
    }

    /// Combines; whoever is still out has missed the deadline.
    pub fn close(self) -> Result<Closed, DecidingError> {
        let task = self.deciding.task_index();
        let (outcome, open) = self.deciding.close()?;
        Ok(Closed { task, outcome, open, runs: self.runs })
    }
}
