//! Looking at files: the whole folder, or some by name. Blocking; runs on threads made for that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::face::Stat;
use super::{FolderConfig, pattern};
use crate::input::Naming;

/// What a file is to the source. Paths are relative to its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Picture(PathBuf),
    TemplateOf(PathBuf),
}

/// What stood in the folder.
#[derive(Debug)]
pub(super) struct Listing {
    /// Oldest first.
    pub(super) files: Vec<(Kind, Stat)>,
    /// No folder below could not be read.
    pub(super) is_complete: bool,
}

/// Which files count.
#[derive(Debug, Clone)]
pub(super) struct Lister {
    root: PathBuf,
    /// Events name their files so.
    absolute: PathBuf,
    is_recursive: bool,
    patterns: Arc<[String]>,
    naming: Naming,
}

/// One file, looked at.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) picture: PathBuf,
    /// `None`: it is gone.
    pub(super) stat: Option<Stat>,
    pub(super) template: Option<Stat>,
}

impl Lister {
    pub(super) fn new(config: &FolderConfig, naming: Naming) -> Self {
        let patterns = config.patterns.clone().into();
        let absolute = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone());
        Self { root: config.path.clone(), absolute, is_recursive: config.recursive, patterns, naming }
    }

    /// Looks at pictures, and at the files beside them.
    pub(super) fn look(&self, pictures: Vec<PathBuf>) -> Vec<Look> {
        let look = |picture: PathBuf| {
            let path = self.root.join(&picture);
            // Those beside it first: a pair is written in either order, and the picture decides.
            let beside = self.naming.beside(&path).into_iter();
            let beside = beside.filter_map(|(_, path)| Stat::of(&path).ok());
            let template = beside.max_by_key(|stat| stat.version.modified);
            Look { stat: Stat::of(&path).ok(), template, picture }
        };
        pictures.into_iter().map(look).collect()
    }

    /// `path` below the folder.
    pub(super) fn relative(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root)
            .or_else(|_| path.strip_prefix(&self.absolute))
            .ok()
            .map(Path::to_path_buf)
    }

    /// Tells a file by its name; `None` if it does not count.
    pub(super) fn kind(&self, relative: &Path) -> Option<Kind> {
        let is_hidden =
            |part: std::path::Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        let name = relative.file_name()?.to_string_lossy();
        let is_wanted = self.patterns.iter().any(|pattern| pattern::matches(pattern, &name));
        let is_deep = relative.components().nth(1).is_some();
        if !is_wanted || relative.components().any(is_hidden) || (is_deep && !self.is_recursive) {
            return None;
        }
        if self.naming.is_beside(relative) {
            return self.naming.owner(relative).map(Kind::TemplateOf);
        }
        Some(Kind::Picture(relative.to_path_buf()))
    }

    /// Everything that counts. An error only if the folder itself cannot be read.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing { files: Vec::new(), is_complete: true };
        self.list_dir(&self.root, &mut listing)?;
        let mut below = self.dirs(&self.root);
        while let Some(dir) = below.pop() {
            if self.list_dir(&dir, &mut listing).is_err() {
                listing.is_complete = false;
            }
            below.extend(self.dirs(&dir));
        }
        listing.files.sort_by_key(|(_, stat)| stat.version.modified);
        Ok(listing)
    }

    fn list_dir(&self, dir: &Path, listing: &mut Listing) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(kind) = self.relative(&path).and_then(|relative| self.kind(&relative)) else { continue };
            match Stat::of(&path) {
                Ok(stat) => listing.files.push((kind, stat)),
                // Gone between listing and looking, or not a regular file.
                Err(_) => continue,
            }
        }
        Ok(())
    }

    /// Folders right below `dir`; links are not followed.
    fn dirs(&self, dir: &Path) -> Vec<PathBuf> {
        if !self.is_recursive {
            return Vec::new();
        }
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::naming::tests::factory;

    fn lister(is_recursive: bool, root: &Path) -> Lister {
        let mut config = FolderConfig::new("cam", root.to_path_buf());
        config.recursive = is_recursive;
        Lister::new(&config, factory())
    }

    #[test]
    fn files_are_told_by_their_names() {
        let lister = lister(true, Path::new("/in"));
        let kind = |name: &str| lister.kind(Path::new(name));
        assert_eq!(kind("a/b.PNG"), Some(Kind::Picture(PathBuf::from("a/b.PNG"))));
        assert_eq!(kind("a.template.png"), Some(Kind::TemplateOf(PathBuf::from("a.png"))));
        assert_eq!(kind("a.1.template.png"), Some(Kind::TemplateOf(PathBuf::from("a.1.png"))));
        for name in [".a.png", ".tmp/a.png", "a.png.part", "a.txt", ""] {
            assert_eq!(kind(name), None, "{name}");
        }
    }

    #[test]
    fn a_listing_goes_as_deep_as_asked_and_takes_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sub/deep")).unwrap();
        std::fs::create_dir_all(dir.path().join("folder.png")).unwrap();
        for name in ["a.png", "sub/b.png", "sub/deep/c.png", "a.txt"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let count = |is_recursive| lister(is_recursive, dir.path()).list().unwrap().files.len();
        assert_eq!(count(false), 1);
        assert_eq!(count(true), 3);
        assert!(lister(true, &dir.path().join("absent")).list().is_err());
    }
}
