//! A folder of plain ONNX models, in Triton's shape: `<model>/<version>/model.onnx`, with an optional
//! `<model>/config.pbtxt`. The newest version is served.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use millgate_shared::engine::{EngineError, OnnxFile};
use millgate_shared::proto::{FILE_DESCRIPTOR_SET, inference};
use prost_reflect::{DescriptorPool, DynamicMessage};

/// A configuration is a page of text; more is not read.
const LONGEST_CONFIG: u64 = 1 << 20;
/// A larger file is refused rather than read into memory.
const LARGEST_MODEL: u64 = 2 << 30;

/// Deeper than any field lies. The parser follows a type named in brackets before it asks whether that may stand
/// there, one call a level: without this bound a small file ends the stack.
const DEEPEST: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("`{0}` must be 1 to 128 letters, digits, `.`, `_` or `-`")]
    Name(String),
    #[error("{}: there is no folder named by a version number", .0.display())]
    NoVersion(PathBuf),
    #[error("{}: {size} bytes, at most {most} are read", path.display())]
    TooLarge { path: PathBuf, size: u64, most: u64 },
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
    let config = config(&dir, name)?;
    let mut versions: Vec<u64> = entries(&dir)?
        .iter()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|version| *version > 0)
        .collect();
    versions.sort_unstable();
    let version = *versions.last().ok_or_else(|| RepositoryError::NoVersion(dir.clone()))?;
    let named = config.as_ref().map(|config| config.default_model_filename.as_str());
    let file_name = named.filter(|name| !name.is_empty()).unwrap_or("model.onnx");
    if !is_plain(file_name) {
        let (path, message) =
            (dir.join(CONFIG), format!("default_model_filename: `{file_name}` is not a name"));
        return Err(RepositoryError::Config { path, message });
    }
    let folder = dir.join(version.to_string());
    let path = folder.join(file_name);
    let bytes = Bytes::from(bounded(&path, LARGEST_MODEL)?);
    let file =
        OnnxFile::read(bytes, Some(folder)).map_err(|source| RepositoryError::Onnx { path, source })?;
    Ok(Found { version, file, config })
}

const CONFIG: &str = "config.pbtxt";

fn config(dir: &Path, name: &str) -> Result<Option<inference::ModelConfig>, RepositoryError> {
    let path = dir.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let refuse = |message: String| RepositoryError::Config { path: path.clone(), message };
    let bytes = bounded(&path, LONGEST_CONFIG)?;
    let text = String::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
    let config = parse(&text).map_err(refuse)?;
    if !config.name.is_empty() && config.name != name {
        return Err(refuse(format!("name: is `{}`, the folder `{name}`", config.name)));
    }
    if config.max_batch_size < 0 {
        return Err(refuse(format!("max_batch_size: {} is negative", config.max_batch_size)));
    }
    for (field, value) in [("platform", &config.platform), ("backend", &config.backend)] {
        if !["", "onnxruntime_onnx", "onnx_onnxv1", "onnxruntime"].contains(&value.as_str()) {
            return Err(refuse(format!("{field}: `{value}` is not served here, ONNX is")));
        }
    }
    let unsupported = match config.scheduling_choice {
        Some(inference::model_config::SchedulingChoice::SequenceBatching(_)) => Some("sequence_batching"),
        Some(inference::model_config::SchedulingChoice::EnsembleScheduling(_)) => Some("ensemble_scheduling"),
        _ if config.model_transaction_policy.is_some_and(|policy| policy.decoupled) => {
            Some("model_transaction_policy.decoupled")
        }
        _ => None,
    };
    match unsupported {
        Some(field) => Err(refuse(format!("{field}: is not offered"))),
        None => Ok(Some(config)),
    }
}

/// The protobuf text format; what Triton knows and we do not is an error that names it.
fn parse(text: &str) -> Result<inference::ModelConfig, String> {
    if is_too_deep(text) {
        return Err(format!("nested deeper than {DEEPEST} levels"));
    }
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    let kind =
        pool.get_message_by_name("inference.ModelConfig").ok_or("the configuration's type is unknown")?;
    let message =
        DynamicMessage::parse_text_format(kind, &with_colons(text)).map_err(|error| error.to_string())?;
    message.transcode_to().map_err(|error| error.to_string())
}

/// The text format lets `field [{ .. }]` stand for `field: [{ .. }]`, and Triton's files are written so; the parser
/// wants the colon.
fn with_colons(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut quote, mut is_escaped, mut in_comment, mut after_name) = (None, false, false, false);
    for letter in text.chars() {
        if let Some(open) = quote {
            let ends = letter == open && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            quote = (!ends).then_some(open);
        } else if in_comment {
            in_comment = letter != '\n';
        } else {
            match letter {
                '"' | '\'' => (quote, after_name) = (Some(letter), false),
                '#' => in_comment = true,
                '[' => {
                    if after_name {
                        out.push(':');
                    }
                    after_name = false;
                }
                space if space.is_whitespace() => {}
                other => after_name = other.is_ascii_alphanumeric() || other == '_',
            }
        }
        out.push(letter);
    }
    out
}

/// Whether braces nest too deep, outside strings and comments.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'<' => depth += 1,
            b'}' | b'>' => depth = depth.saturating_sub(1),
            b'#' => {
                let _newline = rest.find(|byte| *byte == b'\n');
            }
            quote @ (b'"' | b'\'') => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'\\' => {
                            let _escaped = rest.next();
                        }
                        // The parser ends here too.
                        b'\n' | 0 => return false,
                        byte if byte == quote => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if depth > DEEPEST {
            return true;
        }
    }
    false
}

fn entries(dir: &Path) -> Result<Vec<std::fs::DirEntry>, RepositoryError> {
    let refuse = |source| RepositoryError::Io { path: dir.to_path_buf(), source };
    std::fs::read_dir(dir).map_err(refuse)?.collect::<Result<_, _>>().map_err(refuse)
}

fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, RepositoryError> {
    let refuse = |source| RepositoryError::Io { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(refuse)?.len();
    if size > most {
        return Err(RepositoryError::TooLarge { path: path.to_path_buf(), size, most });
    }
    std::fs::read(path).map_err(refuse)
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
            std::fs::write(root.path().join("gate").join(CONFIG), config).unwrap();
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

    #[test]
    fn lists_need_no_colon() {
        let text = "max_batch_size: 8\n# a [comment]\ninput [{ name: \"a [b\" data_type: TYPE_FP32 dims: [ 4 ] }]\n\
                    output [ { name: 'it\\'s' } ]\ndynamic_batching { preferred_batch_size [4, 8] }";
        let config = parse(text).unwrap();
        assert_eq!((config.input[0].name.as_str(), config.input[0].dims.as_slice()), ("a [b", &[4][..]));
        assert_eq!(config.output[0].name, "it's");
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        for level in
            ["optimization { graph { ", "[a/inference.ModelConfig] {", "[a/inference.ModelConfig]: <"]
        {
            let deep = level.repeat(20_000);
            // As small as the stacks that models are loaded on.
            let outcome =
                std::thread::Builder::new().stack_size(2 << 20).spawn(move || parse(&deep).is_err());
            assert!(outcome.unwrap().join().unwrap(), "{level}");
        }
        let braces = "{".repeat(100);
        let text = format!("default_model_filename: \"{braces}\\\"\" # {braces}\nmax_batch_size: 8");
        assert_eq!(parse(&text).unwrap().max_batch_size, 8);
    }
}
