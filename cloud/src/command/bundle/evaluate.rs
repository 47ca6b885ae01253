//! `bundle evaluate`: what a bundle is worth on labelled samples. `compare`: two bundles on the same ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use millgate_authoring::data::Labelled;
use millgate_authoring::evaluation::{self, Evaluation, EvaluationError, Judged, compared};
use serde_json::json;

use super::certify::{labelled, of_bundle, of_data};
use super::open;
use super::progress::Bars;
use crate::command::{CommandError, Output};

/// Flags of `bundle evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Directory or `.tar.zst` of the bundle
    pub bundle: PathBuf,
    /// Labelled pictures that nothing was fitted on: a folder of classes, a .csv or a .jsonl
    #[arg(long, value_name = "DIR|FILE")]
    pub data: PathBuf,
    /// Product of the classes, where the data does not say
    #[arg(long)]
    pub product: Option<String>,
    /// File to write a page to that a person can read, the worst errors as pictures
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Flags of `bundle compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Directory or `.tar.zst` of the bundle that there was
    pub before: PathBuf,
    /// Directory or `.tar.zst` of the bundle that there would be
    pub after: PathBuf,
    /// Labelled pictures that nothing was fitted on: a folder of classes, a .csv or a .jsonl
    #[arg(long, value_name = "DIR|FILE")]
    pub data: PathBuf,
    /// Product of the classes, where the data does not say
    #[arg(long)]
    pub product: Option<String>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// One number of an evaluation.
type Number = fn(&Evaluation) -> f64;

/// Judges a bundle.
pub fn evaluate(args: &EvaluateArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let evaluation = judged(&args.bundle, &args.data, args.product.as_deref())?;
    if let Some(report) = &args.report {
        std::fs::write(report, evaluation::page(&evaluation)).map_err(|error| {
            CommandError::Io(std::io::Error::new(error.kind(), format!("{}: {error}", report.display())))
        })?;
    }
    match args.output {
        Output::Text => write_text(&evaluation, args.report.as_deref(), out),
        Output::Json => Ok(writeln!(out, "{}", json!({ "ok": true, "evaluation": evaluation }))?),
    }
}

/// Judges two bundles, and says what is better and what is worse.
pub fn compare(args: &CompareArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let product = args.product.as_deref();
    let before = judged(&args.before, &args.data, product)?;
    let after = judged(&args.after, &args.data, product)?;
    let comparison = compared(before, after);
    if args.output == Output::Json {
        return Ok(writeln!(out, "{}", json!({ "ok": true, "comparison": comparison }))?);
    }
    let (before, after) = (&comparison.before, &comparison.after);
    let name = |evaluation: &Evaluation| format!("{} {}", evaluation.bundle, evaluation.version);
    writeln!(out, "{:24} {:>18} {:>18}", "", name(before), name(after))?;
    let rows: [(&str, Number); 6] = [
        ("accuracy", |one| one.mixture.accuracy),
        ("macro-F1", |one| one.mixture.macro_f1),
        ("accuracy alone", |one| one.device.accuracy),
        ("calibration error", |one| one.mixture.calibration.error),
        ("share that asks the pool", |one| one.offload),
        ("known called unknown", |one| one.novelty.unknown as f64 / one.novelty.compared.max(1) as f64),
    ];
    for (what, of) in rows {
        writeln!(out, "{what:24} {:>18.4} {:>18.4}", of(before), of(after))?;
    }
    writeln!(
        out,
        "{:24} {:.4} (McNemar; that two equally good ones differ as much)",
        "p-value", comparison.p_value
    )?;
    for (what, samples) in [("right now", &comparison.gained), ("wrong now", &comparison.lost)] {
        writeln!(out, "{what:24} {}", samples.len())?;
        for sample in samples.iter().take(20) {
            writeln!(out, "  {sample}")?;
        }
    }
    Ok(())
}

fn judged(path: &Path, data: &Path, product: Option<&str>) -> Result<Evaluation, CommandError> {
    let bundle = open(path)?;
    let data: Labelled = labelled(&bundle, data, product)?;
    let bars = Bars::new();
    evaluation::evaluate(&bundle, &data, &bars).map_err(|error| match error {
        EvaluationError::Data(error) => of_data(error),
        EvaluationError::Bundle(source) => of_bundle(path, source),
        other => CommandError::Value(other.to_string()),
    })
}

fn write_text(
    evaluation: &Evaluation,
    report: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let Evaluation { mixture, device, pool, novelty, dispositions, .. } = evaluation;
    writeln!(
        out,
        "bundle     {} {}, task `{}`, {} samples",
        evaluation.bundle, evaluation.version, evaluation.task, evaluation.samples
    )?;
    let mut line = |name: &str, judged: &Judged| {
        writeln!(
            out,
            "{name:10} accuracy {:.4}, macro-F1 {:.4}, calibration error {:.4} (by chance under {:.4})",
            judged.accuracy, judged.macro_f1, judged.calibration.error, judged.calibration.band
        )
    };
    line("with pool", mixture)?;
    line("alone", device)?;
    line("all pool", pool)?;
    let [low, high] = evaluation.intervals.accuracy;
    let [low_f1, high_f1] = evaluation.intervals.macro_f1;
    writeln!(
        out,
        "chance     accuracy {low:.4} to {high:.4}, macro-F1 {low_f1:.4} to {high_f1:.4} in 95 of 100 cases, by {} groups",
        evaluation.intervals.groups
    )?;
    writeln!(out, "offload    {:.1} % of the samples ask the pool", 100.0 * evaluation.offload)?;
    for (product, accuracy) in &mixture.accuracy_by_product {
        let [unknown, compared] = novelty.by_product.get(product).copied().unwrap_or_default();
        writeln!(
            out,
            "product    {product}: accuracy {accuracy:.4}; {unknown} of {compared} known samples called unknown"
        )?;
    }
    for (label, class) in &mixture.classes {
        writeln!(
            out,
            "             F1 {:.3}, precision {:.3}, recall {:.3}  {label} ({})",
            class.f1, class.precision, class.recall, class.samples
        )?;
    }
    if !dispositions.counts.is_empty() {
        writeln!(
            out,
            "recipe     {} escapes, {} false rejects",
            dispositions.escapes, dispositions.false_rejects
        )?;
    }
    for worst in evaluation.worst.iter().take(5) {
        let (sample, truth, verdict) = (&worst.sample, &worst.truth, &worst.verdict);
        writeln!(out, "error      {sample}: {truth} taken for {verdict}, {:.3}", worst.probability)?;
    }
    if let Some(report) = report {
        writeln!(out, "page       {}", report.display())?;
    }
    Ok(())
}
