//! From files to what the agent decides on.
//!
//! Bytes are read here, bounded and from regular files only; they are read as values on a model thread.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use millgate_shared::image::region::{self, Region};
use millgate_shared::image::{BitDepth, NO_MEMORY};
use millgate_shared::memory::{self, NoRoom};
use millgate_shared::modality::image::{BIT_DEPTH, REGION, TILE};
use millgate_shared::part::{Attributes, Part};
use millgate_shared::sample::Note;
use millgate_shared::trouble::{self, Fault, Trouble};

pub(crate) mod naming;

pub use naming::Naming;

/// A file larger than this is refused unread, in bytes.
pub const FILE_LIMIT: u64 = 64 << 20;

/// One thing to decide on, still encoded.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The decision's, known before it is decided, so that what is kept of a sample can be told from others by it. Empty:
    /// one is drawn.
    pub id: String,
    /// Path as it was given.
    pub path: String,
    pub source: Option<String>,
    pub part_id: Option<String>,
    /// RFC 3339.
    pub captured_at: Option<String>,
    /// Each modality at most once.
    pub parts: Vec<Part>,
    /// What is known of every part whose kind has such an attribute and that does not say otherwise.
    pub attributes: Attributes,
    /// What its source has to say of it, by modality; it stands in the record before what was noted of its reading.
    pub notes: Vec<Note>,
}

/// Why a file could not be taken. Messages name the path only where it is not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{0}")]
    Read(std::io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("is {size} bytes, over the limit of {FILE_LIMIT}")]
    TooLarge { size: u64 },
    #[error("is {size} bytes, and {source}")]
    NoMemory { size: u64, source: NoRoom },
    #[error("holds nothing to decide on ({} expected)", .endings.join(", "))]
    Nothing { endings: Vec<&'static str> },
    #[error("{modality} {}: {source}", path.display())]
    Part { modality: String, path: PathBuf, source: Box<Self> },
}

impl InputError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "unreadable",
            Self::NotAFile => "not_a_file",
            Self::NoMemory { source, .. } if source.may_pass() => NO_MEMORY,
            Self::TooLarge { .. } | Self::NoMemory { .. } => "too_large",
            Self::Nothing { .. } => "no_images",
            Self::Part { source, .. } => source.code(),
        }
    }

    /// No file is there. That one cannot be looked at is another matter: it may be there.
    fn is_nothing(&self) -> bool {
        matches!(self, Self::NotAFile) || self.fault() == Fault::Absent
    }

    /// Whose it is: only what is the file's own will be the same tomorrow.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Read(error) => trouble::judge(error),
            Self::NoMemory { source, .. } if source.may_pass() => Fault::Machine(Trouble::Memory),
            Self::NotAFile | Self::TooLarge { .. } | Self::NoMemory { .. } | Self::Nothing { .. } => {
                Fault::Itself
            }
            Self::Part { source, .. } => source.fault(),
        }
    }
}

impl Input {
    /// Reads a file of the bundle's first modality, and those of the others: the ones named, or else those beside it.
    pub fn from_file(
        path: &Path,
        naming: &Naming,
        named: &[(String, PathBuf)],
        source: Option<&str>,
    ) -> Result<Self, InputError> {
        let mut parts = vec![Part::file(naming.main(), read(path)?)];
        let beside = naming.beside(path).into_iter();
        let is_free = |modality: &str| named.iter().all(|(other, _)| other != modality);
        let beside = beside.filter(|(modality, _)| is_free(modality));
        let named = named.iter().map(|(modality, path)| (modality.as_str(), path.clone(), true));
        let beside = beside.map(|(modality, path)| (modality, path, false));
        for (modality, path, is_named) in named.chain(beside) {
            match read(&path) {
                Ok(bytes) => parts.push(Part::file(modality, bytes)),
                Err(error) if !is_named && error.is_nothing() => {}
                Err(error) => {
                    let (modality, source) = (modality.to_owned(), Box::new(error));
                    return Err(InputError::Part { modality, path, source });
                }
            }
        }
        Ok(Self {
            path: path.display().to_string(),
            source: source.map(str::to_owned),
            captured_at: captured_at(path),
            parts,
            ..Self::default()
        })
    }

