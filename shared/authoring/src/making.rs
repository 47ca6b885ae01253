//! A new bundle from a folder of pictures: of classes, or of good pictures alone.
//!
//! The network that features come from is frozen; what is fitted is linear and takes seconds. So that nobody mistakes for the
//! backbone's work what any network would give, the same is fitted on one with shuffled weights, and shown beside it.
//!
//! * `backbone`: the frozen network. `extracting`: what graphs make of pictures. `measures`: what is reached.
//! * `graphs`: the graphs of a new bundle. `fitting`: which head on which features.
//! * `classes`: an expert that knows classes. `good`: one that knows good pictures alone.
//! * `drafting`: a bundle put together. `report`, `card`: what it is worth. `timing`: what a decision takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millgate_engine::Tract;
use millgate_mixture::proof::golden;
use millgate_mixture::runner::{Holding, Models};
use millgate_model::manifest::product_of;
use millgate_model::recipe::Disposition;

use crate::calibration::banks::{self, BanksError};
use crate::certifying::{self, CertifyError, Options};
use crate::data::{Item, Labelled};
use crate::draft::{Draft, DraftError};
use crate::linear::LinearError;
use crate::progress::Progress;

mod backbone;
mod card;
mod classes;
mod drafting;
mod extracting;
mod fitting;
mod good;
mod graphs;
#[cfg(test)]
mod measured;
mod measures;
mod pictures;
mod report;
#[cfg(test)]
mod tests;
mod timing;

pub use backbone::{Backbone, BackboneError, SHIPPED};
pub use pictures::good_pictures;
pub use report::{Classes, Defects, Good, Origin, Report, Trial};

use drafting::{Expert, Plan};
use graphs::Sized;

/// Sizes that are tried where none is asked for.
const SIZES: [usize; 3] = [64, 96, 128];
/// The size of an encoder beside an expert that looks at pictures itself.
const SMALL: usize = 64;
/// Sizes that can be asked for.
pub const CHOICES: [usize; 3] = [64, 96, 128];
/// Fewer pictures of a class are few.
const FEW: usize = 10;
/// Pictures that a conformal test at 2 % takes, with a few to spare.
const CALIBRATION: f64 = 52.0;
/// With fewer pictures than this in all, a fifth is held out, and nothing is promised.
const WORTH_CALIBRATING: usize = 100;
/// With fewer pictures held out than this, the expert's own confidence is taken for its competence.
const FEWEST_CERTIFIED: usize = 20;
/// Share of known pictures that may be called unknown, unless the operator says otherwise.
const FALSE_ALARMS: f64 = 0.02;
/// What the name of an expert that knows classes ends with, after its product.
pub const HEAD: &str = "-head";
/// The version of a new bundle.
const VERSION: &str = "1.0.0";

/// A bundle that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub product: &'a str,
    pub backbone: &'a Backbone,
    /// Pixels a side; without it folds say which.
    pub size: Option<usize>,
    pub seed: u64,
    pub from: From<'a>,
}

/// What it is made of.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// Pictures of several classes. Labels of `good` classes are accepted, the others rejected; with none, nothing is said
    /// of what to do with a part.
    Classes { data: &'a Labelled, good: &'a [String] },
    /// Good pictures alone, and known defects to judge by.
    Good { good: &'a Labelled, defects: Option<&'a Labelled>, false_alarms: f64 },
}

/// A bundle that was made, not written yet.
#[derive(Debug, Clone)]
pub struct Made {
    pub draft: Draft,
    pub report: Report,
    /// Samples that nothing was fitted on.
    pub held_out: Labelled,
    /// Samples that the expert was fitted on.
    pub fitted_on: Labelled,
    /// Samples of every label that nothing was fitted on: with good pictures alone, known defects are among them.
    pub judged_on: Labelled,
}

