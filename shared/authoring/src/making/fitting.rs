//! Which head on which features: tried on folds by group, the best is taken.

use super::MakeError;
use super::extracting::in_threads;
use super::measures::{f1_by_class, highest, macro_f1, temperature};
use crate::linear::{Head, LinearError, Rows, balanced, discriminant, logistic};
use crate::progress::Progress;

/// Weight of the data in logistic regression: measured to be right for frozen features from 5 to 500 samples a class.
const STRENGTH: f64 = 0.03;
/// What fewer pixels may be worse by and still be taken.
const WORTH: f64 = 0.005;

/// How a head is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Discriminant,
    Logistic,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Logistic, Self::Discriminant];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Discriminant => "shrunk discriminant analysis",
            Self::Logistic => "logistic regression",
        }
    }
}

/// Features of samples, each turned in several ways; the first is as it is.
#[derive(Debug, Clone)]
pub(super) struct Features {
    pub(super) size: usize,
    /// By flip.
    pub(super) rows: Vec<Rows>,
}

/// Classes and folds of samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) classes: &'a [usize],
    /// Samples of a group are in one fold.
    pub(super) fold_of: &'a [usize],
    pub(super) folds: usize,
    /// Number of classes.
    pub(super) count: usize,
}

/// What a head reaches on samples that it was not fitted on.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    pub(super) size: usize,
    pub(super) kind: Kind,
    pub(super) folds: usize,
    pub(super) macro_f1: f64,
    pub(super) by_class: Vec<Option<f64>>,
    /// Makes the head's confidence true.
    pub(super) temperature: f64,
}

impl Features {
    /// Fits a head on some of the samples.
    pub(super) fn fit(&self, kind: Kind, known: &Known<'_>, on: &[usize]) -> Result<Head, LinearError> {
        let mut rows = Rows::new(self.rows.first().map_or(0, Rows::dims));
        let mut classes = Vec::with_capacity(on.len() * self.rows.len());
        for turned in &self.rows {
            for at in on {
                rows.push(turned.row(*at));
                classes.push(known.classes[*at]);
            }
        }
        match kind {
            Kind::Discriminant => discriminant(&rows, &classes, known.count),
            Kind::Logistic => {
                // A picture that is turned is no other picture: together they count as one.
                let turns = self.rows.len().max(1) as f64;
                let weights: Vec<f64> =
                    balanced(&classes, known.count).into_iter().map(|weight| weight / turns).collect();
                logistic(&rows, &classes, &weights, known.count, STRENGTH)
            }
        }
    }
}

/// Tries each kind of head on each size's features, and gives what each reached.
pub(super) fn tried(
    sized: &[Features],
    kinds: &[Kind],
    known: &Known<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Tried>, MakeError> {
    let count = known.folds;
    let work: Vec<(usize, Kind, usize)> = (0..sized.len())
        .flat_map(|at| kinds.iter().flat_map(move |kind| (0..count).map(move |fold| (at, *kind, fold))))
        .collect();
    progress.stage("trying heads on folds", work.len());
    let logits = in_threads(
        work.len(),
        || Ok(()),
        progress,
        |(), at| {
            let (features, kind, fold) = work[at];
            let features = &sized[features];
            let (held, kept): (Vec<usize>, Vec<usize>) =
                (0..known.classes.len()).partition(|sample| known.fold_of[*sample] == fold);
            let head = features.fit(kind, known, &kept)?;
            let logits = |sample: usize| head.logits(features.rows[0].row(sample));
            Ok(held.into_iter().map(|sample| (sample, logits(sample))).collect::<Vec<_>>())
        },
    )?;
    let judged = logits.chunks(count.max(1)).zip(work.chunks(count.max(1)));
    Ok(judged.map(|(logits, work)| judge(logits, sized[work[0].0].size, work[0].1, known)).collect())
}

fn judge(logits: &[Vec<(usize, Vec<f64>)>], size: usize, kind: Kind, known: &Known<'_>) -> Tried {
    let mut by_sample = vec![Vec::new(); known.classes.len()];
    for (sample, logits) in logits.iter().flatten() {
        by_sample[*sample].clone_from(logits);
    }
    let found: Vec<usize> = by_sample.iter().map(|logits| highest(logits)).collect();
    Tried {
        size,
        kind,
        folds: logits.len(),
        macro_f1: macro_f1(known.classes, &found, known.count),
        by_class: f1_by_class(known.classes, &found, known.count),
        temperature: temperature(&by_sample, known.classes),
    }
}

/// The best of what was tried; of two that are about as good the one with fewer pixels, which is faster.
pub(super) fn best(tried: &[Tried]) -> Option<&Tried> {
    let most = tried.iter().map(|tried| tried.macro_f1).fold(f64::NEG_INFINITY, f64::max);
    let size = tried.iter().filter(|tried| tried.macro_f1 >= most - WORTH).map(|tried| tried.size).min()?;
    let of_size = tried.iter().filter(|tried| tried.size == size);
    of_size.reduce(|best, other| if other.macro_f1 > best.macro_f1 { other } else { best })
}
