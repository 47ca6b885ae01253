//! Looking at files: the whole folder, or some by name. Blocking; runs on threads made for that.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millgate_shared::trouble::{self, Fault, Trouble};

use super::core::FolderId;
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
    /// Files that stand there, and that the machine did not let be looked at.
    pub(super) unseen: Vec<Kind>,
    /// Folders that stand there; `None`: it could not be listed whole.
    pub(super) folders: BTreeMap<PathBuf, Option<FolderId>>,
    /// What the machine was in trouble with, and where first.
    pub(super) troubles: BTreeMap<Trouble, PathBuf>,
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
    pub(super) seen: Looked,
}

#[derive(Debug)]
pub(super) enum Looked {
    There {
        stat: Stat,
        template: Option<Stat>,
    },
    /// Nothing is there, or no file.
    Gone,
    /// The machine did not let it, or a file beside it, be looked at.
    Unseen(Trouble),
}

/// Looks at a file; `None`: nothing is there, or no file. The error is the machine's.
pub(super) fn look(path: &Path) -> Result<Option<Stat>, Trouble> {
    match Stat::of(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) => match trouble::judge(&error) {
            Fault::Absent | Fault::Itself => Ok(None),
            Fault::Machine(trouble) => Err(trouble),
        },
    }
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
            let seen = self.look_at(&self.root.join(&picture)).unwrap_or_else(Looked::Unseen);
            Look { picture, seen }
        };
        pictures.into_iter().map(look).collect()
    }

    fn look_at(&self, path: &Path) -> Result<Looked, Trouble> {
        // Those beside it first: a pair is written in either order, and the picture decides.
        let beside = self.naming.beside(path);
        let beside: Vec<Option<Stat>> =
            beside.iter().map(|(_, path)| look(path)).collect::<Result<_, _>>()?;
        let template = beside.into_iter().flatten().max_by_key(|stat| stat.version.modified);
        Ok(look(path)?.map_or(Looked::Gone, |stat| Looked::There { stat, template }))
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
        let mut listing = Listing {
            files: Vec::new(),
            unseen: Vec::new(),
            folders: BTreeMap::new(),
            troubles: BTreeMap::new(),
        };
        let mut below = Vec::new();
        let id = self.list_dir(&self.root, &mut listing, &mut below)?;
        listing.folders.insert(PathBuf::new(), id);
        while let Some(dir) = below.pop() {
            let Some(relative) = self.relative(&dir) else { continue };
            match self.list_dir(&dir, &mut listing, &mut below) {
                Ok(id) => {
                    listing.folders.insert(relative, id);
                }
                Err(error) => match trouble::judge(&error) {
                    // Gone since the folder above was listed.
                    Fault::Absent => {}
                    Fault::Itself => {
                        listing.folders.insert(relative, None);
                    }
                    Fault::Machine(trouble) => {
                        listing.troubles.entry(trouble).or_insert(dir);
                        listing.folders.insert(relative, None);
                    }
                },
            }
        }
        listing.files.sort_by_key(|(_, stat)| stat.version.modified);
        Ok(listing)
    }

    /// Lists one folder and names those `below` it; links are not followed. Gives which folder it was; `None`: it may not have
    /// been listed whole, or is another one by now.
    fn list_dir(
        &self,
        dir: &Path,
        listing: &mut Listing,
        below: &mut Vec<PathBuf>,
    ) -> io::Result<Option<FolderId>> {
        let id = identity(dir)?;
        let mut is_whole = true;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if self.is_recursive && kind.is_dir() => below.push(path.clone()),
                Ok(_) => {}
                Err(_) => is_whole = false,
            }
            let Some(kind) = self.relative(&path).and_then(|relative| self.kind(&relative)) else { continue };
            match look(&path) {
                Ok(Some(stat)) => listing.files.push((kind, stat)),
                // Gone between listing and looking, or not a regular file.
                Ok(None) => {}
                Err(trouble) => {
                    listing.unseen.push(kind);
                    listing.troubles.entry(trouble).or_insert(path);
                }
            }
        }
        Ok((is_whole && identity(dir)? == id).then_some(id))
    }
}

fn identity(dir: &Path) -> io::Result<FolderId> {
    let metadata = std::fs::metadata(dir)?;
    Ok(FolderId(metadata.dev(), metadata.ino()))
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
        let listing = lister(true, dir.path()).list().unwrap();
        let folders: Vec<&str> = listing.folders.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(folders, ["", "folder.png", "sub", "sub/deep"]);
        assert!(listing.folders.values().all(Option::is_some) && listing.troubles.is_empty());
    }
}
