//! How the files of one sample are named, by a bundle's modalities.

use std::path::{Path, PathBuf};

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::modality::Spec;

/// `part.png` is the bundle's first modality, and `part.template.png` beside it the modality `template` of the same sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    main: String,
    /// Endings of the first modality's files.
    endings: &'static [&'static str],
    /// Endings of files that are taken for such too, to be refused by name.
    refused: &'static [&'static str],
    beside: Vec<Beside>,
}

/// A modality whose files stand beside those of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Beside {
    modality: String,
    /// Endings of its files; `None`: they end as that of the first modality does.
    endings: Option<&'static [&'static str]>,
}

impl Naming {
    /// The naming of a bundle's samples.
    pub fn of(manifest: &Manifest) -> Self {
        let Some((first, others)) = manifest.modalities.split_first() else { return Self::default() };
        let beside = |spec: &Spec| Beside {
            modality: spec.name.clone(),
            endings: (spec.kind != first.kind).then(|| spec.modality().endings()),
        };
        Self {
            main: first.name.clone(),
            endings: first.modality().endings(),
            refused: first.modality().refused_endings(),
            beside: others.iter().map(beside).collect(),
        }
    }

    /// The modality of a file that is given without saying which: the bundle's first.
    pub fn main(&self) -> &str {
        &self.main
    }

    /// The files that may stand beside one of the first modality, with their modalities.
    pub fn beside(&self, path: &Path) -> Vec<(&str, PathBuf)> {
        let (Some(stem), Some(ending)) = (text(path.file_stem()), text(path.extension())) else {
            return Vec::new();
        };
        let mut found = Vec::with_capacity(self.beside.len());
        for Beside { modality, endings } in &self.beside {
            let endings = endings.unwrap_or(std::slice::from_ref(&ending));
            let file = |ending: &&str| path.with_file_name(format!("{stem}.{modality}.{ending}"));
            found.extend(endings.iter().map(|ending| (modality.as_str(), file(ending))));
        }
        found
    }

    /// The modality of a file that belongs to another one: `template` of `part.template.png`.
    pub fn is_beside(&self, path: &Path) -> bool {
        text(path.file_stem())
            .is_some_and(|stem| self.beside.iter().any(|beside| owner(stem, beside).is_some()))
    }

    /// The file that one of the same kind belongs to: `part.png` for `part.template.png`.
    pub fn owner(&self, path: &Path) -> Option<PathBuf> {
        let (stem, ending) = (text(path.file_stem())?, text(path.extension())?);
        let alike = self.beside.iter().filter(|beside| beside.endings.is_none());
        let owner = alike.filter_map(|beside| owner(stem, beside)).next()?;
        Some(path.with_file_name(format!("{owner}.{ending}")))
    }

    /// True if a directory's file is to be decided on: one of the first modality by its ending, and no hidden one.
    pub fn is_candidate(&self, path: &Path) -> bool {
        let is_hidden = text(path.file_name()).is_none_or(|name| name.starts_with('.'));
        let ending = text(path.extension()).map(str::to_lowercase);
        let mut known = self.endings.iter().chain(self.refused);
        let is_known = ending.is_some_and(|ending| known.any(|known| *known == ending));
        !is_hidden && is_known && !self.is_beside(path)
    }

    /// Endings of the files that can be decided on, in lower case.
    pub fn endings(&self) -> &'static [&'static str] {
        self.endings
    }
}

/// `part` for the stem `part.template`.
fn owner<'a>(stem: &'a str, beside: &Beside) -> Option<&'a str> {
    stem.strip_suffix(beside.modality.as_str())?.strip_suffix('.').filter(|owner| !owner.is_empty())
}

fn text(name: Option<&std::ffi::OsStr>) -> Option<&str> {
    name.and_then(|name| name.to_str())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The naming of the shipped bundle.
    pub(crate) fn factory() -> Naming {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        Naming::of(&Manifest::parse(&text).unwrap())
    }

    #[test]
    fn files_beside_others_are_told_from_those_that_are_decided_on() {
        let naming = factory();
        assert_eq!(naming.main(), "image");
        let beside = naming.beside(Path::new("a/part.png"));
        assert_eq!(beside, [("template", PathBuf::from("a/part.template.png"))]);
        assert_eq!(naming.owner(Path::new("a.1.template.png")), Some(PathBuf::from("a.1.png")));
        assert_eq!(naming.owner(Path::new("a.1.png")), None);
        let is_candidate = |path: &str| naming.is_candidate(Path::new(path));
        assert!(!is_candidate("part.template.png"));
        assert!(is_candidate("part.PNG"));
        assert!(is_candidate("part.webp"), "so that it is refused by name");
        assert!(is_candidate("template.png") && !naming.is_beside(Path::new("template.png")));
        assert!(!is_candidate(".part.png"));
        assert!(!is_candidate("part.txt"));
        assert!(!is_candidate("png"));
    }

    #[test]
    fn a_bundle_may_call_its_modalities_as_it_likes() {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        let renamed = text.replace("\"image\"", "\"front\"").replace("kind = \"front\"", "kind = \"image\"");
        let renamed = renamed.replace("{ image = ", "{ front = ").replace("\"template\"", "\"golden\"");
        let renamed = renamed.replace(", template = ", ", golden = ");
        let naming = Naming::of(&Manifest::parse(&renamed).unwrap());
        assert_eq!(naming.main(), "front");
        assert_eq!(naming.beside(Path::new("p.png")), [("golden", PathBuf::from("p.golden.png"))]);
        assert!(naming.is_candidate(Path::new("p.template.png")), "no name is special");
    }
}
