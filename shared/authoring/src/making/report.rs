//! What was made, and what it is worth: for people and for machines.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::backbone::Backbone;
use super::{classes, good};
use crate::calibration::banks;
use crate::certifying;

/// A control this close is as good.
const AS_GOOD: f64 = 0.01;

/// What was made.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub product: String,
    pub backbone: Origin,
    /// Pictures by label.
    pub pictures: BTreeMap<String, usize>,
    /// Pictures that nothing was fitted on: what is calibrated and certified comes from them.
    pub held_out: usize,
    /// Pixels a side that the expert looks at.
    pub size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<Good>,
    /// The bank by which a picture is told from known ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<banks::Made>,
    /// What was certified on the pictures that were held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certified: Option<certifying::report::Report>,
    /// Median time of one decision on this machine, by one thread, in microseconds.
    pub decision_us: u64,
    /// What the person who asked should know.
    pub warnings: Vec<String>,
}

/// The frozen network.
#[derive(Debug, Clone, Serialize)]
pub struct Origin {
    pub name: String,
    pub sha256: String,
    pub licence: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notice: String,
}

impl From<&Backbone> for Origin {
    fn from(backbone: &Backbone) -> Self {
        let Backbone { name, digest, licence, notice, .. } = backbone.clone();
        Self { name, sha256: digest, licence, notice }
    }
}

/// An expert that knows classes.
#[derive(Debug, Clone, Serialize)]
pub struct Classes {
    pub head: &'static str,
    /// Folds by group; each was judged by a head that was fitted on the others.
    pub folds: usize,
    pub macro_f1: f64,
    /// By label.
    pub f1: BTreeMap<String, f64>,
    pub temperature: f64,
    /// Quality of this head on the network with the weights of each layer shuffled.
    pub control_macro_f1: f64,
    /// The control is as good: what the network has learned elsewhere plays no part here.
    pub control_is_as_good: bool,
    pub tried: Vec<Trial>,
}

/// One of the heads that were tried.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    pub size: usize,
    pub head: &'static str,
    pub macro_f1: f64,
}

/// An expert that knows good pictures.
#[derive(Debug, Clone, Serialize)]
pub struct Good {
    /// `whitened Gaussian`, or `bank of 1000 patches`.
    pub detector: String,
    pub learned: usize,
    pub aside: usize,
    pub false_alarms_asked: f64,
    /// A new good picture is called anomalous at most so often.
    pub false_alarms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defects: Option<Defects>,
}

/// What it does with known defects.
#[derive(Debug, Clone, Serialize)]
pub struct Defects {
    pub caught: usize,
    pub all: usize,
    /// Caught and all, by label.
    pub by_label: BTreeMap<String, [usize; 2]>,
    pub auroc: f64,
    pub auroc_gaussian: f64,
    pub auroc_bank: f64,
    pub control_auroc: f64,
    pub control_is_as_good: bool,
}

impl Classes {
    pub(super) fn of(fitted: &classes::Fitted, labels: &[String]) -> Self {
        let reached = &fitted.reached;
        let f1 = labels.iter().zip(&reached.by_class);
        let trial = |tried: &super::fitting::Tried| Trial {
            size: tried.size,
            head: tried.kind.as_str(),
            macro_f1: tried.macro_f1,
        };
        Self {
            head: fitted.kind.as_str(),
            folds: reached.folds,
            macro_f1: reached.macro_f1,
            f1: f1.filter_map(|(label, f1)| Some((label.clone(), (*f1)?))).collect(),
            temperature: reached.temperature,
            control_macro_f1: fitted.control.macro_f1,
            control_is_as_good: fitted.control.macro_f1 >= reached.macro_f1 - AS_GOOD,
            tried: fitted.tried.iter().map(trial).collect(),
        }
    }
}

impl Good {
    pub(super) fn of(fitted: &good::Fitted, asked: f64, dims: usize) -> Self {
        let detector = match &fitted.detector.bank {
            None => "whitened Gaussian".to_owned(),
            Some(bank) => format!("bank of {} patches", bank.len() / dims.max(1)),
        };
        let defects = fitted.against.as_ref().map(|against| {
            let (caught, all) = against.caught();
            let by_label = against.by_label.iter();
            Defects {
                caught,
                all,
                by_label: by_label.map(|(label, caught, all)| (label.clone(), [*caught, *all])).collect(),
                auroc: against.auroc,
                auroc_gaussian: against.gaussian,
                auroc_bank: against.bank,
                control_auroc: against.control,
                control_is_as_good: against.control >= against.auroc - AS_GOOD,
            }
        });
        Self {
            detector,
            learned: fitted.learned,
            aside: fitted.aside,
            false_alarms_asked: asked,
            false_alarms: fitted.false_alarms,
            defects,
        }
    }
}

