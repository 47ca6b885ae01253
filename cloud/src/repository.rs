//! A folder of plain ONNX models, in Triton's shape: `<model>/<version>/model.onnx`, with an optional
//! `<model>/config.pbtxt`. The newest version is served.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millgate_shared::engine::{EngineError, OnnxFile};
use millgate_shared::proto::inference;

mod config;
mod labels;

/// A larger file is refused rather than read into memory.
const LARGEST_MODEL: u64 = 2 << 30;

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("`{0}` must be 1 to 128 letters, digits, `.`, `_` or `-`")]
    Name(String),
    #[error("{}: there is no folder named by a version number", .0.display())]
    NoVersion(PathBuf),
    #[error("{}: longer than the {most} bytes that are read", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error("{}: leads out of the repository", .0.display())]
    Outside(PathBuf),
    #[error("{}: is no plain file", .0.display())]
    NoFile(PathBuf),
    #[error("{}: {source}", path.display())]
    Onnx { path: PathBuf, source: EngineError },
    #[error("{}: {message}", path.display())]
    Config { path: PathBuf, message: String },
}

/// One model, read: its bytes are what is served, whatever happens to the file.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) version: u64,
    pub(crate) file: OnnxFile,
    /// As it stands in the folder, if it does.
    pub(crate) config: Option<inference::ModelConfig>,
    /// Names of classes, by output.
    pub(crate) labels: BTreeMap<String, Vec<String>>,
}

/// The models in a folder, by name.
pub(crate) fn names(root: &Path) -> Result<Vec<String>, RepositoryError> {
    let mut names = Vec::new();
    for entry in entries(root)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn has(root: &Path, name: &str) -> bool {
    is_plain(name) && root.join(name).is_dir()
}

/// Reads one model as it stands now.
pub(crate) fn read(root: &Path, name: &str) -> Result<Found, RepositoryError> {
    if !is_plain(name) {
        return Err(RepositoryError::Name(name.to_owned()));
    }
    let dir = root.join(name);
    let config = config::read(root, &dir, name)?;
    let mut versions: Vec<u64> = entries(&dir)?
        .iter()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| version(entry.file_name().to_str()?))
        .collect();
    versions.sort_unstable();
    let version = *versions.last().ok_or_else(|| RepositoryError::NoVersion(dir.clone()))?;
    let named = config.as_ref().map(|config| config.default_model_filename.as_str());
    let file_name = named.filter(|name| !name.is_empty()).unwrap_or("model.onnx");
    if !is_plain(file_name) {
        let (path, message) =
            (dir.join(config::FILE_NAME), format!("default_model_filename: `{file_name}` is not a name"));
        return Err(RepositoryError::Config { path, message });
    }
    let folder = dir.join(version.to_string());
    let path = folder.join(file_name);
    let bytes = Bytes::from(bounded(root, &path, LARGEST_MODEL)?);
    let file =
        OnnxFile::read(bytes, Some(folder)).map_err(|source| RepositoryError::Onnx { path, source })?;
    if let Some(config) = &config {
        config::check(config, &file.signature)
            .map_err(|message| RepositoryError::Config { path: dir.join(config::FILE_NAME), message })?;
    }
    let outputs = config.as_ref().map_or(&[][..], |config| &config.output);
    let labels = labels::read(root, &dir, outputs)?;
    Ok(Found { version, file, config, labels })
}

fn entries(dir: &Path) -> Result<Vec<std::fs::DirEntry>, RepositoryError> {
    let refuse = |source| RepositoryError::Io { path: dir.to_path_buf(), source };
    std::fs::read_dir(dir).map_err(refuse)?.collect::<Result<_, _>>().map_err(refuse)
}

/// A whole number from 1, written as numbers are: `07` is no version.
fn version(name: &str) -> Option<u64> {
    name.parse().ok().filter(|version: &u64| *version > 0 && version.to_string() == name)
}

