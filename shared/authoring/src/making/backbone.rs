//! A frozen network that features come from: its file, what it says of itself, and what its outputs are at a size.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millgate_engine::fixed::{FixedModel, FixedPort};
use millgate_engine::{Axis, OnnxFile, Tract, pb};

use crate::onnx::{self, GraphBuilder, OnnxError, Value};

/// Where the backbone lies that the project brings, below the folder in which a command is run.
pub const SHIPPED: &str = "models/backbone";
/// Largest file that is taken, in bytes.
const LARGEST: u64 = 256 << 20;
/// Largest licence or notice, in bytes.
const LONGEST_TEXT: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    #[error(
        "{}: no backbone lies there: give one with --backbone FILE.onnx, or make the shipped one as training/README.md says",
        path.display()
    )]
    Absent { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Onnx { path: PathBuf, source: OnnxError },
    #[error("{}: `{key}` {message}", path.display())]
    Refused { path: PathBuf, key: String, message: String },
}

/// A frozen network.
#[derive(Debug, Clone)]
pub struct Backbone {
    pub path: PathBuf,
    pub name: String,
    /// SPDX expression; empty if the file does not say.
    pub licence: String,
    /// One line on where it comes from.
    pub notice: String,
    /// SHA-256 of the file.
    pub digest: String,
    /// Channels of its input.
    pub channels: usize,
    /// `(sample / 255 - mean) / std` is what it takes.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// The only size that it takes, if there is one.
    pub only_size: Option<usize>,
    /// Files beside it that whoever passes it on must pass on too, by name: its licence and notice.
    pub legal: Vec<(String, Vec<u8>)>,
    input: String,
    outputs: Vec<String>,
    model: Arc<pb::ModelProto>,
}

