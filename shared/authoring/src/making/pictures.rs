//! Good pictures in a folder, which need no classes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millgate_base::bounded;
use millgate_base::digest::sha256_hex;
use millgate_sample::modality::Modality;
use millgate_sample::modality::image::Images;
use millgate_sample::part::Limits;

use super::MakeError;
use super::extracting::{IMAGE, TEMPLATE};
use crate::data::{Item, Labelled};

/// Deepest folder below the one that was named.
const DEPTH: usize = 8;

/// Every picture in a folder and in those below it, all of one label. The same picture twice is one group, and so are those
/// of a folder below.
pub fn good_pictures(dir: &Path, label: &str) -> Result<Labelled, MakeError> {
    let mut files = Vec::new();
    list(dir, DEPTH, &mut files)?;
    files.sort();
    let (templates, pictures): (Vec<PathBuf>, Vec<PathBuf>) =
        files.into_iter().partition(|path| owner(path).is_some());
    let mut known = BTreeMap::new();
    let mut items = Vec::with_capacity(pictures.len());
    for path in pictures {
        let bytes = bounded::read(&path, Limits::default().max_bytes);
        let bytes = bytes.map_err(|source| MakeError::Io { path: path.clone(), source })?;
        let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
        let folder = path.parent().filter(|parent| *parent != dir);
        let group = folder.map_or_else(|| name.clone(), |folder| folder.to_string_lossy().into_owned());
        let group = known.entry(sha256_hex(&bytes)).or_insert(group).clone();
        let is_its = |template: &&PathBuf| {
            template.parent() == path.parent()
                && owner(template) == path.file_stem().and_then(|stem| stem.to_str())
        };
        let template = templates.iter().find(is_its).map(|template| (TEMPLATE.to_owned(), template.clone()));
        let parts = [(IMAGE.to_owned(), path.clone())].into_iter().chain(template).collect();
        items.push(Item { name, parts, label: label.to_owned(), group, split: None });
    }
    if items.is_empty() {
        let message = "holds no pictures".to_owned();
        return Err(MakeError::Picture { path: dir.to_path_buf(), message });
    }
    Ok(Labelled { items })
}

/// `part` for `part.template.png`.
fn owner(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()?.strip_suffix(TEMPLATE)?.strip_suffix('.')
}

fn list(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), MakeError> {
    let io = |source| MakeError::Io { path: dir.to_path_buf(), source };
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_hidden {
            continue;
        }
        if path.is_dir() {
            if depth == 0 {
                let message = format!("is more than {DEPTH} folders below the one that was named");
                return Err(MakeError::Picture { path, message });
            }
            list(&path, depth - 1, files)?;
            continue;
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        let is_picture = |ending: &str| {
            Images.endings().iter().chain(Images.refused_endings()).any(|known| *known == ending)
        };
        if ending.as_deref().is_some_and(is_picture) {
            files.push(path);
        }
    }
    Ok(())
}