    /// Takes 16-bit samples of its pictures to have so many bits, where that is given.
    pub fn of_depth(mut self, depth: Option<BitDepth>) -> Self {
        self.attributes.extend(depth.map(|depth| (BIT_DEPTH.to_owned(), depth.bits().to_string())));
        self
    }

    /// Says what is to be looked at in its pictures; no region: all of each. A tile is its side in pixels.
    pub fn looked_at(mut self, regions: &[Region], tile: Option<u32>) -> Self {
        let regions = (!regions.is_empty()).then(|| (REGION.to_owned(), region::write(regions)));
        self.attributes.extend(regions);
        self.attributes.extend(tile.map(|side| (TILE.to_owned(), side.to_string())));
        self
    }
}

/// A new id: a UUIDv7.
pub fn draw_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The candidates under a directory, sorted by path; links to directories are not followed.
pub fn walk(dir: &Path, naming: &Naming) -> Result<Vec<PathBuf>, InputError> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(InputError::Read)? {
            let entry = entry.map_err(InputError::Read)?;
            if entry.file_type().map_err(InputError::Read)?.is_dir() {
                dirs.push(entry.path());
            } else if naming.is_candidate(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    if found.is_empty() {
        return Err(InputError::Nothing { endings: naming.endings().to_vec() });
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, InputError> {
    // Asked before opening: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(InputError::Read)?;
    if !metadata.is_file() {
        return Err(InputError::NotAFile);
    }
    if metadata.len() > FILE_LIMIT {
        return Err(InputError::TooLarge { size: metadata.len() });
    }
    let no_memory = |source| InputError::NoMemory { size: metadata.len(), source };
    let _room = memory::reserve(metadata.len()).map_err(no_memory)?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    let file = File::open(path).map_err(InputError::Read)?;
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(InputError::Read)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(InputError::TooLarge { size: bytes.len() as u64 });
    }
    Ok(bytes)
}

/// A file's time of modification, which is when its picture was taken as far as anyone can tell.
fn captured_at(path: &Path) -> Option<String> {
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    jiff::Timestamp::try_from(modified).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::naming::tests::factory;
    use super::*;

    #[test]
    fn a_template_beside_a_picture_is_taken_along() {
        let dir = tempfile::tempdir().unwrap();
        let (path, naming) = (dir.path().join("part.png"), factory());
        std::fs::write(&path, b"1").unwrap();
        assert_eq!(Input::from_file(&path, &naming, &[], None).unwrap().parts.len(), 1);
        std::fs::write(dir.path().join("part.template.png"), b"2").unwrap();
        let input = Input::from_file(&path, &naming, &[], Some("cam1")).unwrap();
        assert_eq!(input.parts, [Part::file("image", b"1".to_vec()), Part::file("template", b"2".to_vec())]);
        assert_eq!(input.source.as_deref(), Some("cam1"));
        let other = dir.path().join("other.png");
        std::fs::write(&other, b"3").unwrap();
        let input = Input::from_file(&path, &naming, &[("template".to_owned(), other)], None).unwrap();
        assert_eq!(input.parts[1..], [Part::file("template", b"3".to_vec())]);
        let absent = [("template".to_owned(), dir.path().join("absent.png"))];
        let said = Input::from_file(&path, &naming, &absent, None).unwrap_err().to_string();
        assert!(said.starts_with("template ") && said.contains("absent.png"), "{said}");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let code = |path: &Path| Input::from_file(path, &factory(), &[], None).unwrap_err().code();
        assert_eq!(code(&dir.path().join("absent.png")), "unreadable");
        assert_eq!(code(dir.path()), "not_a_file");
        assert_eq!(walk(dir.path(), &factory()).unwrap_err().code(), "no_images");
        let large = dir.path().join("large.png");
        File::create(&large).unwrap().set_len(FILE_LIMIT + 1).unwrap();
        assert_eq!(code(&large), "too_large");
    }

    #[test]
    fn a_walk_is_sorted_and_deep() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["c.png", "b/a.jpg", "b/a.template.jpg", "a.txt"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let found = walk(dir.path(), &factory()).unwrap();
        assert_eq!(found, [dir.path().join("b/a.jpg"), dir.path().join("c.png")]);
    }
}
