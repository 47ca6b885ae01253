//! `engine`: ONNX Runtime in the state folder, from a file that somebody has downloaded. A pool that runs notices at its
//! next start.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::identity::StateArgs;
use super::{CommandError, Output, table};
use crate::engines::install::{self, InstallError};
use crate::engines::installed::{self, Installed, Origin, Version};
use crate::engines::search::{self, Candidate, Source};
use crate::guests::Guests;

/// Installs what is given, and says what that is. It is tried in `guests`, where those are apart.
pub fn install(
    from: &Path,
    state: &StateArgs,
    guests: &Guests,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let config = state.resolve()?;
    let installed = install::install(from, &config.state_dir, guests)?;
    if let Output::Json = output {
        writeln!(out, "{}", to_json(&installed))?;
        return Ok(());
    }
    let Installed { version, library, origin } = &installed;
    writeln!(out, "onnxruntime {version} is installed")?;
    if let Some(Origin { source, source_sha256, library_sha256 }) = origin {
        writeln!(out, "  from     {source}")?;
        if let Some(digest) = source_sha256 {
            writeln!(out, "           sha256 {digest}")?;
        }
        writeln!(out, "  library  {}\n           sha256 {library_sha256}", library.display())?;
    }
    match named(&config.engines.onnxruntime_library) {
        None => {
            writeln!(out, "`serve` and `check` find it with this state folder, from their next start on")?
        }
        Some(other) => writeln!(out, "it is not used: `engines.onnxruntime_library` says {other}")?,
    }
    Ok(())
}

fn named(configured: &Option<std::path::PathBuf>) -> Option<String> {
    configured.as_ref().map(|path| format!("{:?}", path.display().to_string()))
}

fn to_json(installed: &Installed) -> Value {
    let Installed { version, library, origin } = installed;
    json!({
        "engine": "onnxruntime",
        "version": version.to_string(),
        "library": library.display().to_string(),
        "source": origin.as_ref().map(|origin| &origin.source),
        "source_sha256": origin.as_ref().and_then(|origin| origin.source_sha256.as_ref()),
        "library_sha256": origin.as_ref().map(|origin| &origin.library_sha256),
    })
}

/// Lists what is there; the first is what a pool tries first.
pub fn list(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let config = state.resolve()?;
    let installed = installed::list(&config.state_dir);
    let is_off = config.engines.onnxruntime_library.as_ref().is_some_and(|path| path.as_os_str().is_empty());
    let candidates = match is_off {
        true => Vec::new(),
        false => search::candidates(config.engines.onnxruntime_library.as_deref(), &config.state_dir),
    };
    // What is installed is listed even where something else is named.
    let unused = installed.iter().map(|it| Candidate { source: Source::Installed, path: it.library.clone() });
    let unused = unused.filter(|candidate| !candidates.contains(candidate));
    let all: Vec<(bool, Candidate)> = candidates
        .iter()
        .cloned()
        .map(|candidate| (true, candidate))
        .chain(unused.map(|candidate| (false, candidate)))
        .collect();
    let origin = |path: &Path| {
        let installed = installed.iter().find(|installed| installed.library == path)?;
        installed.origin.clone()
    };
    let version = |path: &Path| {
        let of_folder = installed.iter().find(|installed| installed.library == path).map(|it| it.version);
        of_folder.or_else(|| Version::of_library(path)).map(|version| version.to_string())
    };
    if let Output::Json = output {
        let row = |(at, (is_tried, candidate)): (usize, &(bool, Candidate))| {
            json!({
                "engine": "onnxruntime",
                "version": version(&candidate.path),
                "from": candidate.source.as_str(),
                "library": candidate.path.display().to_string(),
                "is_first": at == 0 && *is_tried,
                "source": origin(&candidate.path).map(|origin| origin.source),
                "library_sha256": origin(&candidate.path).map(|origin| origin.library_sha256),
            })
        };
        let engines: Vec<Value> = all.iter().enumerate().map(row).collect();
        writeln!(out, "{}", json!({ "engines": engines }))?;
        return Ok(());
    }
    let row = |(at, (is_tried, candidate)): (usize, &(bool, Candidate))| {
        let rank = match (is_tried, at) {
            (false, _) => "not used",
            (true, 0) => "first",
            (true, _) => "next",
        };
        vec![
            "onnxruntime".to_owned(),
            version(&candidate.path).unwrap_or_else(|| "?".to_owned()),
            rank.to_owned(),
            candidate.source.as_str().to_owned(),
            candidate.path.display().to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().enumerate().map(row).collect();
    if rows.is_empty() {
        let folder = installed::folder(&config.state_dir);
        writeln!(
            out,
            "no ONNX Runtime: none is configured, installed in {} or among the system's libraries",
            folder.display()
        )?;
        return Ok(());
    }
    table::write(out, &["engine", "version", "used", "from", "library"], &rows)?;
    Ok(())
}

/// Takes an installed library out.
pub fn remove(version: &str, state: &StateArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let state_dir = state.resolve()?.state_dir;
    // As files are named, too.
    let number = version.strip_prefix("onnxruntime-").unwrap_or(version);
    let number: Version = number.parse().map_err(CommandError::Value)?;
    let path = installed::folder_of(&state_dir, number);
    let removed = installed::remove(&state_dir, number);
    if !removed.map_err(|source| InstallError::Io { path: path.clone(), source })? {
        return Err(CommandError::Value(format!(
            "onnxruntime {number} is not installed: no {}",
            path.display()
        )));
    }
    writeln!(out, "onnxruntime {number} is removed")?;
    Ok(())
}
