//! `bundle improve`: a bundle of `init` made anew with what people said of its decisions.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use millgate_authoring::evaluation::Comparison;
use millgate_authoring::improving::{self, Given, Improved};
use millgate_authoring::making::{self, Backbone};
use millgate_shared::bundle::Bundle;
use serde_json::json;

use super::certify::{labelled, labelled_with};
use super::open;
use super::progress::Bars;
use crate::command::{CommandError, Output};

/// Samples that are named at most, of those that changed.
const NAMED: usize = 20;

/// Flags of `bundle improve`.
#[derive(Debug, Args)]
pub struct ImproveArgs {
    /// Directory or `.tar.zst` of the bundle that `init` has made of classes; it is not changed
    pub bundle: PathBuf,
    /// Folder to write the new bundle to; it must not be there yet, or be empty
    pub out: PathBuf,
    /// What people said: the folder that `millgate-edge label export` has written, or other labelled pictures
    #[arg(long, value_name = "DIR|FILE")]
    pub labels: PathBuf,
    /// The pictures that the bundle was made of: a folder of classes, a .csv or a .jsonl
    #[arg(long, value_name = "DIR|FILE")]
    pub data: PathBuf,
    /// Frozen network that features come from: an ONNX file, or a folder that holds one
    #[arg(long, value_name = "FILE.onnx|DIR", default_value = making::SHIPPED)]
    pub backbone: PathBuf,
    /// Chance: the same data and seed give the same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Makes the bundle anew, and says what is better and what is worse.
pub fn improve(args: &ImproveArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let old = open(&args.bundle)?;
    let value = |error: &dyn std::fmt::Display| CommandError::Value(error.to_string());
    let backbone = Backbone::read(&args.backbone).map_err(|error| value(&error))?;
    let product = old.manifest().products.first().map(|product| product.name.as_str());
    let data = labelled(&old, &args.data, product)?;
    let said = labelled_with(&old, &args.labels, product, 1)?;
    let bars = Bars::new();
    let given = Given { bundle: &old, old: &data, said: &said, backbone: &backbone, seed: args.seed };
    let improved = improving::improve(&given, &args.out, &bars).map_err(|error| value(&error))?;
    let new = improved.made.draft.write(&args.out).map_err(|error| value(&error))?;
    let judged = improving::judge(&old, &new, &improved, &bars).map_err(|error| value(&error))?;
    drop(bars);
    match args.output {
        Output::Text => write_text(&improved, judged.as_ref(), &new, out),
        Output::Json => {
            let Improved { made, merged } = &improved;
            let bundle = json!({
                "path": new.dir(),
                "name": new.manifest().name,
                "version": new.manifest().version,
                "digest": new.digest().to_string(),
            });
            let told = json!({
                "ok": true, "bundle": bundle, "labels": merged, "comparison": judged, "report": made.report
            });
            Ok(writeln!(out, "{told}")?)
        }
    }
}

fn write_text(
    improved: &Improved,
    judged: Option<&Comparison>,
    new: &Bundle,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let Improved { made, merged } = improved;
    write!(out, "{}", made.report.text())?;
    writeln!(
        out,
        "labels     {} pictures added, {} corrected, {} confirmed",
        merged.added,
        merged.corrected.len(),
        merged.confirmed
    )?;
    for [name, before, after] in merged.corrected.iter().take(NAMED) {
        writeln!(out, "             {name}: {before} is {after} now")?;
    }
    if !merged.new_labels.is_empty() {
        writeln!(out, "new        {}", merged.new_labels.join(", "))?;
    }
    if let Some(Comparison { before, after, gained, lost, p_value }) = judged {
        writeln!(
            out,
            "held out   {} pictures: accuracy {:.4} before, {:.4} now; macro-F1 {:.4} before, {:.4} now (the old bundle may have been \
             fitted on some of them)",
            after.samples,
            before.mixture.accuracy,
            after.mixture.accuracy,
            before.mixture.macro_f1,
            after.mixture.macro_f1
        )?;
        writeln!(out, "p-value    {p_value:.4} (that two equally good ones differ as much)")?;
        for (what, samples) in [("right now", gained), ("wrong now", lost)] {
            writeln!(out, "{what:10} {}", samples.len())?;
            for sample in samples.iter().take(NAMED) {
                writeln!(out, "             {sample}")?;
            }
        }
    }
    let manifest = new.manifest();
    writeln!(out, "bundle     {} {}  {}", manifest.name, manifest.version, new.digest())?;
    Ok(())
}
