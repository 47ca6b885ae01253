//! `bundle inspect|verify|pack`: a bundle in hand, as a directory or a `.tar.zst`. `init` and its like make and judge one.
//! `switch`: the one of a running pool.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use millgate_shared::bundle::archive;
use millgate_shared::bundle::manifest::FILE_NAME;
use millgate_shared::bundle::{Bundle, BundleError};
use millgate_shared::proof::golden::Passed;
use millgate_shared::proof::variant;
use serde_json::json;

use super::{CommandError, Output, table};
use crate::guests::Guests;
use crate::hosted::proving;

mod certify;
mod evaluate;
mod grow;
mod improve;
mod init;
mod inspect;
mod progress;
mod switch;

pub use certify::{CertifyArgs, certify};
pub use evaluate::{CompareArgs, EvaluateArgs, compare, evaluate};
pub use grow::{AddArgs, RemoveArgs, add_expert, remove_expert};
pub use improve::{ImproveArgs, improve};
pub use init::{InitArgs, init};
pub use inspect::inspect;
pub use switch::{rollback, status, switch};

fn open(path: &Path) -> Result<Bundle, CommandError> {
    Bundle::open(path).map_err(|source| refused(path, source))
}

fn refused(path: &Path, source: BundleError) -> CommandError {
    CommandError::Bundle { path: path.to_path_buf(), source: Box::new(source) }
}

/// Size of a file of an open bundle, in bytes.
fn size(bundle: &Bundle, file: &str) -> u64 {
    bundle.dir().join(file).metadata().map_or(0, |meta| meta.len())
}

/// Sizes of all its files together, in bytes, and their number.
fn total(bundle: &Bundle) -> (u64, usize) {
    let files = bundle.files().chain([FILE_NAME]);
    files.fold((0, 0), |(bytes, count), file| (bytes + size(bundle, file), count + 1))
}

/// Checks digests, loads every model, runs the golden samples, and says what passed. Models run in `guests`, where those are
/// apart: one that crashes is an error that names it.
pub fn verify(
    path: &Path,
    guests: &Guests,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    match (verified(path, guests), output) {
        (Ok(verified), Output::Text) => write_text(&verified, out),
        (Ok(verified), Output::Json) => Ok(writeln!(out, "{}", verified.json())?),
        (Err(error), Output::Text) => Err(error),
        (Err(error), Output::Json) => {
            writeln!(out, "{}", json!({ "ok": false, "error": error.to_string() }))?;
            Err(error)
        }
    }
}

/// What passed.
struct Verified {
    bundle: Bundle,
    passed: Passed,
    experts: usize,
    variants: usize,
    ms: u64,
}

impl Verified {
    fn json(&self) -> serde_json::Value {
        let manifest = self.bundle.manifest();
        let (bytes, files) = total(&self.bundle);
        json!({
            "ok": true,
            "name": manifest.name,
            "version": manifest.version,
            "digest": self.bundle.digest().to_string(),
            "signed": self.bundle.is_signed(),
            "files": files,
            "bytes": bytes,
            "models": self.passed.models,
            "experts": self.experts,
            "variants": self.variants,
            "golden": { "rows": self.passed.rows, "decisions": self.passed.decisions },
            "ms": self.ms,
        })
    }
}

fn verified(path: &Path, guests: &Guests) -> Result<Verified, CommandError> {
    let started = Instant::now();
    let bundle = open(path)?;
    let passed = proving::passed(&bundle, guests).map_err(|source| refused(path, source))?;
    let variants = variant::check_all(&bundle).map_err(|source| refused(path, source))?;
    let experts = bundle.manifest().experts.len();
    Ok(Verified { passed, experts, variants, ms: started.elapsed().as_millis() as u64, bundle })
}

fn write_text(verified: &Verified, out: &mut impl Write) -> Result<(), CommandError> {
    let Verified { bundle, passed, experts, variants, ms } = verified;
    let manifest = bundle.manifest();
    let (bytes, files) = total(bundle);
    let signature = match bundle.is_signed() {
        true => "present, not checked by this version",
        false => "none",
    };
    writeln!(out, "bundle     {} {}  {}", manifest.name, manifest.version, bundle.digest())?;
    writeln!(out, "files      {files}, {} bytes: digests as listed, none unlisted", table::grouped(bytes))?;
    writeln!(out, "signature  {signature}")?;
    writeln!(out, "models     {} loaded, {experts} of them experts", passed.models)?;
    writeln!(
        out,
        "golden     {} model outputs and {} whole decisions as expected",
        passed.rows, passed.decisions
    )?;
    if *variants > 0 {
        writeln!(out, "variants   {variants} with the inputs and outputs of their experts, not run")?;
    }
    writeln!(out, "passed in {ms} ms")?;
    Ok(())
}

/// Packs a directory into one file, and opens that file again to prove it.
pub fn pack(path: &Path, file: &Path, out: &mut impl Write) -> Result<(), CommandError> {
    let bundle = open(path)?;
    let packed = archive::pack(&bundle, file).map_err(|source| match source {
        // The bundle was fine; the place to write to was not.
        BundleError::Io { path, source } => {
            CommandError::Io(std::io::Error::new(source.kind(), format!("{}: {source}", path.display())))
        }
        source => refused(path, source),
    })?;
    let reopened = open(file)?;
    let (bytes, files) = total(&reopened);
    let manifest = reopened.manifest();
    writeln!(out, "{}  {} bytes", file.display(), table::grouped(packed))?;
    writeln!(out, "{} {}  {}", manifest.name, manifest.version, reopened.digest())?;
    writeln!(out, "opened again: {files} files, {} bytes, digests as listed", table::grouped(bytes))?;
    Ok(())
}