/// A plain file that lies within the repository, wherever links lead.
fn bounded(root: &Path, path: &Path, most: u64) -> Result<Vec<u8>, RepositoryError> {
    let refuse = |source| RepositoryError::Io { path: path.to_path_buf(), source };
    let (real, within) = (path.canonicalize().map_err(refuse)?, root.canonicalize().map_err(refuse)?);
    if !real.starts_with(within) {
        return Err(RepositoryError::Outside(path.to_path_buf()));
    }
    // Opening what is no file may wait for ever.
    if !std::fs::metadata(&real).map_err(refuse)?.is_file() {
        return Err(RepositoryError::NoFile(path.to_path_buf()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&real).map_err(refuse)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() as u64 > most {
        return Err(RepositoryError::TooLarge { path: path.to_path_buf(), most });
    }
    Ok(bytes)
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(config: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for version in ["1", "3", "notes"] {
            let folder = root.path().join("gate").join(version);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy("../models/factory/gate/1/model.onnx", folder.join("model.onnx")).unwrap();
        }
        if !config.is_empty() {
            std::fs::write(root.path().join("gate").join(config::FILE_NAME), config).unwrap();
        }
        std::fs::create_dir(root.path().join(".git")).unwrap();
        root
    }

    #[test]
    fn the_newest_version_is_read() {
        let root = repository("");
        assert_eq!(names(root.path()).unwrap(), ["gate"]);
        let found = read(root.path(), "gate").unwrap();
        assert!(found.version == 3 && found.config.is_none());
        assert_eq!(found.file.signature.outputs[0].name, "scores");
        let config = "max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 100 }";
        assert_eq!(read(repository(config).path(), "gate").unwrap().config.unwrap().max_batch_size, 8);
    }

    #[test]
    fn what_cannot_be_served_says_which_field() {
        for (config, words) in [
            ("max_batch_size: -1", "max_batch_size"),
            ("max_batch: 8", "max_batch"),
            ("name: \"other\"", "`other`"),
            ("version_policy { specific { versions: [1] } }", "version_policy"),
            ("input [{ name: \"nobody\" data_type: TYPE_FP32 dims: [4] }]", "`nobody`"),
            ("output [{ name: \"scores\" data_type: TYPE_INT8 dims: [-1] }]", "TYPE_INT8"),
            ("output [{ name: \"scores\" data_type: TYPE_FP32 dims: [99] }]", "dims"),
            ("backend: \"python\"", "backend"),
            ("platform: \"tensorrt_plan\"", "platform"),
            ("sequence_batching {}", "sequence_batching"),
            ("ensemble_scheduling {}", "ensemble_scheduling"),
            ("model_transaction_policy { decoupled: true }", "decoupled"),
            ("default_model_filename: \"../x\"", "default_model_filename"),
            ("{{{{", "config.pbtxt"),
        ] {
            let error = read(repository(config).path(), "gate").unwrap_err().to_string();
            assert!(error.contains(words), "{config}: {error}");
        }
        let root = repository("");
        for name in ["..", "", "a/b", ".git", "nobody"] {
            assert!(read(root.path(), name).is_err(), "{name}");
        }
        std::fs::write(root.path().join("gate/3/model.onnx"), b"no model").unwrap();
        assert!(read(root.path(), "gate").unwrap_err().to_string().contains("model.onnx"));
        std::fs::remove_dir_all(root.path().join("gate/1")).unwrap();
        std::fs::remove_dir_all(root.path().join("gate/3")).unwrap();
        assert!(read(root.path(), "gate").unwrap_err().to_string().contains("version number"));
    }

    #[cfg(unix)]
    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        let (root, outside) = (repository(""), tempfile::tempdir().unwrap());
        std::fs::copy("../models/factory/gate/1/model.onnx", outside.path().join("model.onnx")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("gate/7")).unwrap();
        assert!(matches!(read(root.path(), "gate"), Err(RepositoryError::Outside(_))));
        std::fs::remove_file(root.path().join("gate/7")).unwrap();
        std::os::unix::fs::symlink("3", root.path().join("gate/8")).unwrap();
        assert_eq!(read(root.path(), "gate").unwrap().version, 8);
        std::fs::create_dir(root.path().join("gate/09")).unwrap();
        assert_eq!(read(root.path(), "gate").unwrap().version, 8);
        std::fs::create_dir(root.path().join("gate").join(config::FILE_NAME)).unwrap();
        assert!(matches!(read(root.path(), "gate"), Err(RepositoryError::NoFile(_))));
    }
}
