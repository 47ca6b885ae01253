//! How the files of one sample are named: `part.png` is the first modality, and `part.template.png` beside it the modality
//! `template` of the same sample.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use millgate_model::manifest::Manifest;
use millgate_sample::modality::Modality;
use millgate_sample::modality::image::Images;

/// Names of modalities, and how their files end.
#[derive(Debug, Clone)]
pub struct Naming {
    main: Named,
    beside: Vec<Named>,
}

#[derive(Debug, Clone)]
struct Named {
    modality: String,
    endings: &'static [&'static str],
    refused: &'static [&'static str],
}

impl Named {
    fn new(modality: &str, kind: &dyn Modality) -> Self {
        Self { modality: modality.to_owned(), endings: kind.endings(), refused: kind.refused_endings() }
    }

    fn is_file(&self, path: &Path) -> bool {
        let ending = text(path.extension()).map(str::to_lowercase);
        ending.is_some_and(|ending| self.endings.iter().chain(self.refused).any(|known| *known == ending))
    }
}

impl Naming {
    /// The naming of a bundle's samples.
    pub fn of(manifest: &Manifest) -> Self {
        let mut named = manifest.modalities.iter().map(|spec| Named::new(&spec.name, spec.modality()));
        let main = named.next().unwrap_or_else(|| Named::new("image", &Images));
        Self { main, beside: named.collect() }
    }

    /// Pictures of these modalities, the first of them alone in a file's name.
    pub fn of_pictures(main: &str, beside: &[&str]) -> Self {
        let named = |modality: &&str| Named::new(modality, &Images);
        Self { main: named(&main), beside: beside.iter().map(named).collect() }
    }

    /// The first modality.
    pub fn main(&self) -> &str {
        &self.main.modality
    }

    /// The modalities whose files stand beside those of the first.
    pub fn beside(&self) -> impl Iterator<Item = &str> {
        self.beside.iter().map(|named| named.modality.as_str())
    }

    /// Whether a file of a folder is one of the first modality, to be read or to be refused by name.
    pub(super) fn is_main(&self, path: &Path) -> bool {
        self.main.is_file(path) && self.owner(path).is_none()
    }

    /// The stem of the file that one belongs to: `part` for `part.template.png`.
    pub(super) fn owner<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let stem = text(path.file_stem())?;
        let of = |named: &Named| {
            let owner = stem.strip_suffix(named.modality.as_str())?.strip_suffix('.')?;
            (named.is_file(path) && !owner.is_empty()).then_some(owner)
        };
        self.beside.iter().find_map(of)
    }

    /// The parts of the sample whose first modality is this file.
    pub(super) fn parts(&self, path: &Path) -> BTreeMap<String, PathBuf> {
        let mut parts = BTreeMap::from([(self.main.modality.clone(), path.to_path_buf())]);
        let (Some(stem), Some(ending)) = (text(path.file_stem()), text(path.extension())) else {
            return parts;
        };
        for named in &self.beside {
            let alike = named.endings == self.main.endings;
            let endings = std::iter::once(ending).filter(|_| alike).chain(named.endings.iter().copied());
            let mut files =
                endings.map(|ending| path.with_file_name(format!("{stem}.{}.{ending}", named.modality)));
            if let Some(file) = files.find(|file| file.is_file()) {
                parts.insert(named.modality.clone(), file);
            }
        }
        parts
    }
}

fn text(name: Option<&OsStr>) -> Option<&str> {
    name.and_then(OsStr::to_str)
}