/// Why no bundle can be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error(transparent)]
    Linear(#[from] LinearError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error(transparent)]
    Certify(#[from] CertifyError),
    #[error(transparent)]
    Banks(#[from] BanksError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file that cannot be used.
    #[error("{}: {message}", path.display())]
    Picture { path: PathBuf, message: String },
    /// A flag's value.
    #[error("`{key}` {message}")]
    Refused { key: &'static str, message: String },
    #[error("{0}")]
    Other(String),
}

/// Makes a bundle in memory: fitted, and certified as far as what was held out bears. `beside` is where it will be written.
pub fn make(request: &Request<'_>, beside: &Path, progress: &dyn Progress) -> Result<Made, MakeError> {
    check_product(request.product)?;
    if let Some(size) = request.size
        && !CHOICES.contains(&size)
        && request.backbone.only_size != Some(size)
    {
        let message = format!("is {size}: 64, 96 and 128 pixels can be had");
        return Err(MakeError::Refused { key: "size", message });
    }
    let mut made = match request.from {
        From::Classes { data, good } => of_classes(request, data, good, progress)?,
        From::Good { good, defects, false_alarms } => {
            of_good(request, good, defects, false_alarms, progress)?
        }
    };
    know(request, &mut made, beside, progress)?;
    certify(request, &mut made, beside, progress)?;
    prove(&mut made, beside)?;
    made.draft.insert("MODEL_CARD.md", card::card(&made.report));
    for (name, text) in &request.backbone.legal {
        made.draft.insert(format!("backbone/{name}"), text.clone());
    }
    progress.stage("timing decisions", 1);
    made.report.decision_us = timing::decision_us(&made, beside)?;
    Ok(made)
}

/// Lets the bundle know its pictures: a bank of known ones, and bounds of how they look.
fn know(
    request: &Request<'_>,
    made: &mut Made,
    beside: &Path,
    progress: &dyn Progress,
) -> Result<(), MakeError> {
    if matches!(request.from, From::Good { .. }) {
        // Its expert says itself how unlike the good ones a picture is, at a rate of false alarms of its own.
        return Ok(());
    }
    let models = {
        let trial = made.draft.trial(beside)?;
        let models = Models::load(trial.bundle(), Holding::Edge, &Tract);
        Arc::new(models.map_err(|error| MakeError::Other(error.to_string()))?)
    };
    let known = (&made.fitted_on, &made.held_out);
    let bank = banks::attach(&mut made.draft, &models, request.product, known, FALSE_ALARMS, progress)?;
    let takes = banks::enough(FALSE_ALARMS);
    match bank {
        Some(bank) if bank.calibration >= takes => {}
        bank => made.report.warnings.push(format!(
            "no picture can be called unknown at {:.0} % of false alarms: it takes {takes} known ones to calibrate that, and there \
             are {}",
            100.0 * FALSE_ALARMS,
            bank.map_or(0, |bank| bank.calibration)
        )),
    }
    made.report.known = bank;
    Ok(())
}

/// Fits competence, certifies thresholds and adds golden decisions, on pictures that the expert was not fitted on.
fn certify(
    request: &Request<'_>,
    made: &mut Made,
    beside: &Path,
    progress: &dyn Progress,
) -> Result<(), MakeError> {
    if made.judged_on.items.len() < FEWEST_CERTIFIED {
        made.report.warnings.push(format!(
            "{} pictures that show all labels were held out, too few to calibrate or certify anything ({FEWEST_CERTIFIED} at \
             least): the expert's own confidence stands for its competence, and no threshold is certified",
            made.judged_on.items.len()
        ));
        return Ok(());
    }
    let options = Options { is_required: false, seed: request.seed, ..Options::default() };
    let report = certifying::certify(&mut made.draft, beside, &made.judged_on, &options, progress)?;
    // It is new, whatever was renewed on the way.
    made.draft.manifest.insert("version", toml_edit::value(VERSION));
    made.report.certified = Some(report);
    Ok(())
}

/// Runs the golden samples as whoever loads the bundle will. A golden decision that turns out to be on an odd picture, which is
/// called unknown, would refuse the bundle: then none is kept.
fn prove(made: &mut Made, beside: &Path) -> Result<(), MakeError> {
    let other = |error: &dyn std::fmt::Display| MakeError::Other(error.to_string());
    let check = |draft: &Draft| -> Result<Option<String>, MakeError> {
        let trial = draft.trial(beside)?;
        let models = Models::load(trial.bundle(), Holding::Edge, &Tract).map_err(|error| other(&error))?;
        Ok(golden::check(trial.bundle(), &Arc::new(models)).err().map(|error| error.to_string()))
    };
    let Some(reason) = check(&made.draft)? else { return Ok(()) };
    let files: Vec<String> =
        made.draft.parsed()?.golden.decisions.into_iter().flat_map(|one| one.parts.into_values()).collect();
    for file in files {
        made.draft.remove_below(&file);
    }
    if let Some(table) = made.draft.manifest.get_mut("golden").and_then(toml_edit::Item::as_table_mut) {
        table.remove("decisions");
    }
    made.report.warnings.push(format!("no golden decision is kept: {reason}"));
    match check(&made.draft)? {
        None => Ok(()),
        Some(reason) => Err(MakeError::Other(reason)),
    }
}

fn check_product(product: &str) -> Result<(), MakeError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if product.is_empty() || product.starts_with('.') || product.len() > 48 || !product.bytes().all(plain) {
        let message = format!("is `{product}`: it must be 1 to 48 letters, digits, `.`, `_`, `+` or `-`");
        return Err(MakeError::Refused { key: "product", message });
    }
    Ok(())
}

fn sizes(request: &Request<'_>, usual: &[usize]) -> Vec<usize> {
    match (request.backbone.only_size, request.size) {
        (Some(only), _) => vec![only],
        (None, Some(size)) => vec![size],
        (None, None) => usual.to_vec(),
    }
}

fn of_classes(
    request: &Request<'_>,
    data: &Labelled,
    good: &[String],
    progress: &dyn Progress,
) -> Result<Made, MakeError> {
    let labels = classes::labels(data);
    if labels.len() < 2 {
        let message = format!(
            "holds one class, `{}`: give another one beside it, or good pictures alone by --good DIR without --data",
            labels.first().map_or("", String::as_str)
        );
        return Err(MakeError::Refused { key: "data", message });
    }
    if let Some(label) = labels.iter().find(|label| product_of(label) != request.product) {
        let message = format!("holds `{label}`, which is not of product `{}`", request.product);
        return Err(MakeError::Refused { key: "data", message });
    }
    let dispositions = dispositions(request.product, &labels, good)?;
    let pictures = counts(data);
    let mut warnings = Vec::new();
    for (label, count) in pictures.iter().filter(|(_, count)| **count < FEW) {
        warnings.push(format!("`{label}` has {count} pictures; {FEW} and more make it much better"));
    }
    let all = data.items.len();
    let share = if all < WORTH_CALIBRATING { 0.2 } else { (CALIBRATION / all as f64).clamp(0.25, 0.5) };
    let (kept, held_out) = data.holdout(share, request.seed);
    let with_template = classes::has_template(data)?;
    let fitted = classes::fit(&kept, request.backbone, &sizes(request, &SIZES), request.seed, progress)?;

    let sized = Sized::new(request.backbone, fitted.size)?;
    let looks = with_template.then(|| sized.clone());
    let expert = Expert {
        name: format!("{}{HEAD}", request.product),
        file: classes::expert(&fitted, &sized, with_template)?,
        feature_dims: if with_template { sized.compared_dims() } else { sized.dims() },
        looks,
    };
    let samples = labels.iter().filter_map(|label| held_out.items.iter().find(|item| item.label == *label));
    let plan = Plan {
        product: request.product,
        description: format!("{} classes of {}, on a frozen backbone", labels.len(), request.product),
        dispositions,
        encoder: sized,
        expert,
        with_template,
        samples: samples.collect(),
        labels: labels.clone(),
    };
    let report = Report {
        product: request.product.to_owned(),
        backbone: request.backbone.into(),
        pictures,
        held_out: held_out.items.len(),
        size: fitted.size,
        classes: Some(Classes::of(&fitted, &labels)),
        good: None,
        certified: None,
        known: None,
        decision_us: 0,
        warnings,
    };
    let draft = drafting::draft(&plan)?;
    Ok(Made { draft, report, judged_on: held_out.clone(), held_out, fitted_on: kept })
}

fn of_good(
    request: &Request<'_>,
    good: &Labelled,
    defects: Option<&Labelled>,
    false_alarms: f64,
    progress: &dyn Progress,
) -> Result<Made, MakeError> {
    if !(false_alarms > 0.0 && false_alarms < 0.5) {
        let message = format!("is {false_alarms}: it must be over 0 and under 0.5");
        return Err(MakeError::Refused { key: "false-alarms", message });
    }
    let with_template = classes::has_template(good)?;
    if let Some(defects) = defects
        && classes::has_template(defects)? != with_template
    {
        let message = "and good pictures must both have templates, or neither".to_owned();
        return Err(MakeError::Refused { key: "defects", message });
    }
    // Measured: with a template fewer pixels are better, and without one more gain nothing.
    let size = sizes(request, if with_template { &[64] } else { &[96] })[0];
    let sized = Sized::new(request.backbone, size)?;
    let given = good::Given { good, defects, with_template, false_alarms, seed: request.seed };
    let fitted = good::fit(&given, &sized, progress)?;

    let labels = ["good", "anomalous"].map(|class| format!("{}/{class}", request.product));
    let dispositions = labels.iter().cloned().zip([Disposition::Accept, Disposition::Reject]);
    let small = request.backbone.only_size.unwrap_or(SMALL);
    let (kept, aside) = good::split(&given);
    let plan = Plan {
        product: request.product,
        description: format!("Good pictures of {}, on a frozen backbone", request.product),
        labels: labels.to_vec(),
        dispositions: dispositions.collect(),
        encoder: Sized::new(request.backbone, small)?,
        expert: Expert {
            name: format!("{}-good", request.product),
            file: sized.detector(&fitted.detector, with_template)?,
            feature_dims: sized.dims(),
            looks: Some(sized.clone()),
        },
        with_template,
        samples: aside.items.iter().collect(),
    };
    let mut warnings = Vec::new();
    if fitted.false_alarms > false_alarms {
        let aside = (1.0 / false_alarms).ceil() - 1.0;
        warnings.push(format!(
            "{:.1} % of false alarms cannot be promised with {} pictures kept aside: it takes {aside:.0}, of {:.0} good ones in all",
            100.0 * false_alarms,
            fitted.aside,
            (aside / good::ASIDE).ceil(),
        ));
    }
    if good.items.len() < WORTH_CALIBRATING {
        warnings.push(format!("{} good pictures are few: 100 and more are better", good.items.len()));
    }
    let mut pictures = counts(good);
    pictures.extend(defects.map(counts).unwrap_or_default());
    let report = Report {
        product: request.product.to_owned(),
        backbone: request.backbone.into(),
        pictures,
        held_out: aside.items.len(),
        size,
        classes: None,
        good: Some(Good::of(&fitted, false_alarms, sized.patch_dims())),
        certified: None,
        known: None,
        decision_us: 0,
        warnings,
    };
    // Whatever is wrong with a part, this expert calls it anomalous. Good ones alone say nothing of its competence.
    let mut judged_on = Labelled::default();
    if let Some(defects) = defects {
        judged_on.items.extend(aside.items.iter().cloned());
        judged_on
            .items
            .extend(defects.items.iter().map(|item| Item { label: labels[1].clone(), ..item.clone() }));
    }
    let draft = drafting::draft(&plan)?;
    Ok(Made { draft, report, judged_on, held_out: aside, fitted_on: kept })
}

fn counts(data: &Labelled) -> BTreeMap<String, usize> {
    data.counts().into_iter().map(|(label, count)| (label.to_owned(), count)).collect()
}

/// What to do with a part by its label, where good classes were named.
fn dispositions(
    product: &str,
    labels: &[String],
    good: &[String],
) -> Result<BTreeMap<String, Disposition>, MakeError> {
    let named: Vec<String> = good
        .iter()
        .map(|class| if class.contains('/') { class.clone() } else { format!("{product}/{class}") })
        .collect();
    if let Some(unknown) = named.iter().find(|label| !labels.contains(label)) {
        let message =
            format!("names `{unknown}`, which is no class of the data: it has {}", labels.join(", "));
        return Err(MakeError::Refused { key: "good", message });
    }
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let of = |label: &String| if named.contains(label) { Disposition::Accept } else { Disposition::Reject };
    Ok(labels.iter().map(|label| (label.clone(), of(label))).collect())
}
