//! An expert that knows good pictures alone: how far each patch of a picture is from good patches, with a threshold that good
//! pictures exceed as rarely as was asked.
//!
//! The threshold is conformal: of pictures that were kept aside, the score that so many of them reach that a new good picture
//! exceeds it at most as often as asked (Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005).

use half::f16;

use super::MakeError;
use super::backbone::Backbone;
use super::extracting::{Extractor, Flip, Reader, extract, inputs};
use super::graphs::{Detector, Sized, squared_lengths};
use super::measures::auroc;
use crate::data::{Item, Labelled};
use crate::linear::{Moments, Whitening};
use crate::progress::Progress;

/// Fewer good pictures give no threshold that is worth anything.
pub(super) const FEWEST: usize = 20;
/// More good pictures than this are not looked at.
pub(super) const MOST: usize = 2000;
/// Share of the good pictures that the threshold comes from.
pub(super) const ASIDE: f64 = 0.25;
/// Patches in a bank.
const BANK: usize = 1000;
/// Patches that a bank is chosen from.
const DRAWN: usize = 8192;
/// What a bank must gain over the Gaussian to be worth its time.
const WORTH: f64 = 0.01;
/// A good picture of median score is taken to be anomalous with this probability.
const AT_MEDIAN: f64 = 0.01;

/// What was fitted.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub(super) detector: Detector,
    /// Good pictures that patches were learned from, and that were kept aside for the threshold.
    pub(super) learned: usize,
    pub(super) aside: usize,
    /// A new good picture is called anomalous at most so often.
    pub(super) false_alarms: f64,
    pub(super) against: Option<Against>,
}

/// What it does with known defects.
#[derive(Debug, Clone)]
pub(super) struct Against {
    /// Caught and all, by label.
    pub(super) by_label: Vec<(String, usize, usize)>,
    pub(super) auroc: f64,
    /// Areas under the curve of the Gaussian, and of the bank.
    pub(super) gaussian: f64,
    pub(super) bank: f64,
    /// Areas under the curve on a backbone with shuffled weights.
    pub(super) control: f64,
}

impl Against {
    pub(super) fn caught(&self) -> (usize, usize) {
        self.by_label.iter().fold((0, 0), |sum, (_, caught, all)| (sum.0 + caught, sum.1 + all))
    }
}

/// What it is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) good: &'a Labelled,
    pub(super) defects: Option<&'a Labelled>,
    pub(super) with_template: bool,
    /// Share of good pictures that may be called anomalous.
    pub(super) false_alarms: f64,
    pub(super) seed: u64,
}

/// The good pictures that patches are learned from, and those that the threshold comes from.
pub(super) fn split(given: &Given<'_>) -> (Labelled, Labelled) {
    given.good.holdout(ASIDE, given.seed)
}

/// Fits an expert for good pictures.
pub(super) fn fit(
    given: &Given<'_>,
    sized: &Sized<'_>,
    progress: &dyn Progress,
) -> Result<Fitted, MakeError> {
    let count = given.good.items.len();
    if count < FEWEST {
        let message = format!(
            "holds {count} good pictures, and it takes {FEWEST} at least (100 are better): a quarter of them is kept aside for \
             the threshold"
        );
        return Err(MakeError::Refused { key: "good", message });
    }
    let (learned, aside) = split(given);
    let defects = given.defects.map_or(&[][..], |defects| &defects.items[..]);

    let known = Patches::of(given, sized, &learned, progress)?;
    let gaussian = known.detector(None);
    let of_gaussian = Scores::of(given, sized, &gaussian, &aside, defects, progress)?;
    let (mut detector, mut scores, mut against) = (gaussian, of_gaussian, None);
    if !defects.is_empty() {
        let banked = known.detector(Some(known.bank(given.seed)));
        let of_bank = Scores::of(given, sized, &banked, &aside, defects, progress)?;
        let (by_gaussian, by_bank) = (scores.auroc(), of_bank.auroc());
        if by_bank > by_gaussian + WORTH {
            (detector, scores) = (banked, of_bank);
        }
        let control =
            control(given, sized.backbone, sized.size, detector.bank.is_some(), &learned, &aside, progress)?;
        against = Some((by_gaussian, by_bank, control));
    }
    let (threshold, false_alarms) = threshold(&scores.good, given.false_alarms);
    let median = scores.good[scores.good.len() / 2];
    let odds = ((1.0 - AT_MEDIAN) / AT_MEDIAN).ln();
    detector.threshold = threshold;
    detector.scale = ((threshold - median) / odds).max(1e-3 * threshold.abs().max(1e-3));
    let against = against.map(|(gaussian, bank, control)| Against {
        by_label: caught(defects, &scores.defects, threshold),
        auroc: scores.auroc(),
        gaussian,
        bank,
        control,
    });
    Ok(Fitted { detector, learned: learned.items.len(), aside: aside.items.len(), false_alarms, against })
}

