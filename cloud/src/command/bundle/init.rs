//! `bundle init`: a new bundle for a product, from a folder of classes or of good pictures.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use millgate_authoring::data::{Asked, DataError, Labelled, Naming};
use millgate_authoring::making::{self, Backbone, From, Made, MakeError, Request, good_pictures};
use millgate_shared::bundle::Bundle;
use serde_json::json;

use super::progress::Bars;
use super::total;
use crate::command::{CommandError, Output, table};

/// Flags of `bundle init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder to write the bundle to; it must not be there yet, or be empty
    pub out: PathBuf,
    /// Name of the product: the first half of its labels
    #[arg(long)]
    pub product: String,
    /// Labelled pictures: a folder with a folder of pictures for each class, a .csv or a .jsonl
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "good")]
    pub data: Option<PathBuf>,
    /// With --data: the classes of good parts, which are accepted, as the others are rejected. Without: a folder of good
    /// pictures, which an expert for anything else is made of
    #[arg(long, value_name = "CLASS,…|DIR", value_delimiter = ',')]
    pub good: Vec<String>,
    /// With good pictures alone: known defects, a folder of classes, to see what is caught
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "data")]
    pub defects: Option<PathBuf>,
    /// With good pictures alone: share of good parts that may be called anomalous
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, conflicts_with = "data")]
    pub false_alarms: f64,
    /// Frozen network that features come from: an ONNX file, or a folder that holds one
    #[arg(long, value_name = "FILE.onnx|DIR", default_value = making::SHIPPED)]
    pub backbone: PathBuf,
    /// Pixels a side: 64, 96 or 128; without it folds say which
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Chance: the same data and seed give the same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Makes the bundle, and says what it is worth.
pub fn init(args: &InitArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let started = std::time::Instant::now();
    let bars = Bars::new();
    let made = made(args, &bars)?;
    let bundle = made.draft.write(&args.out).map_err(|error| refused(&error.into()))?;
    drop(bars);
    let seconds = started.elapsed().as_secs_f64();
    match args.output {
        Output::Text => write_text(&made, &bundle, seconds, out)?,
        Output::Json => writeln!(out, "{}", to_json(&made, &bundle, seconds))?,
    }
    Ok(())
}

fn made(args: &InitArgs, bars: &Bars) -> Result<Made, CommandError> {
    let backbone = Backbone::read(&args.backbone).map_err(|error| refused(&error.into()))?;
    let labelled = |path: &Path| labelled(path, &args.product);
    let request = |from| Request {
        product: &args.product,
        backbone: &backbone,
        size: args.size,
        seed: args.seed,
        from,
    };
    let make = |from| making::make(&request(from), &args.out, bars).map_err(|error| refused(&error));
    if let Some(data) = &args.data {
        return make(From::Classes { data: &labelled(data)?, good: &args.good });
    }
    let [good] = &args.good[..] else {
        let message = "`good`: without --data it is one folder of good pictures";
        return Err(CommandError::Value(message.to_owned()));
    };
    let label = format!("{}/good", args.product);
    let good = good_pictures(Path::new(good), &label).map_err(|error| refused(&error))?;
    let defects = args.defects.as_deref().map(labelled).transpose()?;
    make(From::Good { good: &good, defects: defects.as_ref(), false_alarms: args.false_alarms })
}

/// Reads labelled pictures of a product.
fn labelled(path: &Path, product: &str) -> Result<Labelled, CommandError> {
    let naming = Naming::of_pictures("image", &["template"]);
    let asked = Asked { naming: &naming, product: Some(product), least_of_a_class: 2 };
    Labelled::read(path, &asked).map_err(|error| match error {
        DataError::Io { path, source } => refused(&MakeError::Io { path, source }),
        other => CommandError::Value(other.to_string()),
    })
}

/// What is wrong with what was given, or with the machine.
fn refused(error: &MakeError) -> CommandError {
    match error {
        MakeError::Io { source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
            CommandError::Io(std::io::Error::new(source.kind(), error.to_string()))
        }
        other => CommandError::Value(other.to_string()),
    }
}

fn write_text(made: &Made, bundle: &Bundle, seconds: f64, out: &mut impl Write) -> Result<(), CommandError> {
    let (bytes, files) = total(bundle);
    write!(out, "{}", made.report.text())?;
    let manifest = bundle.manifest();
    writeln!(out, "bundle     {} {}  {}", manifest.name, manifest.version, bundle.digest())?;
    writeln!(out, "           {}: {files} files, {} bytes", bundle.dir().display(), table::grouped(bytes))?;
    writeln!(out, "made in {seconds:.1} s")?;
    Ok(())
}

fn to_json(made: &Made, bundle: &Bundle, seconds: f64) -> serde_json::Value {
    let manifest = bundle.manifest();
    let (bytes, files) = total(bundle);
    json!({
        "ok": true,
        "bundle": {
            "path": bundle.dir(),
            "name": manifest.name,
            "version": manifest.version,
            "digest": bundle.digest().to_string(),
            "files": files,
            "bytes": bytes,
        },
        "report": made.report,
        "seconds": (seconds * 10.0).round() / 10.0,
    })
}
