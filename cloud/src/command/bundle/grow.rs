//! `bundle add-expert` and `remove-expert`: an expert more or less, while every old decision stays as it was.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use millgate_authoring::growing::{self, Added, GrowError, Removed, Request};
use millgate_shared::bounded;
use millgate_shared::bundle::Bundle;
use serde_json::json;

use super::certify::{draft, labelled, of_bundle, of_certifying, of_data, of_draft, write};
use super::open;
use super::progress::Bars;
use crate::command::{CommandError, Output};

/// An expert's file larger than this is not read, in bytes.
const MODEL_LIMIT: u64 = 2 << 30;

/// Where an expert runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Where {
    /// On devices, and in the pool
    Edge,
    /// In the pool only
    Cloud,
}

/// Flags of `bundle add-expert`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Directory or `.tar.zst` of the bundle; it is not changed
    pub bundle: PathBuf,
    /// The expert: an ONNX file with inputs named as the bundle's modalities, and outputs `logits` and `feat`
    pub model: PathBuf,
    /// Folder to write the bundle to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What its logits stand for, in their order
    #[arg(long, value_delimiter = ',', required = true, value_name = "LABEL,…")]
    pub labels: Vec<String>,
    /// Product of the labels
    #[arg(long)]
    pub product: String,
    /// Name of the expert; made up of the product and the file's digest without it
    #[arg(long)]
    pub name: Option<String>,
    /// Where it runs
    #[arg(long, value_enum, default_value_t = Where::Edge)]
    pub tier: Where,
    /// Task that it answers; without it the first
    #[arg(long)]
    pub task: Option<String>,
    /// Labels of good parts: they are accepted, the others rejected
    #[arg(long, value_delimiter = ',', value_name = "LABEL,…")]
    pub good: Vec<String>,
    /// Labelled pictures of the product: by them the gate tells it, and the expert's competence is fitted
    #[arg(long, value_name = "DIR|FILE")]
    pub data: Option<PathBuf>,
    /// Labelled pictures of what the bundle knew, to prove on them too that nothing changes
    #[arg(long, value_name = "DIR|FILE")]
    pub old: Option<PathBuf>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Flags of `bundle remove-expert`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Directory or `.tar.zst` of the bundle; it is not changed
    pub bundle: PathBuf,
    /// Name of the expert
    pub name: String,
    /// Folder to write the bundle to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Adds an expert, and says what was proven.
pub fn add_expert(args: &AddArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let bundle = open(&args.bundle)?;
    let mut draft = draft(&bundle, &args.bundle)?;
    let model = bounded::read(&args.model, MODEL_LIMIT)
        .map_err(|error| CommandError::Value(format!("{}: {error}", args.model.display())))?;
    let product = Some(args.product.as_str());
    let data = args.data.as_deref().map(|path| labelled(&bundle, path, product)).transpose()?;
    let old = args.old.as_deref().map(|path| labelled(&bundle, path, None)).transpose()?;
    let file = args.model.display().to_string();
    let request = Request {
        file: &file,
        model: &model,
        labels: &args.labels,
        product: &args.product,
        name: args.name.as_deref(),
        tier: if args.tier == Where::Edge { "edge" } else { "cloud" },
        task: args.task.as_deref(),
        good: &args.good,
        data: data.as_ref(),
        old: old.as_ref(),
    };
    let bars = Bars::new();
    let added = growing::add(&mut draft, &args.out, &request, &bars);
    let added = added.map_err(|error| of_growing(&args.bundle, error))?;
    let written = write(&draft, &args.out)?;
    drop(bars);
    match args.output {
        Output::Text => write_added(&added, &written, out),
        Output::Json => {
            Ok(writeln!(out, "{}", json!({ "ok": true, "bundle": told(&written), "report": added }))?)
        }
    }
}

/// Removes an expert, and lists what went with it.
pub fn remove_expert(args: &RemoveArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let bundle = open(&args.bundle)?;
    let mut draft = draft(&bundle, &args.bundle)?;
    let bars = Bars::new();
    let removed = growing::remove(&mut draft, &args.out, &args.name, &bars);
    let removed = removed.map_err(|error| of_growing(&args.bundle, error))?;
    let written = write(&draft, &args.out)?;
    drop(bars);
    match args.output {
        Output::Text => write_removed(&removed, &written, out),
        Output::Json => {
            Ok(writeln!(out, "{}", json!({ "ok": true, "bundle": told(&written), "report": removed }))?)
        }
    }
}

fn told(bundle: &Bundle) -> serde_json::Value {
    json!({ "path": bundle.dir(), "digest": bundle.digest().to_string() })
}

fn of_growing(bundle: &Path, error: GrowError) -> CommandError {
    match error {
        GrowError::Data(error) => of_data(error),
        GrowError::Draft(error) => of_draft(bundle, error),
        GrowError::Bundle(source) => of_bundle(bundle, source),
        GrowError::Certify(error) => of_certifying(bundle, error),
        other => CommandError::Value(other.to_string()),
    }
}

fn write_added(added: &Added, bundle: &Bundle, out: &mut impl Write) -> Result<(), CommandError> {
    writeln!(out, "added    {} (version {})", added.expert, added.version)?;
    writeln!(out, "labels   {}", listed(&added.labels))?;
    writeln!(out, "proven   {} old decisions are the same bit for bit", added.proven)?;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    if let Some(found) = added.found {
        writeln!(out, "gate     gives {} of the new samples to it", percent(found))?;
    }
    if let Some(accuracy) = added.accuracy {
        writeln!(out, "right    on {} of the new samples, which is no certificate", percent(accuracy))?;
    }
    for note in &added.notes {
        writeln!(out, "note     {note}")?;
    }
    Ok(writeln!(out, "written  {}  {}", bundle.dir().display(), bundle.digest())?)
}

fn write_removed(removed: &Removed, bundle: &Bundle, out: &mut impl Write) -> Result<(), CommandError> {
    writeln!(out, "removed  {} (version {})", removed.expert, removed.version)?;
    for (what, names) in [
        ("labels that nobody answers any more", &removed.labels),
        ("products of which nothing is left", &removed.products),
        ("experts that named it as a substitute", &removed.substitutes),
        ("products whose certificates are void", &removed.uncertified),
        ("files", &removed.files),
    ] {
        writeln!(out, "  {what}: {}", listed(names))?;
    }
    writeln!(out, "  golden decisions: {}", removed.golden)?;
    if !removed.uncertified.is_empty() {
        writeln!(out, "note     certify them again: `bundle certify`")?;
    }
    Ok(writeln!(out, "written  {}  {}", bundle.dir().display(), bundle.digest())?)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
