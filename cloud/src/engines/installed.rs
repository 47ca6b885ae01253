//! Libraries that `engine install` has put into the state folder: `engines/onnxruntime-<version>`, each with what it was
//! made of.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use millgate_shared::bounded;
use serde::{Deserialize, Serialize};

/// In the state folder.
const FOLDER: &str = "engines";
const PREFIX: &str = "onnxruntime-";
const LIBRARY: &str = "libonnxruntime.so";
/// Beside the library: where it is from.
pub(crate) const ORIGIN: &str = "installed.json";

/// A version as ONNX Runtime has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    /// The version that a library's file name says; `None` if it says none.
    pub(crate) fn of_library(path: &Path) -> Option<Self> {
        path.file_name()?.to_str()?.strip_prefix(LIBRARY)?.strip_prefix('.')?.parse().ok()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_version = || format!("`{text}` is no version such as 1.32.0");
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse::<u32>().map_err(|_| no_version()),
            false => Err(no_version()),
        };
        let parts: Vec<u32> = text.split('.').map(number).collect::<Result<_, _>>()?;
        match *parts {
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(no_version()),
        }
    }
}

/// The library itself, whatever its version; not those of its execution providers.
pub(crate) fn is_library(name: &str) -> bool {
    name.strip_prefix(LIBRARY).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Where libraries are installed.
pub(crate) fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER)
}

/// The folder of one version.
pub(crate) fn folder_of(state_dir: &Path, version: Version) -> PathBuf {
    folder(state_dir).join(format!("{PREFIX}{version}"))
}

/// What is kept beside a library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The file or folder that it was taken from.
    pub(crate) source: String,
    /// SHA-256 of that file, in hex; none of a folder.
    pub(crate) source_sha256: Option<String>,
    /// SHA-256 of the library, in hex.
    pub(crate) library_sha256: String,
}

/// A library that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) version: Version,
    pub(crate) library: PathBuf,
    /// `None` where nothing says so.
    pub(crate) origin: Option<Origin>,
}

/// All that are there, the highest version first.
pub(crate) fn list(state_dir: &Path) -> Vec<Installed> {
    let entries = std::fs::read_dir(folder(state_dir)).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<Installed> = entries.filter_map(|entry| read(&entry.path())).collect();
    found.sort_by_key(|installed| std::cmp::Reverse(installed.version));
    found
}

fn read(folder: &Path) -> Option<Installed> {
    let version = folder.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
    let mut names = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let library = names.find(|entry| is_library(&entry.file_name().to_string_lossy()))?.path();
    let origin = bounded::read(&folder.join(ORIGIN), bounded::RECORD).ok();
    let origin = origin.and_then(|text| serde_json::from_slice(&text).ok());
    Some(Installed { version, library, origin })
}

/// Takes one out; false if it was not there. A pool that runs with it goes on.
pub(crate) fn remove(state_dir: &Path, version: Version) -> io::Result<bool> {
    match std::fs::remove_dir_all(folder_of(state_dir, version)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_and_not_text() {
        let of = |text: &str| text.parse::<Version>().unwrap();
        assert!(of("1.9.0") < of("1.24.0") && of("1.24.0") < of("1.24.1"));
        assert_eq!(of("1.32.0").to_string(), "1.32.0");
        for text in ["", "1", "1.32", "1.32.0.1", "1.+2.0", "1.32.x", "../1.2.3"] {
            assert!(text.parse::<Version>().unwrap_err().contains(&format!("`{text}`")), "{text}");
        }
        assert_eq!(Version::of_library(Path::new("/x/libonnxruntime.so.1.32.0")), Some(of("1.32.0")));
        assert_eq!(Version::of_library(Path::new("/x/libonnxruntime.so")), None);
        assert!(is_library("libonnxruntime.so") && is_library("libonnxruntime.so.1"));
        assert!(!is_library("libonnxruntime_providers_cuda.so") && !is_library("libonnxruntime.sox"));
    }

    #[test]
    fn what_is_there_is_listed_and_can_be_taken_out() {
        let state = tempfile::tempdir().unwrap();
        assert!(list(state.path()).is_empty());
        for name in
            ["onnxruntime-1.24.0", "onnxruntime-1.32.0", "onnxruntime-1.33.0", "onnxruntime-new", ".new-1"]
        {
            std::fs::create_dir_all(folder(state.path()).join(name)).unwrap();
        }
        for version in ["1.24.0", "1.32.0"] {
            let folder = folder_of(state.path(), version.parse().unwrap());
            std::fs::write(folder.join(format!("libonnxruntime.so.{version}")), "").unwrap();
        }
        let origin =
            Origin { source: "a.whl".to_owned(), source_sha256: None, library_sha256: "00".to_owned() };
        let newest = folder_of(state.path(), "1.32.0".parse().unwrap());
        std::fs::write(newest.join(ORIGIN), serde_json::to_vec(&origin).unwrap()).unwrap();
        let found = list(state.path());
        let versions: Vec<String> = found.iter().map(|installed| installed.version.to_string()).collect();
        assert_eq!(versions, ["1.32.0", "1.24.0"], "a folder without a library is none");
        assert_eq!((&found[0].origin, &found[1].origin), (&Some(origin), &None));
        assert!(remove(state.path(), found[0].version).unwrap());
        assert!(!remove(state.path(), found[0].version).unwrap());
        assert_eq!(list(state.path()).len(), 1);
    }
}