impl Report {
    /// What was found, for people: a line each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _written = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let all: usize = self.pictures.values().sum();
        writeln!(
            out,
            "product    {}: {all} pictures of {} kinds, {} of them held out",
            self.product,
            self.pictures.len(),
            self.held_out
        )?;
        let licence =
            if self.backbone.licence.is_empty() { "licence not stated" } else { &self.backbone.licence };
        writeln!(out, "backbone   {} ({licence}), {} pixels a side", self.backbone.name, self.size)?;
        if let Some(classes) = &self.classes {
            writeln!(
                out,
                "expert     {}; macro-F1 {:.3} over {} folds by group",
                classes.head, classes.macro_f1, classes.folds
            )?;
            for (label, f1) in &classes.f1 {
                let pictures = self.pictures.get(label).copied().unwrap_or(0);
                writeln!(out, "             {f1:.3}  {label} ({pictures} pictures)")?;
            }
            let verdict = match classes.control_is_as_good {
                true => "as good: what the backbone learned elsewhere plays no part here",
                false => "so the backbone's training is what helps",
            };
            writeln!(
                out,
                "control    the same on shuffled weights: macro-F1 {:.3}, {verdict}",
                classes.control_macro_f1
            )?;
        }
        if let Some(good) = &self.good {
            writeln!(
                out,
                "expert     {} of {} good pictures; at most {:.1} % of good ones are called anomalous ({} kept aside)",
                good.detector,
                good.learned,
                100.0 * good.false_alarms,
                good.aside
            )?;
            match &good.defects {
                None => {
                    writeln!(out, "defects    none were given: what it catches is not known (--defects DIR)")?
                }
                Some(defects) => {
                    writeln!(
                        out,
                        "defects    catches {} of {}; AUROC {:.3} (Gaussian {:.3}, bank {:.3})",
                        defects.caught,
                        defects.all,
                        defects.auroc,
                        defects.auroc_gaussian,
                        defects.auroc_bank
                    )?;
                    for (label, [caught, all]) in &defects.by_label {
                        writeln!(out, "             {caught} of {all}  {label}")?;
                    }
                    let verdict = match defects.control_is_as_good {
                        true => "as good: what the backbone learned elsewhere plays no part here",
                        false => "so the backbone's training is what helps",
                    };
                    writeln!(
                        out,
                        "control    the same on shuffled weights: AUROC {:.3}, {verdict}",
                        defects.control_auroc
                    )?;
                }
            }
        }
        if let Some(known) = &self.known {
            let of = if known.is_split { "that were kept aside" } else { "each beside the others" };
            writeln!(
                out,
                "unknown    told by {} known pictures, calibrated on {} {of}",
                known.rows, known.calibration
            )?;
        }
        if let Some(certified) = &self.certified {
            write_certified(certified, out)?;
        }
        writeln!(
            out,
            "decision   {:.1} ms on this machine, by one thread",
            self.decision_us as f64 / 1000.0
        )?;
        for warning in &self.warnings {
            writeln!(out, "note       {warning}")?;
        }
        Ok(())
    }
}

fn write_certified(certified: &certifying::report::Report, out: &mut String) -> std::fmt::Result {
    for product in &certified.products {
        let free = product.thresholds.iter().filter(|threshold| !threshold.restricted);
        let (held, none): (Vec<_>, Vec<_>) = free.partition(|threshold| threshold.after.is_some());
        for threshold in &held {
            writeln!(
                out,
                "certified  at most {:.1} % errors among what is decided locally: {} of {} held-out pictures",
                100.0 * threshold.risk,
                threshold.kept,
                threshold.samples
            )?;
        }
        if let (true, Some(reason)) =
            (held.is_empty(), none.last().and_then(|threshold| threshold.none.as_ref()))
        {
            writeln!(out, "certified  nothing: {reason}")?;
        }
    }
    for note in &certified.notes {
        writeln!(out, "note       {note}")?;
    }
    Ok(())
}
