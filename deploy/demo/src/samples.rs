//! Recorded images with their published labels: a directory with `labels.jsonl` and the files it names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millgate_edge::input::{Input, InputError, Naming};
use serde::Deserialize;

/// One line a sample: `{"path": "xsdd/0001.png", "label": "xsdd/red iron"}`, the path from the directory on.
pub const LABELS: &str = "labels.jsonl";

/// A recorded image (and its template, where there is one), read and still encoded.
#[derive(Debug, Clone)]
pub struct Sample {
    pub input: Input,
    /// `<product>/<class>`.
    pub label: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} line {line}: {source}", path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{}: {source}", path.display())]
    Input { path: PathBuf, source: InputError },
    #[error("{}: names no sample", path.display())]
    Empty { path: PathBuf },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    label: String,
}

/// Reads all samples into memory, so that no disk is in what is measured.
pub fn load(dir: &Path, naming: &Naming) -> Result<Vec<Sample>, LoadError> {
    let path = dir.join(LABELS);
    let text = fs::read_to_string(&path).map_err(|source| LoadError::Io { path: path.clone(), source })?;
    let mut samples = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(line).map_err(|source| LoadError::Line {
            path: path.clone(),
            line: at + 1,
            source,
        })?;
        let file = dir.join(&line.path);
        let mut input = Input::from_file(&file, naming, &[], None)
            .map_err(|source| LoadError::Input { path: file, source })?;
        input.path = line.path;
        samples.push(Sample { input, label: line.label });
    }
    if samples.is_empty() {
        return Err(LoadError::Empty { path });
    }
    Ok(samples)
}

/// Brings `items` into the order of a seed, which is the same on every machine.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    fastrand::Rng::with_seed(seed).shuffle(items);
}

#[cfg(test)]
mod tests {
    use millgate_shared::bundle::manifest::Manifest;

    use super::*;

    fn naming() -> Naming {
        let text = fs::read_to_string("../../models/factory/bundle.toml").unwrap();
        Naming::of(&Manifest::parse(&text).unwrap())
    }

    #[test]
    fn a_seed_is_an_order() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(1);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn the_samples_that_ship_can_be_read() {
        let samples = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples"), &naming()).unwrap();
        assert!(samples.len() >= 100, "{}", samples.len());
        for sample in samples {
            let templates = usize::from(sample.label.starts_with("deeppcb/"));
            assert_eq!(sample.input.parts.len(), 1 + templates, "{}", sample.input.path);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = |labels: &str| {
            fs::write(dir.path().join(LABELS), labels).unwrap();
            load(dir.path(), &naming()).unwrap_err().to_string()
        };
        assert!(message("").ends_with("labels.jsonl: names no sample"));
        assert!(message("\n{\"path\": 1}").contains("labels.jsonl line 2: "));
        assert!(message("{\"path\": \"absent.png\", \"label\": \"a/b\"}").contains("absent.png: "));
    }
}
