//! A sample's stay on a model thread: gate, choice, local experts.
//!
//! It holds everything that one sample is between its steps, so that it can move from a model thread to an async task
//! (which asks the pool) and back. In mode `confidence` one stay is one hop: gate and local experts run without leaving
//! the thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_engine::Tract;
use millgate_model::competence::Answer;
use millgate_model::deciding::{Deciding, DecidingError, Mode, Policy, Todo};
use millgate_model::decision::{Missing, Run};
use millgate_model::gate::{Place, Ranking};
use millgate_model::manifest::{ExpertInput, InputKind, Manifest, Tier};
use millgate_sample::index::{By, ExpertIx};
use millgate_sample::sample::Sample;

use crate::embedding::Embeddings;
use crate::runner::{RunError, Runner};

/// What is asked of a sample.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub task: &'a str,
    pub policy: Policy,
    /// Where each expert can be run.
    pub places: By<ExpertIx, Place>,
    /// See [`prices`].
    pub prices: By<ExpertIx, f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("`{0}` is not a task of this bundle")]
    UnknownTask(String),
    #[error(transparent)]
    Gate(#[from] RunError),
    #[error(transparent)]
    Deciding(#[from] DecidingError),
}

/// One sample on its way.
#[derive(Debug)]
pub struct Stay {
    pub deciding: Deciding,
    pub sample: Sample,
    /// `None` until somebody needs them: without the gate nobody may.
    pub embeddings: Option<Embeddings>,
    /// Of the experts that answered here.
    pub runs: BTreeMap<ExpertIx, Run>,
    pub encode: Duration,
    pub gate: Duration,
    /// In local experts.
    pub local: Duration,
}

impl Stay {
    /// Runs the gate (unless the mode pins the experts) and chooses. `started` is when the sample was accepted.
    pub fn begin(
        runner: &mut Runner,
        sample: Sample,
        ask: Ask<'_>,
        started: Instant,
    ) -> Result<Self, LocalError> {
        let manifest = Arc::clone(runner.models().manifest());
        let (scores, embeddings, encode, gate) = if matches!(ask.policy.mode, Mode::Pinned(_)) {
            (By::filled(manifest.experts.len(), 0.0), None, Duration::ZERO, Duration::ZERO)
        } else {
            let gated = runner.gate(&sample)?;
            (gated.scores, Some(gated.embeddings), gated.encode, gated.gate)
        };
        let deciding = choose(&manifest, &sample, scores, ask, started)?;
        Ok(Self { deciding, sample, embeddings, runs: BTreeMap::new(), encode, gate, local: Duration::ZERO })
    }

    /// The sample's embeddings; the encoders run once for each sample at most.
    pub fn embeddings(&mut self, runner: &mut Runner) -> Result<&Embeddings, RunError> {
        let embeddings = match self.embeddings.take() {
            Some(embeddings) => embeddings,
            None => runner.embeddings(&self.sample)?,
        };
        Ok(self.embeddings.insert(embeddings))
    }

    /// Those that were made already.
    pub fn known_embeddings(&self) -> Option<&Embeddings> {
        self.embeddings.as_ref()
    }

    /// What to do first; see [`Deciding::start`].
    pub fn start(&mut self) -> Todo {
        self.deciding.start()
    }

    /// Runs local experts until none is left to run; gives the experts to ask of the pool, those in `todo` included.
    /// Stops early once `is_cancelled`.
    pub fn run(&mut self, runner: &mut Runner, todo: Todo, is_cancelled: &dyn Fn() -> bool) -> Vec<ExpertIx> {
        let Todo { mut local, mut remote } = todo;
        let started = Instant::now();
        local.reverse();
        while let Some(expert) = local.pop() {
            if is_cancelled() {
                break;
            }
            let next = self.run_one(runner, expert);
            local.extend(next.local);
            remote.extend(next.remote);
        }
        self.local += started.elapsed();
        remote
    }

    fn run_one(&mut self, runner: &mut Runner, expert: ExpertIx) -> Todo {
        let started = Instant::now();
        let manifest = Arc::clone(runner.models().manifest());
        let spec = &manifest.experts[expert];
        let (name, labels) = (&spec.name, spec.labels.len());
        let answer = self.logits(runner, expert).map_err(|error| error.to_string()).and_then(|logits| {
            Answer::from_logits(expert, labels, &logits).map_err(|error| format!("expert `{name}` {error}"))
        });
        let ended = Instant::now();
        match answer {
            Ok(answer) => {
                let latency_us = (ended - started).as_micros() as u64;
                self.runs.insert(expert, Run::here(latency_us, Tract::NAME));
                self.deciding.answered(answer, ended)
            }
            Err(error) => {
                tracing::warn!(expert = name, error, "local expert failed");
                self.deciding.failed(expert, Missing::Failed)
            }
        }
    }

    fn logits(&mut self, runner: &mut Runner, expert: ExpertIx) -> Result<Vec<f32>, RunError> {
        let takes_embedding = |input: &ExpertInput| input.kind == InputKind::Embedding;
        if runner.models().manifest().experts[expert].inputs.iter().any(takes_embedding) {
            self.embeddings(runner)?;
        }
        let none = Embeddings::default();
        runner.logits(expert, &self.sample, self.embeddings.as_ref().unwrap_or(&none))
    }
}

/// Chooses by the gate's scores (zeros, in mode `pinned`). `started` is when the sample was accepted.
pub fn choose(
    manifest: &Arc<Manifest>,
    sample: &Sample,
    scores: By<ExpertIx, f64>,
    ask: Ask<'_>,
    started: Instant,
) -> Result<Deciding, LocalError> {
    let Some(task) = manifest.task_index(ask.task) else {
        return Err(LocalError::UnknownTask(ask.task.to_owned()));
    };
    let presence = sample.presence();
    let ranking = Ranking::new(manifest, &manifest.tasks[task], &presence, scores, ask.prices, ask.places);
    Ok(Deciding::new(manifest, task, &presence, ranking, ask.policy, started)?)
}

/// Edge experts here, cloud experts at `cloud`.
pub fn tier_places(manifest: &Manifest, cloud: Place) -> By<ExpertIx, Place> {
    let place = |tier| match tier {
        Tier::Edge => Place::Local,
        Tier::Cloud => cloud,
    };
    manifest.experts.map(|expert| place(expert.tier))
}

/// The manifest's own prices.
pub fn prices(manifest: &Manifest) -> By<ExpertIx, f64> {
    manifest.experts.map(|expert| expert.price)
}
