//! A sample's visit to a model thread: encoders, gate and the experts that are held here, without leaving the thread.
//!
//! Nothing is waited for on such a thread: each of the driver's steps is done when it is asked for, so that a decision in
//! mode `confidence` is one hop to the thread and back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millgate_model::competence::Answer;
use millgate_model::deciding::{Compared, Todo};
use millgate_model::decision::{Missing, Run};
use millgate_model::manifest::{ExpertInput, InputKind};
use millgate_model::novelty::Score;
use millgate_sample::index::{By, ExpertIx};
use millgate_sample::sample::Sample;

use crate::driver::{Experts, Gate, Reply, Standing};
use crate::embedding::Embeddings;
use crate::looks;
use crate::novelty::{self, EXPERT};
use crate::runner::{RunError, Runner};

/// Time spent in models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub encode: Duration,
    pub gate: Duration,
    /// Time in experts, their inputs included.
    pub experts: Duration,
}

/// A sample on a model thread.
pub struct Local<'a> {
    runner: &'a mut Runner,
    sample: Sample,
    /// Embeddings; `None` until somebody needs them: without the gate nobody may.
    embeddings: Option<Embeddings>,
    /// Features of the experts that have answered.
    features: BTreeMap<ExpertIx, Vec<f32>>,
    /// Experts to run, the next one last.
    queue: Vec<ExpertIx>,
    is_cancelled: &'a dyn Fn() -> bool,
    spent: Spent,
}

impl<'a> Local<'a> {
    /// Brings a sample to a model thread. No further expert is run once `is_cancelled`.
    pub fn new(runner: &'a mut Runner, sample: Sample, is_cancelled: &'a dyn Fn() -> bool) -> Self {
        let (features, queue, spent) = (BTreeMap::new(), Vec::new(), Spent::default());
        Self { runner, sample, embeddings: None, features, queue, is_cancelled, spent }
    }

    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// Gives the sample's embeddings; the encoders run once for each sample at most.
    pub fn embeddings(&mut self) -> Result<&Embeddings, RunError> {
        let embeddings = match self.embeddings.take() {
            Some(embeddings) => embeddings,
            None => self.runner.embeddings(&self.sample)?,
        };
        Ok(self.embeddings.insert(embeddings))
    }

    /// Gives the embeddings that were made already, if any were.
    pub fn known_embeddings(&self) -> Option<&Embeddings> {
        self.embeddings.as_ref()
    }

    /// Gives what is left when the visit ends.
    pub fn into_parts(self) -> (Sample, Option<Embeddings>, Spent) {
        (self.sample, self.embeddings, self.spent)
    }

    fn run(&mut self, expert: ExpertIx) -> Reply {
        let started = Instant::now();
        let models = self.runner.models();
        let (manifest, engine) = (models.manifest(), models.engine_of(expert));
        let spec = &manifest.experts[expert];
        let (name, labels) = (spec.name.clone(), spec.labels.len());
        let answer = self.logits(expert).map_err(|error| error.to_string()).and_then(|logits| {
            Answer::from_logits(expert, labels, &logits).map_err(|error| format!("expert `{name}` {error}"))
        });
        let at = Instant::now();
        self.spent.experts += at - started;
        let answer = match answer {
            Ok(answer) => Ok((answer, Run::here((at - started).as_micros() as u64, engine))),
            Err(error) => {
                tracing::warn!(expert = name, error, "local expert failed");
                Err(Missing::Failed)
            }
        };
        Reply { expert, at, answer }
    }

    fn logits(&mut self, expert: ExpertIx) -> Result<Vec<f32>, RunError> {
        let takes_embedding = |input: &ExpertInput| input.kind == InputKind::Embedding;
        if self.runner.models().manifest().experts[expert].inputs.iter().any(takes_embedding) {
            self.embeddings()?;
        }
        let none = Embeddings::default();
        let embeddings = self.embeddings.as_ref().unwrap_or(&none);
        let [logits, features] = self.runner.answer(expert, &self.sample, embeddings)?;
        self.features.insert(expert, features);
        Ok(logits)
    }

    /// Compares the sample with the known ones of a product.
    fn compared(&mut self, product: &str) -> Option<Score> {
        self.runner.models().banks().of(product)?;
        if let Err(error) = self.embeddings() {
            tracing::warn!(error = %error, product, "the sample is not compared with known ones");
        }
        let models = self.runner.models();
        let (manifest, bank) = (models.manifest(), models.banks().of(product)?);
        let none = Embeddings::default();
        let embeddings = self.embeddings.as_ref().unwrap_or(&none);
        novelty::compare(manifest, bank, |detector| match detector.strip_prefix(EXPERT) {
            Some(expert) => self.features.get(&manifest.expert_index(expert)?).map(Cow::from),
            None => novelty::picture_features(manifest, &self.sample, embeddings).map(Cow::from),
        })
    }
}

impl Experts for Local<'_> {
    /// Takes those to be run here; the others are somebody else's.
    fn ask(&mut self, todo: Todo, _: Standing) -> Vec<String> {
        self.queue.extend(todo.local.into_iter().rev());
        Vec::new()
    }

    /// Runs one expert, whatever the time: what is computed here is not taken away by a deadline.
    fn next(&mut self, _: Instant) -> impl Future<Output = Option<Reply>> + Send {
        let expert = if (self.is_cancelled)() { None } else { self.queue.pop() };
        std::future::ready(expert.map(|expert| self.run(expert)))
    }

    fn compare(&mut self, product: &str) -> impl Future<Output = Compared> + Send {
        let checks = looks::failed(self.runner.models().manifest(), product, &self.sample);
        std::future::ready(Compared { score: self.compared(product), checks })
    }
}

impl Gate for Local<'_> {
    type Error = RunError;

    fn fails(&mut self, product: Option<&str>) -> bool {
        // No product has an empty name, so that without one only the checks of every picture are left.
        let product = product.unwrap_or_default();
        !looks::failed(self.runner.models().manifest(), product, &self.sample).is_empty()
    }

    fn embed(&mut self) -> impl Future<Output = Result<(), RunError>> + Send {
        let started = Instant::now();
        let embedded = self.embeddings().map(|_| ());
        self.spent.encode += started.elapsed();
        std::future::ready(embedded)
    }

    fn score(&mut self) -> impl Future<Output = Result<By<ExpertIx, f64>, RunError>> + Send {
        let started = Instant::now();
        let none = Embeddings::default();
        let scores = self.runner.scores(&self.sample, self.embeddings.as_ref().unwrap_or(&none));
        self.spent.gate += started.elapsed();
        std::future::ready(scores)
    }
}

/// Runs a driver's steps to their end on this thread. Whoever is asked here has its answer when it is asked.
pub fn to_the_end<T>(steps: impl Future<Output = T>) -> T {
    futures_executor::block_on(steps)
}

impl std::fmt::Debug for Local<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("queue", &self.queue)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}