/// The threshold that is exceeded at most as often as asked, and how often it may be. Where too few pictures were kept aside
/// it is their highest score.
fn threshold(ascending: &[f64], asked: f64) -> (f64, f64) {
    let count = ascending.len();
    let place = ((1.0 - asked) * (count + 1) as f64).ceil() as usize;
    let place = place.clamp(1, count);
    (ascending[place - 1], (count + 1 - place) as f64 / (count + 1) as f64)
}

/// By label: how many defects exceed the threshold, of how many.
fn caught(defects: &[Item], scores: &[f64], threshold: f64) -> Vec<(String, usize, usize)> {
    let mut by_label = std::collections::BTreeMap::<&str, (usize, usize)>::new();
    for (item, score) in defects.iter().zip(scores) {
        let (caught, all) = by_label.entry(&item.label).or_default();
        *caught += usize::from(*score > threshold);
        *all += 1;
    }
    by_label.into_iter().map(|(label, (caught, all))| (label.to_owned(), caught, all)).collect()
}

/// What the same reaches on a backbone that has learned nothing.
fn control(
    given: &Given<'_>,
    backbone: &Backbone,
    size: usize,
    has_bank: bool,
    learned: &Labelled,
    aside: &Labelled,
    progress: &dyn Progress,
) -> Result<f64, MakeError> {
    let shuffled = backbone.shuffled(given.seed);
    let sized = Sized::new(&shuffled, size)?;
    let known = Patches::of(given, &sized, learned, progress)?;
    let detector = known.detector(has_bank.then(|| known.bank(given.seed)));
    let defects = given.defects.map_or(&[][..], |defects| &defects.items[..]);
    Ok(Scores::of(given, &sized, &detector, aside, defects, progress)?.auroc())
}

/// Patches of good pictures.
struct Patches {
    whitening: Whitening,
    dims: usize,
    /// By picture, one patch after the other.
    by_picture: Vec<Vec<f32>>,
}

impl Patches {
    fn of(
        given: &Given<'_>,
        sized: &Sized<'_>,
        learned: &Labelled,
        progress: &dyn Progress,
    ) -> Result<Self, MakeError> {
        let reader = Reader::new(sized.backbone.channels, given.with_template)?;
        let extractor = Extractor {
            graph: sized.patches(given.with_template)?,
            size: sized.size,
            inputs: inputs(given.with_template),
            output: "patches",
        };
        let mut items: Vec<&Item> = learned.items.iter().collect();
        if items.len() > MOST {
            fastrand::Rng::with_seed(given.seed).shuffle(&mut items);
            items.truncate(MOST);
        }
        progress.stage(&format!("learning good patches, {}", sized.backbone.name), items.len());
        let maps = extract(&reader, sized.backbone, &items, &[extractor], &[Flip::None], progress)?;
        let dims = sized.patch_dims();
        let mut moments = Moments::new(dims);
        let mut by_picture = Vec::with_capacity(maps.len());
        for map in maps.into_iter().flatten().flatten() {
            let patches = by_place(&map, dims);
            moments.add(&patches);
            by_picture.push(patches);
        }
        Ok(Self { whitening: moments.whitening()?, dims, by_picture })
    }

    fn detector(&self, bank: Option<Vec<f32>>) -> Detector {
        Detector { whitening: self.whitening.clone(), bank, threshold: 0.0, scale: 1.0 }
    }

