//! Labelled data, as `millgate-cloud bundle certify`, `evaluate` and `improve` read it: `labels.jsonl` with the pictures below
//! `pictures/`, and beside it `said.jsonl` with who said what of which decision.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use millgate_shared::digest::sha256_hex;
use millgate_shared::{bounded, files};
use serde_json::{Map, Value, json};

use super::book::PICTURES;
use super::kept::{Kept, Row};
use crate::input::FILE_LIMIT;

/// The file of labelled data.
pub(crate) const LABELS: &str = "labels.jsonl";
/// The file of who said what.
pub(crate) const SAID: &str = "said.jsonl";

/// Writes an export.
#[derive(Debug)]
pub(crate) struct Export {
    state_dir: PathBuf,
    dir: PathBuf,
    labels: String,
    said: String,
    /// Names of files that are taken.
    names: BTreeSet<String>,
    /// Decisions that were written, with pictures.
    pub(crate) written: Vec<String>,
    /// Decisions that have a label and no picture any more.
    pub(crate) without: Vec<String>,
}

impl Export {
    /// Begins one in a folder, which is made. One that has an export already is refused.
    pub(crate) fn begin(state_dir: &Path, dir: &Path) -> io::Result<Self> {
        files::make_private_folder(&dir.join(PICTURES))?;
        if dir.join(LABELS).symlink_metadata().is_ok() {
            let text = format!("{}: holds an export already; name another folder", dir.display());
            return Err(io::Error::other(text));
        }
        let (state_dir, dir) = (state_dir.to_path_buf(), dir.to_path_buf());
        Ok(Self {
            state_dir,
            dir,
            labels: String::new(),
            said: String::new(),
            names: BTreeSet::new(),
            written: Vec::new(),
            without: Vec::new(),
        })
    }

    /// Adds a decision with what was said of it; the last word is its label.
    pub(crate) fn add(&mut self, row: &Row) -> io::Result<()> {
        let Row { decision, said } = row;
        let Some(last) = said.last() else { return Ok(()) };
        let mut line = Map::new();
        for (modality, bytes, ending) in self.pictures(decision)? {
            let name = format!("{PICTURES}/{}.{modality}.{ending}", decision.id);
            if !self.names.insert(name.clone()) {
                continue;
            }
            files::replace(&self.dir.join(&name), &bytes, files::PRIVATE)?;
            line.insert(modality, name.into());
        }
        let main = decision.modalities.first().and_then(|main| line.get(main)).cloned();
        for said in said {
            let mut value = serde_json::to_value(said)?;
            value["decision"] = json!(decision.id);
            value["verdict"] = json!(decision.label);
            value["source"] = json!(decision.source);
            value["image"] = main.clone().unwrap_or(Value::Null);
            self.said.push_str(&format!("{value}\n"));
        }
        if main.is_none() {
            self.without.push(decision.id.clone());
            return Ok(());
        }
        line.insert("label".to_owned(), last.label.clone().into());
        line.insert("group".to_owned(), group(decision).into());
        self.labels.push_str(&format!("{}\n", Value::from(line)));
        self.written.push(decision.id.clone());
        Ok(())
    }

    /// Writes the two files.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        files::replace(&self.dir.join(SAID), self.said.as_bytes(), files::PRIVATE)?;
        files::replace(&self.dir.join(LABELS), self.labels.as_bytes(), files::PRIVATE)
    }

    /// The pictures of a decision: those that were kept, or else the files that it was made of, if they are still the same.
    fn pictures(&self, decision: &Kept) -> io::Result<Vec<(String, Vec<u8>, String)>> {
        if !decision.pictures.is_empty() {
            let kept = decision.pictures.iter().map(|picture| {
                let bytes = bounded::read(&self.state_dir.join(PICTURES).join(&picture.file), FILE_LIMIT)?;
                if sha256_hex(&bytes) != picture.sha256 {
                    return Err(io::Error::other(format!("{}: is not as it was kept", picture.file)));
                }
                Ok((picture.modality.clone(), bytes, ending(Path::new(&picture.file))))
            });
            return match kept.collect::<io::Result<Vec<_>>>() {
                Ok(kept) => Ok(kept),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        let path = Path::new(&decision.path);
        let Some((main, others)) = decision.modalities.split_first() else { return Ok(Vec::new()) };
        let Ok(bytes) = bounded::read(path, FILE_LIMIT) else { return Ok(Vec::new()) };
        if sha256_hex(&bytes) != decision.sha256 {
            return Ok(Vec::new());
        }
        let mut found = vec![(main.clone(), bytes, ending(path))];
        for other in others {
            // As files of further modalities are named beside the first.
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let beside = path.with_file_name(format!("{stem}.{other}.{}", ending(path)));
            match bounded::read(&beside, FILE_LIMIT) {
                Ok(bytes) => found.push((other.clone(), bytes, ending(&beside))),
                // Without it the sample is another one.
                Err(_) => return Ok(Vec::new()),
            }
        }
        Ok(found)
    }
}

fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or("bin").to_ascii_lowercase()
}

/// What may not be split between learning and testing: one part, or else what one source took on one day.
fn group(decision: &Kept) -> String {
    let source = decision.source.as_deref().unwrap_or("api");
    if let Some(part) = &decision.part_id {
        return format!("{source}/{part}");
    }
    let decided =
        || jiff::Timestamp::from_millisecond(decision.at).map(|at| at.to_string()).unwrap_or_default();
    let taken = decision.captured_at.clone().unwrap_or_else(decided);
    format!("{source}/{}", taken.get(..10).unwrap_or(&taken))
}
