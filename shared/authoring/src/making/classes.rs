//! An expert that knows classes: features, a head by folds, and the same head on a backbone that has learned nothing.

use std::collections::BTreeSet;

use super::MakeError;
use super::backbone::Backbone;
use super::extracting::{Extractor, Flip, IMAGE, Reader, TEMPLATE, extract};
use super::fitting::{Features, Kind, Known, Tried, best, tried};
use super::graphs::{self, Sized};
use crate::data::{Item, Labelled};
use crate::linear::{Head, Rows};
use crate::progress::Progress;

/// Most folds.
const FOLDS: usize = 5;
/// With more pictures than this, turning each of them gains nothing that is worth the time.
const MOST_TURNED: usize = 2000;

/// What was fitted.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub(super) size: usize,
    pub(super) kind: Kind,
    /// With its temperature.
    pub(super) head: Head,
    /// What the head reached on folds.
    pub(super) reached: Tried,
    /// Everything that was tried.
    pub(super) tried: Vec<Tried>,
    /// Quality on a backbone with shuffled weights.
    pub(super) control: Tried,
}

/// Labels of the data, in their order.
pub(super) fn labels(data: &Labelled) -> Vec<String> {
    data.counts().into_keys().map(str::to_owned).collect()
}

/// Whether pictures have a template beside them: all of them or none.
pub(super) fn has_template(data: &Labelled) -> Result<bool, MakeError> {
    let has = |item: &&Item| item.parts.contains_key(TEMPLATE);
    let Some(with) = data.items.iter().find(has) else { return Ok(false) };
    match data.items.iter().find(|item| !has(item)) {
        None => Ok(true),
        Some(without) => {
            let path = without.parts.get(IMAGE).cloned().unwrap_or_default();
            let message =
                format!("has no template beside it (`x.template.png`), and `{}` has one", with.name);
            Err(MakeError::Picture { path, message })
        }
    }
}

/// Class of each sample, by its place among the labels.
pub(super) fn classes(data: &Labelled, labels: &[String]) -> Vec<usize> {
    let class = |item: &Item| labels.iter().position(|label| *label == item.label).unwrap_or(0);
    data.items.iter().map(class).collect()
}

/// Fits an expert for the labels of the data.
pub(super) fn fit(
    data: &Labelled,
    backbone: &Backbone,
    sizes: &[usize],
    seed: u64,
    progress: &dyn Progress,
) -> Result<Fitted, MakeError> {
    let with_template = has_template(data)?;
    let labels = labels(data);
    let classes = classes(data, &labels);
    let folds = most_folds(data, &labels);
    let fold_of = data.folds(folds, seed);
    let known = Known { classes: &classes, fold_of: &fold_of, folds, count: labels.len() };

    // With a template discriminant analysis is far ahead where labels are few, and never behind.
    let kinds: &[Kind] = if with_template { &[Kind::Discriminant] } else { &Kind::ALL };
    let sized = features(data, backbone, sizes, with_template, progress)?;
    let all = tried(&sized, kinds, &known, progress)?;
    let reached =
        best(&all).ok_or_else(|| MakeError::Other("no size of pictures was given".to_owned()))?.clone();
    let (size, kind) = (reached.size, reached.kind);

    let control = features(data, &backbone.shuffled(seed), &[size], with_template, progress)?;
    let control = tried(&control, &[kind], &known, progress)?;
    let control = control.into_iter().next().ok_or_else(|| MakeError::Other("no control".to_owned()))?;

    let features = sized.iter().find(|features| features.size == size);
    let features = features.ok_or_else(|| MakeError::Other("no features".to_owned()))?;
    let every: Vec<usize> = (0..classes.len()).collect();
    let head = features.fit(kind, &known, &every)?.cooled(reached.temperature);
    Ok(Fitted { size, kind, head, reached, tried: all, control })
}

/// How many folds there can be: every class must be known when it is asked for.
fn most_folds(data: &Labelled, labels: &[String]) -> usize {
    let groups = |label: &String| {
        let of_label = data.items.iter().filter(|item| item.label == *label);
        of_label.map(|item| &item.group).collect::<BTreeSet<_>>().len()
    };
    labels.iter().map(groups).min().unwrap_or(0).clamp(2, FOLDS)
}

/// Features at each size, of the pictures as they are and turned.
pub(super) fn features(
    data: &Labelled,
    backbone: &Backbone,
    sizes: &[usize],
    with_template: bool,
    progress: &dyn Progress,
) -> Result<Vec<Features>, MakeError> {
    let reader = Reader::new(backbone.channels, with_template)?;
    let mut extractors = Vec::with_capacity(sizes.len());
    for size in sizes {
        let sized = Sized::new(backbone, *size)?;
        extractors.push(match with_template {
            true => Extractor {
                graph: sized.comparer(None)?,
                size: *size,
                inputs: vec![IMAGE, TEMPLATE],
                output: "feat",
            },
            false => {
                Extractor { graph: sized.encoder()?, size: *size, inputs: vec![IMAGE], output: "embedding" }
            }
        });
    }
    let flips = if data.items.len() > MOST_TURNED { &Flip::ALL[..1] } else { &Flip::ALL };
    let items: Vec<&Item> = data.items.iter().collect();
    progress.stage(&format!("reading pictures, {}", backbone.name), items.len());
    let extracted = extract(&reader, backbone, &items, &extractors, flips, progress)?;
    let of_size = |(at, size): (usize, &usize)| {
        let rows = (0..flips.len()).map(|flip| {
            let mut rows = Rows::new(extracted.first().map_or(0, |of_item| of_item[at][flip].len()));
            extracted.iter().for_each(|of_item| rows.push(&of_item[at][flip]));
            rows
        });
        Features { size: *size, rows: rows.collect() }
    };
    Ok(sizes.iter().enumerate().map(of_size).collect())
}

/// The file of the expert: on the embedding, or on a picture and its template.
pub(super) fn expert(fitted: &Fitted, sized: &Sized<'_>, with_template: bool) -> Result<Vec<u8>, MakeError> {
    match with_template {
        true => sized.comparer(Some(&fitted.head)),
        false => Ok(graphs::head(sized.dims(), &fitted.head)),
    }
}
