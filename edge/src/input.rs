//! From files to what the agent decides on.
//!
//! Bytes are read here, bounded and from regular files only; they are decoded on a model thread.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use millgate_shared::image::BitDepth;
use millgate_shared::memory::{self, NoRoom};
use millgate_shared::sample::Note;

/// A file larger than this is refused unread, in bytes.
pub const FILE_LIMIT: u64 = 64 << 20;
/// `part.png` has its defect-free reference in `part.template.png`.
const TEMPLATE_SUFFIX: &str = ".template";
/// Endings by which a directory's pictures are found. What a file is, is told by its content.
const ENDINGS: [&str; 11] = ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "tif", "tiff", "btf", "gif"];
/// Endings of pictures in other formats. They are found too, so that each is refused by name and none passed over.
const OTHER_ENDINGS: [&str; 12] =
    ["webp", "heic", "heif", "avif", "jp2", "j2k", "jxl", "pgm", "ppm", "pbm", "pnm", "dcm"];

/// One thing to decide on, still encoded.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The decision's, known before it is decided, so that what is kept of a sample can be told from others by it. Empty:
    /// one is drawn.
    pub id: String,
    /// As it was given.
    pub path: String,
    pub source: Option<String>,
    pub part_id: Option<String>,
    /// RFC 3339.
    pub captured_at: Option<String>,
    pub images: Vec<InputImage>,
    /// What its source has to say of it, by modality; it stands in the record before what was noted of its reading.
    pub notes: Vec<Note>,
}

#[derive(Debug, Clone)]
pub struct InputImage {
    /// A modality of the bundle: `image`, `template`.
    pub modality: String,
    pub bytes: Vec<u8>,
    /// Bits of 16-bit samples that count. `None`: its source, the file or the largest sample tells.
    pub bit_depth: Option<BitDepth>,
}

impl InputImage {
    pub fn new(modality: &str, bytes: Vec<u8>) -> Self {
        Self { modality: modality.to_owned(), bytes, bit_depth: None }
    }
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
    #[error("holds no images ({} expected)", ENDINGS.join(", "))]
    NoImages,
    #[error("template {}: {source}", path.display())]
    Template { path: PathBuf, source: Box<Self> },
}

impl InputError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "unreadable",
            Self::NotAFile => "not_a_file",
            Self::TooLarge { .. } | Self::NoMemory { .. } => "too_large",
            Self::NoImages => "no_images",
            Self::Template { source, .. } => source.code(),
        }
    }
}

impl Input {
    /// Reads a picture and its template: the one named, or else the one beside it.
    pub fn from_file(path: &Path, template: Option<&Path>, source: Option<&str>) -> Result<Self, InputError> {
        let mut images = vec![InputImage::new("image", read(path)?)];
        let beside = template_path(path).filter(|path| path.is_file());
        if let Some(template) = template.or(beside.as_deref()) {
            let refuse =
                |source| InputError::Template { path: template.to_path_buf(), source: Box::new(source) };
            images.push(InputImage::new("template", read(template).map_err(refuse)?));
        }
        Ok(Self {
            id: String::new(),
            path: path.display().to_string(),
            source: source.map(str::to_owned),
            part_id: None,
            captured_at: captured_at(path),
            images,
            notes: Vec::new(),
        })
    }

    /// Takes the pictures' 16-bit samples to have so many bits, where that is given.
    pub fn of_depth(mut self, depth: Option<BitDepth>) -> Self {
        self.images.iter_mut().for_each(|image| image.bit_depth = depth.or(image.bit_depth));
        self
    }
}

/// A new id: a UUIDv7.
pub fn draw_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// `part.template.png` for `part.png`.
pub fn template_path(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_str()?;
    let ending = path.extension()?.to_str()?;
    Some(path.with_file_name(format!("{stem}{TEMPLATE_SUFFIX}.{ending}")))
}

/// True for `part.template.png`.
pub fn is_template(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with(TEMPLATE_SUFFIX))
}

/// True if a directory's file is to be decided on: a picture by its ending, and no template or hidden file.
pub fn is_candidate(path: &Path) -> bool {
    let is_hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    !is_hidden && !is_template(path) && ending.is_some_and(|ending| endings().any(|known| known == ending))
}

/// Endings of all that is taken for a picture, in lower case.
pub fn endings() -> impl Iterator<Item = &'static str> {
    ENDINGS.into_iter().chain(OTHER_ENDINGS)
}

/// The candidates under a directory, sorted by path; links to directories are not followed.
pub fn walk(dir: &Path) -> Result<Vec<PathBuf>, InputError> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(InputError::Read)? {
            let entry = entry.map_err(InputError::Read)?;
            if entry.file_type().map_err(InputError::Read)?.is_dir() {
                dirs.push(entry.path());
            } else if is_candidate(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    if found.is_empty() {
        return Err(InputError::NoImages);
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
    use super::*;

    #[test]
    fn templates_are_told_from_pictures() {
        assert_eq!(template_path(Path::new("a/part.png")), Some(PathBuf::from("a/part.template.png")));
        assert!(is_template(Path::new("part.template.png")));
        assert!(!is_candidate(Path::new("part.template.png")));
        assert!(is_candidate(Path::new("part.PNG")));
        assert!(is_candidate(Path::new("part.webp")), "so that it is refused by name");
        assert!(!is_candidate(Path::new(".part.png")));
        assert!(!is_candidate(Path::new("part.txt")));
        assert!(!is_candidate(Path::new("png")));
    }

    #[test]
    fn a_template_beside_a_picture_is_taken_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part.png");
        std::fs::write(&path, b"1").unwrap();
        assert_eq!(Input::from_file(&path, None, None).unwrap().images.len(), 1);
        std::fs::write(dir.path().join("part.template.png"), b"2").unwrap();
        let input = Input::from_file(&path, None, Some("cam1")).unwrap();
        assert_eq!(input.images.len(), 2);
        assert_eq!(input.images[1].bytes, b"2");
        assert_eq!(input.source.as_deref(), Some("cam1"));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let code = |path: &Path| Input::from_file(path, None, None).unwrap_err().code();
        assert_eq!(code(&dir.path().join("absent.png")), "unreadable");
        assert_eq!(code(dir.path()), "not_a_file");
        assert_eq!(walk(dir.path()).unwrap_err().code(), "no_images");
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
        let found = walk(dir.path()).unwrap();
        assert_eq!(found, [dir.path().join("b/a.jpg"), dir.path().join("c.png")]);
    }
}