    /// Whitened patches that lie as far apart as may be: each is the one that is farthest from those before it.
    fn bank(&self, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        let places = self.by_picture.first().map_or(0, |patches| patches.len() / self.dims.max(1));
        let mut all: Vec<(usize, usize)> = (0..self.by_picture.len())
            .flat_map(|picture| (0..places).map(move |place| (picture, place)))
            .collect();
        random.shuffle(&mut all);
        all.truncate(DRAWN);
        let patch = |(picture, place): &(usize, usize)| {
            let from = place * self.dims;
            self.whitening.apply(&self.by_picture[*picture][from..from + self.dims])
        };
        let drawn: Vec<Vec<f32>> = all.iter().map(patch).collect();
        let mut nearest = vec![f32::INFINITY; drawn.len()];
        let mut bank = Vec::new();
        let mut next = 0;
        for _ in 0..BANK.min(drawn.len()) {
            let chosen: Vec<f32> = drawn[next].iter().map(|value| f16::from_f32(*value).to_f32()).collect();
            for (distance, patch) in nearest.iter_mut().zip(&drawn) {
                let of_this: f32 = patch.iter().zip(&chosen).map(|(a, b)| (a - b) * (a - b)).sum();
                *distance = distance.min(of_this);
            }
            bank.extend(chosen);
            let farthest = nearest.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            next = farthest.map_or(0, |(at, _)| at);
        }
        debug_assert_eq!(squared_lengths(&bank, self.dims).len() * self.dims, bank.len());
        bank
    }
}

/// A map, `[channels, places]`, as `[places, channels]`.
fn by_place(map: &[f32], channels: usize) -> Vec<f32> {
    let places = map.len() / channels.max(1);
    (0..places).flat_map(|place| (0..channels).map(move |channel| map[channel * places + place])).collect()
}

/// Scores of pictures that the patches were not learned from.
struct Scores {
    /// Ascending.
    good: Vec<f64>,
    defects: Vec<f64>,
}

impl Scores {
    /// Runs the graph that will be shipped.
    fn of(
        given: &Given<'_>,
        sized: &Sized<'_>,
        detector: &Detector,
        aside: &Labelled,
        defects: &[Item],
        progress: &dyn Progress,
    ) -> Result<Self, MakeError> {
        let reader = Reader::new(sized.backbone.channels, given.with_template)?;
        let extractor = Extractor {
            graph: sized.detector(detector, given.with_template)?,
            size: sized.size,
            inputs: inputs(given.with_template),
            output: "logits",
        };
        let items: Vec<&Item> = aside.items.iter().chain(defects).collect();
        progress.stage("scoring pictures that were kept aside", items.len());
        let logits = extract(&reader, sized.backbone, &items, &[extractor], &[Flip::None], progress)?;
        let scores = logits.into_iter().flatten().flatten();
        let mut good: Vec<f64> = scores.map(|logits| f64::from(logits[1]) - f64::from(logits[0])).collect();
        let defects = good.split_off(aside.items.len());
        good.sort_by(f64::total_cmp);
        Ok(Self { good, defects })
    }

    fn auroc(&self) -> f64 {
        auroc(&self.good, &self.defects)
    }
}

/// What it does on pictures of which it has seen none, for people who measure it.
#[cfg(test)]
pub(super) fn judged(given: &Given<'_>, sized: &Sized<'_>, good: &Labelled) -> String {
    let progress = &crate::progress::Silent;
    let (learned, aside) = split(given);
    let defects = given.defects.map_or(&[][..], |defects| &defects.items[..]);
    let shuffled = sized.backbone.shuffled(given.seed);
    let control = Sized::new(&shuffled, sized.size).unwrap();
    let mut line = format!("{} learned", learned.items.len());
    for (name, sized) in [("Lite0", sized), ("shuffled", &control)] {
        let known = Patches::of(given, sized, &learned, progress).unwrap();
        for bank in [None, Some(known.bank(given.seed))] {
            let what = if bank.is_some() { "bank" } else { "Gaussian" };
            let detector = known.detector(bank);
            let held = Scores::of(given, sized, &detector, &aside, &[], progress).unwrap();
            let new = Scores::of(given, sized, &detector, good, defects, progress).unwrap();
            let (threshold, promised) = threshold(&held.good, given.false_alarms);
            let over = |scores: &[f64]| {
                scores.iter().filter(|score| **score > threshold).count() as f64 / scores.len() as f64
            };
            line += &format!(
                "; {name} {what} AUROC {:.3}, caught {:.2} at {:.3} false alarms ({promised:.3} promised)",
                new.auroc(),
                over(&new.defects),
                over(&new.good)
            );
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_exceeded_as_rarely_as_asked() {
        let scores: Vec<f64> = (1..=99).map(f64::from).collect();
        assert_eq!(threshold(&scores, 0.05), (95.0, 0.05));
        let (highest, guaranteed) = threshold(&scores[..19], 0.01);
        assert_eq!((highest, guaranteed), (19.0, 0.05), "19 pictures promise no more than one in twenty");
    }

    #[test]
    fn channels_of_a_place_stand_together() {
        assert_eq!(by_place(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], 2), [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    }
}
