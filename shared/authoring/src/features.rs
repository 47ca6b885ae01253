//! What a bundle's models make of labelled samples.
//!
//! Every sample goes through encoders, gate and experts on all cores; what comes out stands in the order of the data, however
//! many cores there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millgate_mixture::embedding::Embeddings;
use millgate_mixture::inputs::expert_inputs;
use millgate_mixture::runner::{Models, RunError, Runner};
use millgate_model::manifest::Manifest;
use millgate_sample::index::{By, ExpertIx, ModalityIx};
use millgate_sample::sample::{Note, Read, Sample};

use crate::data::Item;
use crate::progress::Progress;

pub mod replay;
#[cfg(test)]
pub(crate) mod tests;

/// What the models make of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its place among the items that were given.
    pub item: usize,
    pub presence: By<ModalityIx, bool>,
    pub embeddings: Embeddings,
    /// The gate's logits.
    pub scores: By<ExpertIx, f64>,
    /// The gate's logits if the bundle's first modality were all that is there; `None`: it is all that is there, or absent.
    pub scores_alone: Option<By<ExpertIx, f64>>,
    /// What each expert made of it; `None`: it needs a modality that is absent, or is not held.
    pub experts: By<ExpertIx, Option<Answered>>,
    /// SHA-256 of the first modality's file.
    pub sha256: String,
    pub notes: Vec<Note>,
}

/// What an expert made of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub logits: Vec<f32>,
    /// Its output `nov` if it has one, else `feat`.
    pub features: Vec<f32>,
}

/// A sample that could not be read or run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place among the items that were given.
    pub item: usize,
    pub name: String,
    /// With the file and the modality.
    pub reason: String,
}

/// What came of all samples, in the order of the data.
#[derive(Debug, Clone)]
pub struct Collected<T> {
    pub seen: Vec<T>,
    pub refused: Vec<Refused>,
}

/// Why nothing could be run at all.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("every one of the {count} samples was refused; the first: {first}")]
    NoneLeft { count: usize, first: String },
    #[error("{} of {count} pictures cannot be used:\n{}", .refused.len(), listed(.refused))]
    Refused { count: usize, refused: Vec<Refused> },
}

/// Refused samples, a line for each of the first of them.
fn listed(refused: &[Refused]) -> String {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = refused.iter().take(SHOWN).map(|one| format!("  {}", one.reason)).collect();
    if refused.len() > SHOWN {
        lines.push(format!("  and {} more", refused.len() - SHOWN));
    }
    lines.join("\n")
}

impl<T> Collected<T> {
    /// What came, if nothing was refused.
    pub fn all(self) -> Result<Vec<T>, FeatureError> {
        match self.refused.is_empty() {
            true => Ok(self.seen),
            false => {
                let count = self.seen.len() + self.refused.len();
                Err(FeatureError::Refused { count, refused: self.refused })
            }
        }
    }
}

/// Runs encoders, gate and every expert that is held and eligible on each sample.
pub fn collect(
    models: &Arc<Models>,
    items: &[Item],
    progress: &dyn Progress,
) -> Result<Collected<Seen>, FeatureError> {
    each(models, items, progress, |at, _, read, runner| {
        see(at, read, runner).map_err(|error| error.to_string())
    })
}

/// Reads each sample and does something with it and a thread's models, on all cores. An error of one sample refuses that
/// sample; an error is given if nothing is left.
pub fn each<T: Send>(
    models: &Arc<Models>,
    items: &[Item],
    progress: &dyn Progress,
    run: impl Fn(usize, &Item, Read, &mut Runner) -> Result<T, String> + Sync,
) -> Result<Collected<T>, FeatureError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    let runners = (0..cores).map(|_| models.runner()).collect::<Result<Vec<_>, _>>()?;
    let next = AtomicUsize::new(0);
    let work = |mut runner: Runner| {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            let read = item.read(models.manifest()).map_err(|error| error.to_string());
            let result = read.and_then(|read| {
                run(at, item, read, &mut runner).map_err(|error| format!("{}: {error}", item.name))
            });
            done.push((at, result));
            progress.advance(1);
        }
    };
    let mut done: Vec<(usize, Result<T, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = runners.into_iter().map(|runner| scope.spawn(|| work(runner))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    let mut collected = Collected { seen: Vec::with_capacity(done.len()), refused: Vec::new() };
    for (at, result) in done {
        match result {
            Ok(seen) => collected.seen.push(seen),
            Err(reason) => {
                collected.refused.push(Refused { item: at, name: items[at].name.clone(), reason });
            }
        }
    }
    match collected.refused.first() {
        Some(first) if collected.seen.is_empty() => {
            Err(FeatureError::NoneLeft { count: items.len(), first: first.reason.clone() })
        }
        _ => Ok(collected),
    }
}

/// Runs all models on one sample that was read.
pub fn see(item: usize, read: Read, runner: &mut Runner) -> Result<Seen, RunError> {
    let Read { sample, notes, sha256 } = read;
    let models = Arc::clone(runner.models());
    let embeddings = runner.embeddings(&sample)?;
    let scores = runner.scores(&sample, &embeddings)?;
    let presence = sample.presence();
    let scores_alone = alone(&sample).map(|alone| {
        let embeddings = runner.embeddings(&alone)?;
        runner.scores(&alone, &embeddings)
    });
    let scores_alone = scores_alone.transpose()?;
    let mut experts = By::default();
    for expert in models.manifest().experts.indices() {
        let is_asked = models.holds(expert) && is_eligible(models.manifest(), expert, &presence);
        let answered = is_asked.then(|| answer(runner, expert, &sample, &embeddings)).transpose()?;
        experts.push(answered);
    }
    Ok(Seen { item, presence, embeddings, scores, scores_alone, experts, sha256, notes })
}

/// A sample with its first modality alone; `None` if there is nothing to be left out.
fn alone(sample: &Sample) -> Option<Sample> {
    let mut alone = sample.clone();
    let (first, others) = alone.values.split_first_mut()?;
    first.as_ref()?;
    let left_out = others.iter_mut().filter_map(Option::take).count();
    (left_out > 0).then_some(alone)
}

/// Whether a sample has what an expert needs.
pub fn is_eligible(manifest: &Manifest, expert: ExpertIx, presence: &By<ModalityIx, bool>) -> bool {
    let has = |name: &str| manifest.modality_index(name).is_some_and(|index| presence[index]);
    manifest.experts[expert].inputs.iter().all(|input| has(&input.modality))
}

fn answer(
    runner: &mut Runner,
    expert: ExpertIx,
    sample: &Sample,
    embeddings: &Embeddings,
) -> Result<Answered, RunError> {
    let models = Arc::clone(runner.models());
    let outputs = runner.outputs(expert, expert_inputs(models.manifest(), expert, sample, embeddings)?)?;
    let take = |name: &str| {
        let index = models.expert(expert)?.output_index(name)?;
        outputs.get(index)?.as_fp32().ok().map(<[f32]>::to_vec)
    };
    let features = take("nov").or_else(|| take("feat")).unwrap_or_default();
    Ok(Answered { logits: take("logits").unwrap_or_default(), features })
}