/// Maps of features that it gives of a picture of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub name: String,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Backbone {
    /// Reads a file, or the only `.onnx` file below a folder.
    pub fn read(path: &Path) -> Result<Self, BackboneError> {
        let path = if path.is_dir() { only_file(path)? } else { path.to_path_buf() };
        let file = millgate_base::bounded::read(&path, LARGEST).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => BackboneError::Absent { path: path.clone() },
            _ => BackboneError::Io { path: path.clone(), source },
        })?;
        Ok(Self { legal: legal(&path)?, ..Self::parse(&path, &file)? })
    }

    /// Reads a file's bytes.
    pub fn parse(path: &Path, file: &[u8]) -> Result<Self, BackboneError> {
        let of_onnx = |source| BackboneError::Onnx { path: path.to_path_buf(), source };
        let refuse = |key: &str, message: &str| BackboneError::Refused {
            path: path.to_path_buf(),
            key: key.to_owned(),
            message: message.to_owned(),
        };
        let model = onnx::read(file).map_err(of_onnx)?;
        let read = OnnxFile::read(bytes::Bytes::copy_from_slice(file), None);
        let signature = read.map_err(|error| of_onnx(OnnxError::Unreadable(error)))?.signature;
        let [input] = &signature.inputs[..] else {
            return Err(refuse("inputs", "are several: a backbone takes a picture and nothing else"));
        };
        let axes = input.shape.as_deref().unwrap_or(&[]);
        let [_, channels, height, width] = axes else {
            return Err(refuse(&input.name, "must be [N, channels, height, width]"));
        };
        let channels = match channels {
            Axis::Fixed(channels @ (1 | 3)) => *channels,
            _ => return Err(refuse(&input.name, "must have 1 or 3 channels")),
        };
        let only_size = match (height, width) {
            (Axis::Fixed(height), Axis::Fixed(width)) if height == width => Some(*height),
            (Axis::Fixed(_), _) | (_, Axis::Fixed(_)) => {
                return Err(refuse(&input.name, "must be square, or free in height and width"));
            }
            _ => None,
        };
        let property = |key: &str| signature.properties.get(key).map(|text| text.trim().to_owned());
        let numbers = |key: &str| {
            let text = property(key).ok_or_else(|| {
                refuse(key, "is missing from its metadata: it says how pictures are normalised")
            })?;
            let numbers: Option<Vec<f32>> =
                text.split(',').map(|number| number.trim().parse().ok()).collect();
            let fits = |numbers: &Vec<f32>| numbers.len() == 1 || numbers.len() == channels;
            numbers.filter(fits).ok_or_else(|| refuse(key, "must be one number, or one for each channel"))
        };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: property("name").or(stem).unwrap_or_default(),
            licence: property("licence").unwrap_or_default(),
            notice: property("notice").unwrap_or_default(),
            digest: millgate_base::digest::sha256_hex(file),
            channels,
            mean: numbers("mean")?,
            std: numbers("std")?,
            only_size,
            legal: Vec::new(),
            input: input.name.clone(),
            outputs: signature.outputs.iter().map(|output| output.name.clone()).collect(),
            model: Arc::new(model),
            path: path.to_path_buf(),
        })
    }

    /// Gives the network with the weights of each layer in another order.
    pub fn shuffled(&self, seed: u64) -> Self {
        let model = Arc::new(onnx::shuffled(&self.model, seed));
        Self { name: format!("{} (weights shuffled)", self.name), model, ..self.clone() }
    }

    /// Its maps of a picture of so many pixels a side.
    pub fn maps(&self, size: usize) -> Result<Vec<Map>, BackboneError> {
        let mut graph = GraphBuilder::in_opset("maps", onnx::opset(&self.model));
        let image = graph.input(&self.input, &[self.channels, size, size]);
        let values = self.taken_in(&mut graph, &image, None)?.1;
        // The engine finds out the shapes; what the file says of them may be free.
        for (name, value) in self.outputs.iter().zip(&values) {
            graph.output(value, &format!("{name}.map"), &[]);
        }
        let mut file = graph.clone();
        file.forget_shapes();
        let port = FixedPort { name: self.input.clone(), shape: vec![1, self.channels, size, size] };
        let loaded = FixedModel::load(&Tract, &file.finish(), &[port])
            .map_err(|error| self.refuse(&self.input, &format!("does not take {size} pixels: {error}")))?;
        let mut maps = Vec::new();
        for output in loaded.outputs() {
            if let [1, channels, height, width] = output.shape[..] {
                let name = output.name.trim_end_matches(".map").to_owned();
                maps.push(Map { name, channels, height, width });
            }
        }
        if maps.is_empty() {
            let message = "has no map of features: give one with an output [N, channels, height, width]";
            return Err(self.refuse("outputs", message));
        }
        Ok(maps)
    }

    /// Takes the network into a graph; gives its maps in the order of [`Backbone::maps`], and what a second call shares.
    pub fn taken_in(
        &self,
        graph: &mut GraphBuilder,
        image: &Value,
        shared: Option<&onnx::Included>,
    ) -> Result<(onnx::Included, Vec<Value>), BackboneError> {
        let of_onnx = |source| BackboneError::Onnx { path: self.path.clone(), source };
        let included =
            graph.include(&self.model, &[(self.input.as_str(), image)], shared).map_err(of_onnx)?;
        let values = self.outputs.iter().map(|name| included.value(name).cloned());
        let values = values.collect::<Result<Vec<Value>, OnnxError>>().map_err(of_onnx)?;
        Ok((included, values))
    }

    /// A graph in the network's opset.
    pub fn graph(&self, name: &str) -> GraphBuilder {
        GraphBuilder::in_opset(name, onnx::opset(&self.model))
    }

    fn refuse(&self, key: &str, message: &str) -> BackboneError {
        let (path, key, message) = (self.path.clone(), key.to_owned(), message.to_owned());
        BackboneError::Refused { path, key, message }
    }
}

/// Licence and notice beside a file.
fn legal(path: &Path) -> Result<Vec<(String, Vec<u8>)>, BackboneError> {
    let mut found = Vec::new();
    for name in ["LICENSE", "LICENSE.txt", "LICENCE", "NOTICE", "NOTICE.txt"] {
        let path = path.with_file_name(name);
        if path.is_file() {
            let text = millgate_base::bounded::read(&path, LONGEST_TEXT);
            found.push((name.to_owned(), text.map_err(|source| BackboneError::Io { path, source })?));
        }
    }
    Ok(found)
}

/// The only `.onnx` file in a folder and those in it.
fn only_file(dir: &Path) -> Result<PathBuf, BackboneError> {
    let mut found = Vec::new();
    let mut dirs = vec![(dir.to_path_buf(), 0)];
    while let Some((at, depth)) = dirs.pop() {
        let io = |source| BackboneError::Io { path: at.clone(), source };
        for entry in std::fs::read_dir(&at).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.is_dir() && depth < 2 {
                dirs.push((path, depth + 1));
            } else if path.extension().is_some_and(|extension| extension == "onnx") {
                found.push(path);
            }
        }
    }
    found.sort();
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(BackboneError::Absent { path: dir.to_path_buf() }),
        [first, ..] => Err(BackboneError::Refused {
            path: dir.to_path_buf(),
            key: "backbone".to_owned(),
            message: format!(
                "is one of {} files there: name one of them, as {}",
                found.len(),
                first.display()
            ),
        }),
    }
}
