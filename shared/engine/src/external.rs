//! Weights that lie beside an ONNX file: which files it names, and reading them from its own folder only.

use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataLocation;

use crate::error::EngineError;

/// Most bytes of all files of weights together; more is refused rather than read into memory.
const LARGEST: u64 = 16 << 30;

/// File of weights, read into memory: what is served is what was read, whatever happens to the file.
#[derive(Clone)]
pub struct ExternalFile {
    /// Location, as the ONNX file names it.
    pub location: String,
    /// Path at which it was found, without links.
    pub path: PathBuf,
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for ExternalFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.location, self.bytes.len())
    }
}

/// Names of the files that a model refers to, each once.
pub(super) fn locations(proto: &pb::ModelProto) -> Vec<String> {
    let mut found = Found::default();
    if let Some(graph) = &proto.graph {
        found.graph(graph);
    }
    for function in &proto.functions {
        found.nodes(&function.node);
    }
    found.locations
}

/// Walks over every tensor of a model, those of nested graphs too.
#[derive(Default)]
struct Found {
    locations: Vec<String>,
}

impl Found {
    fn graph(&mut self, graph: &pb::GraphProto) {
        for tensor in &graph.initializer {
            self.tensor(tensor);
        }
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse);
        }
        self.nodes(&graph.node);
    }

    fn nodes(&mut self, nodes: &[pb::NodeProto]) {
        for attribute in nodes.iter().flat_map(|node| &node.attribute) {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.tensor(tensor);
            }
            if let Some(sparse) = &attribute.sparse_tensor {
                self.sparse(sparse);
            }
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(graph);
            }
        }
    }

    fn sparse(&mut self, sparse: &pb::SparseTensorProto) {
        for tensor in sparse.values.iter().chain(&sparse.indices) {
            self.tensor(tensor);
        }
    }

    fn tensor(&mut self, tensor: &pb::TensorProto) {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return;
        }
        // One without a location is the engine's to refuse.
        let named = tensor.external_data.iter().find(|entry| entry.key == "location");
        if let Some(entry) = named
            && !self.locations.contains(&entry.value)
        {
            self.locations.push(entry.value.clone());
        }
    }
}

/// Reads the files at `locations` from `dir`. Each must lie in it, wherever links lead.
pub(super) fn read(dir: Option<&Path>, locations: &[String]) -> Result<Vec<ExternalFile>, EngineError> {
    let mut left = LARGEST;
    let mut files = Vec::with_capacity(locations.len());
    for location in locations {
        let refuse = |what: String| EngineError::External { location: location.clone(), what };
        let dir = dir.ok_or_else(|| refuse("there is no folder to look in".to_owned()))?;
        let file = open(dir, location, left).map_err(refuse)?;
        left -= file.bytes.len() as u64;
        files.push(file);
    }
    Ok(files)
}

fn open(dir: &Path, location: &str, most: u64) -> Result<ExternalFile, String> {
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !Path::new(location).components().all(inside) {
        return Err("leads out of the model's folder".to_owned());
    }
    let text = |error: std::io::Error| error.to_string();
    let dir = dir.canonicalize().map_err(text)?;
    let path = dir.join(location).canonicalize().map_err(text)?;
    if !path.starts_with(&dir) {
        return Err("leads out of the model's folder".to_owned());
    }
    // Opening what is no file may wait for ever.
    let meta = std::fs::metadata(&path).map_err(text)?;
    if !meta.is_file() {
        return Err("is no plain file".to_owned());
    }
    let length = meta.len();
    if length > most {
        return Err(format!("with it the weights are more than the {LARGEST} bytes that are read"));
    }
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    // Allocated once, where it will stay.
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    let into = Arc::get_mut(&mut bytes).ok_or("is read by someone else")?;
    let mut file = std::fs::File::open(&path).map_err(text)?;
    file.read_exact(into).map_err(text)?;
    Ok(ExternalFile { location: location.to_owned(), path, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(value: &str) -> pb::TensorProto {
        let entry = pb::StringStringEntryProto { key: "location".to_owned(), value: value.to_owned() };
        pb::TensorProto {
            data_location: Some(DataLocation::External as i32),
            external_data: vec![entry],
            ..pb::TensorProto::default()
        }
    }

    #[test]
    fn weights_are_found_wherever_they_stand() {
        let inner = pb::GraphProto { initializer: vec![location("inner")], ..pb::GraphProto::default() };
        let branch = pb::AttributeProto { g: Some(inner), ..pb::AttributeProto::default() };
        let constant = pb::AttributeProto { t: Some(location("constant")), ..pb::AttributeProto::default() };
        let node = pb::NodeProto { attribute: vec![branch, constant], ..pb::NodeProto::default() };
        let graph = pb::GraphProto {
            initializer: vec![location("outer"), location("outer"), pb::TensorProto::default()],
            node: vec![node],
            ..pb::GraphProto::default()
        };
        let model = pb::ModelProto { graph: Some(graph), ..pb::ModelProto::default() };
        assert_eq!(locations(&model), ["outer", "inner", "constant"]);
    }

    #[cfg(unix)]
    #[test]
    fn only_files_of_the_models_own_folder_are_read() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(root.path().join("weights.bin"), b"abc").unwrap();
        std::fs::write(outside.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink("weights.bin", root.path().join("within")).unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        let read = |location: &str| read(Some(root.path()), &[location.to_owned()]);
        for location in ["weights.bin", "./weights.bin", "within"] {
            assert_eq!(&*read(location).unwrap()[0].bytes, b"abc", "{location}");
        }
        let absolute = root.path().join("weights.bin").display().to_string();
        for location in ["link", "../weights.bin", &absolute, "folder", "nothing", ""] {
            let error = read(location).unwrap_err().to_string();
            assert!(error.contains(location) && error.starts_with("external data"), "{error}");
        }
        assert!(super::read(None, &["weights.bin".to_owned()]).is_err());
    }
}
