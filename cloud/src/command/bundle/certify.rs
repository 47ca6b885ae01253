//! `bundle certify`: a bundle's certificates anew, on labelled samples that no model was trained on.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use millgate_authoring::certifying::report::{ProductReport, Report, ThresholdReport};
use millgate_authoring::certifying::{self, CertifyError, Options};
use millgate_authoring::data::{Asked, DataError, Labelled, Naming};
use millgate_authoring::draft::{Draft, DraftError};
use millgate_shared::bundle::{Bundle, BundleError};
use serde_json::json;

use super::progress::Bars;
use super::{open, table};
use crate::command::{CommandError, Output};

/// Flags of `bundle certify`.
#[derive(Debug, Args)]
pub struct CertifyArgs {
    /// Directory or `.tar.zst` of the bundle; it is not changed
    pub bundle: PathBuf,
    /// Labelled pictures that no model was trained on: a folder of classes, a .csv or a .jsonl
    #[arg(long, value_name = "DIR|FILE")]
    pub data: PathBuf,
    /// Product of the classes, where the data does not say
    #[arg(long)]
    pub product: Option<String>,
    /// Folder to write the certified bundle to; without it what would be certified is only shown
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Task to certify; without it the first that has every label of the data
    #[arg(long)]
    pub task: Option<String>,
    /// Share of wrong answers among those kept on the device, to be certified; several with commas
    #[arg(long, value_delimiter = ',', value_name = "SHARE,…")]
    pub risk: Vec<f64>,
    /// Chance that splits the data: the same data and seed give the same bytes
    #[arg(long, default_value_t = 20)]
    pub seed: u64,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Certifies the bundle, and shows what has changed.
pub fn certify(args: &CertifyArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let bundle = open(&args.bundle)?;
    let data = labelled(&bundle, &args.data, args.product.as_deref())?;
    let mut draft = draft(&bundle, &args.bundle)?;
    let standard = Options::default();
    let options = Options {
        task: args.task.clone(),
        risks: if args.risk.is_empty() { standard.risks.clone() } else { args.risk.clone() },
        seed: args.seed,
        ..standard
    };
    let bars = Bars::new();
    // Without a place of its own the copy that is run lies beside what is temporary.
    let beside = args.out.clone().unwrap_or_else(|| std::env::temp_dir().join("millgate-certify"));
    let report = certifying::certify(&mut draft, &beside, &data, &options, &bars);
    let report = report.map_err(|error| of_certifying(&args.bundle, error))?;
    let written = args.out.as_deref().map(|dir| write(&draft, dir)).transpose()?;
    drop(bars);
    match args.output {
        Output::Text => write_text(&report, written.as_ref(), out),
        Output::Json => {
            let bundle = written
                .as_ref()
                .map(|bundle| json!({ "path": bundle.dir(), "digest": bundle.digest().to_string() }));
            Ok(writeln!(out, "{}", json!({ "ok": true, "bundle": bundle, "report": report }))?)
        }
    }
}

/// A bundle in memory, to be changed.
pub(super) fn draft(bundle: &Bundle, path: &Path) -> Result<Draft, CommandError> {
    Draft::open(bundle).map_err(|error| of_draft(path, error))
}

/// Writes a draft to its place.
pub(super) fn write(draft: &Draft, dir: &Path) -> Result<Bundle, CommandError> {
    draft.write(dir).map_err(|error| of_draft(dir, error))
}

/// Reads labelled samples by a bundle's names.
pub(super) fn labelled(
    bundle: &Bundle,
    path: &Path,
    product: Option<&str>,
) -> Result<Labelled, CommandError> {
    labelled_with(bundle, path, product, 2)
}

/// Reads labelled samples for a bundle, so many of each class at least.
pub(super) fn labelled_with(
    bundle: &Bundle,
    path: &Path,
    product: Option<&str>,
    least_of_a_class: usize,
) -> Result<Labelled, CommandError> {
    let naming = Naming::of(bundle.manifest());
    let asked = Asked { naming: &naming, product, least_of_a_class };
    Labelled::read(path, &asked).map_err(of_data)
}

pub(super) fn of_data(error: DataError) -> CommandError {
    match error {
        DataError::Io { path, source } if source.kind() != std::io::ErrorKind::NotFound => {
            CommandError::Io(std::io::Error::new(source.kind(), format!("{}: {source}", path.display())))
        }
        other => CommandError::Value(other.to_string()),
    }
}

pub(super) fn of_bundle(path: &Path, source: BundleError) -> CommandError {
    CommandError::Bundle { path: path.to_path_buf(), source: Box::new(source) }
}

pub(super) fn of_draft(bundle: &Path, error: DraftError) -> CommandError {
    match error {
        DraftError::Io { path, source } => {
            CommandError::Io(std::io::Error::new(source.kind(), format!("{}: {source}", path.display())))
        }
        DraftError::Bundle(source) => of_bundle(bundle, source),
        other => CommandError::Value(other.to_string()),
    }
}

pub(super) fn of_certifying(bundle: &Path, error: CertifyError) -> CommandError {
    match error {
        CertifyError::Data(error) => of_data(error),
        CertifyError::Draft(error) => of_draft(bundle, error),
        CertifyError::Bundle(source) => of_bundle(bundle, source),
        other => CommandError::Value(other.to_string()),
    }
}

/// Writes what was certified, before and after.
pub(super) fn write_text(
    report: &Report,
    written: Option<&Bundle>,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let Report { bundle, before, after, task, samples, folds, golden, .. } = report;
    writeln!(out, "bundle   {bundle} {before} -> {after}, task `{task}`")?;
    writeln!(
        out,
        "samples  {samples}, in {folds} folds by group: what decides on one was fitted on the others"
    )?;
    writeln!(out, "\nexperts")?;
    let number = |number: f64| format!("{number:.3}");
    let three = |numbers: [f64; 3]| numbers.map(number).join(", ");
    let rows: Vec<Vec<String>> = (report.experts.iter())
        .map(|expert| {
            let after = match &expert.kept {
                Some(why) if expert.before == expert.after => format!("stays: {why}"),
                _ => three(expert.after),
            };
            let or_none = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), number);
            vec![
                expert.name.clone(),
                expert.samples.to_string(),
                or_none(expert.accuracy),
                or_none(expert.temperature),
                three(expert.before),
                after,
            ]
        })
        .collect();
    table::write(out, &["name", "samples", "right", "temperature", "competence before", "after"], &rows)?;
    writeln!(out, "  temperature: what its logits would be divided by; it is in its graph and stays")?;
    for product in &report.products {
        write_product(product, out)?;
    }
    writeln!(out, "\ngolden   {} decisions renewed, {} added", golden.renewed, golden.added)?;
    for note in &report.notes {
        writeln!(out, "note     {note}")?;
    }
    match written {
        Some(bundle) => writeln!(out, "written  {}  {}", bundle.dir().display(), bundle.digest())?,
        None => writeln!(out, "not written: name a folder (`--out`)")?,
    }
    Ok(())
}

fn write_product(product: &ProductReport, out: &mut impl Write) -> Result<(), CommandError> {
    let ProductReport { product: name, samples, local_accuracy, thresholds, .. } = product;
    writeln!(out, "\n{name}: {samples} samples, {:.2} % right on the device alone", 100.0 * local_accuracy)?;
    let row = |line: &ThresholdReport| {
        let share =
            |threshold: Option<f64>| threshold.map_or_else(|| "-".to_owned(), |risk| format!("{risk:.4}"));
        let what = match &line.none {
            Some(why) => format!("none: {why}"),
            None => format!("keeps {} of {}, {} of them wrong", line.kept, line.samples, line.errors),
        };
        let scope = if line.restricted { "known to be" } else { "any" };
        vec![
            format!("{} %", (line.risk * 1e4).round() / 100.0),
            scope.to_owned(),
            share(line.before),
            share(line.after),
            what,
        ]
    };
    let rows: Vec<Vec<String>> = thresholds.iter().map(row).collect();
    Ok(table::write(out, &["risk", "samples", "before", "after", ""], &rows)?)
}
