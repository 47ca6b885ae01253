//! Weights that lie beside an ONNX file: which files it names, and reading them from its own folder only.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use millgate_base::memory;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataLocation;

use crate::error::EngineError;

/// Most bytes of all files of weights together; more is refused rather than read into memory.
const LARGEST: u64 = 16 << 30;
/// Most files of weights of one model: there may be one for each weight.
const MOST_FILES: usize = 100_000;

/// File of weights that a model refers to, and how much of it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Location, as the ONNX file names it.
    pub location: String,
    /// Bytes from the file's beginning to the end of the last weight in it; `None` if some weight does not say where it
    /// ends, so that the whole file is needed.
    pub end: Option<u64>,
}

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

/// The files that a model refers to, each once, in the order in which they are first named.
pub(super) fn locations(proto: &pb::ModelProto) -> Vec<Wanted> {
    let mut found = Found::default();
    if let Some(graph) = &proto.graph {
        found.graph(graph);
    }
    for function in &proto.functions {
        found.nodes(&function.node);
    }
    found.files
}

/// Walks over every tensor of a model, those of nested graphs too.
#[derive(Default)]
struct Found {
    files: Vec<Wanted>,
    /// Place of each location among the files.
    places: HashMap<String, usize>,
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
        let Some(location) = entry(tensor, "location") else { return };
        let end = end(tensor);
        if let Some(at) = self.places.get(location) {
            let file = &mut self.files[*at];
            file.end = file.end.zip(end).map(|(one, other)| one.max(other));
        } else {
            self.places.insert(location.to_owned(), self.files.len());
            self.files.push(Wanted { location: location.to_owned(), end });
        }
    }
}

fn entry<'a>(tensor: &'a pb::TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// Where a weight ends in its file; `None` if it does not say, or says what is no number.
fn end(tensor: &pb::TensorProto) -> Option<u64> {
    let offset = match entry(tensor, "offset") {
        Some(offset) => offset.parse().ok()?,
        None => 0_u64,
    };
    offset.checked_add(entry(tensor, "length")?.parse().ok()?)
}

/// Reads of the files that are wanted what is needed of each, from `dir`. Each must lie in it, wherever links lead.
pub(super) fn read(dir: Option<&Path>, wanted: &[Wanted]) -> Result<Vec<ExternalFile>, EngineError> {
    if let Some(Wanted { location, .. }) = wanted.get(MOST_FILES) {
        let what = format!("is one of more than {MOST_FILES} files");
        return Err(EngineError::External { location: location.clone(), what });
    }
    let mut left = LARGEST;
    let mut files = Vec::with_capacity(wanted.len());
    for Wanted { location, end } in wanted {
        let refuse = |what: String| EngineError::External { location: location.clone(), what };
        let dir = dir.ok_or_else(|| refuse("there is no folder to look in".to_owned()))?;
        let file = open(dir, location, *end, left).map_err(refuse)?;
        left -= file.bytes.len() as u64;
        files.push(file);
    }
    Ok(files)
}

fn open(dir: &Path, location: &str, end: Option<u64>, most: u64) -> Result<ExternalFile, String> {
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
    // Several models may share a file, and behind the weights there may be anything.
    let length = end.unwrap_or(meta.len());
    if length > meta.len() {
        return Err(format!("is {} bytes, and the last weight in it ends after {length}", meta.len()));
    }
    if length > most {
        return Err(format!(
            "has {length} bytes of weights: with them there are more than the {LARGEST} bytes that are read"
        ));
    }
    let room = memory::reserve(length).map_err(|error| format!("has {length} bytes of weights: {error}"))?;
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    // Allocated once, where it will stay.
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    let into = Arc::get_mut(&mut bytes).ok_or("is read by someone else")?;
    let mut file = std::fs::File::open(&path).map_err(text)?;
    file.read_exact(into).map_err(text)?;
    drop(room);
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
        let found: Vec<String> = locations(&model).into_iter().map(|file| file.location).collect();
        assert_eq!(found, ["outer", "inner", "constant"]);
    }

    #[test]
    fn of_a_file_is_wanted_what_its_weights_take() {
        let part = |offset: &str, length: Option<&str>| {
            let mut tensor = location("w");
            let entries = [("offset", Some(offset)), ("length", length)];
            tensor.external_data.extend(entries.into_iter().filter_map(|(key, value)| {
                Some(pb::StringStringEntryProto { key: key.to_owned(), value: value?.to_owned() })
            }));
            tensor
        };
        let end = |initializer: Vec<pb::TensorProto>| {
            let graph = pb::GraphProto { initializer, ..pb::GraphProto::default() };
            locations(&pb::ModelProto { graph: Some(graph), ..pb::ModelProto::default() })[0].end
        };
        assert_eq!(end(vec![part("8", Some("4")), part("0", Some("8"))]), Some(12));
        assert_eq!(end(vec![part("8", Some("4")), part("0", None)]), None);
        let wrong = [part("-1", Some("4")), part("0", Some("x")), part("1", Some("18446744073709551615"))];
        for tensor in wrong {
            assert_eq!(end(vec![tensor]), None);
        }
    }

    #[test]
    fn a_sparse_file_costs_what_is_needed_of_it_or_is_refused_by_its_size() {
        let root = tempfile::tempdir().unwrap();
        std::fs::File::create(root.path().join("w")).unwrap().set_len(1 << 40).unwrap();
        let read = |end: Option<u64>| {
            read(Some(root.path()), &[Wanted { location: "w".to_owned(), end }]).map_err(|it| it.to_string())
        };
        assert_eq!(read(Some(1000)).unwrap()[0].bytes.len(), 1000);
        let whole = read(None).unwrap_err();
        assert!(
            whole.contains("`w`") && whole.contains("1099511627776") && whole.contains("17179869184"),
            "{whole}"
        );
        let beyond = read(Some((1 << 40) + 1)).unwrap_err();
        assert!(beyond.contains("ends after 1099511627777"), "{beyond}");
    }

    #[test]
    fn weights_for_which_there_is_no_memory_are_refused_by_their_file() {
        let Some(available) = memory::available().filter(|available| *available < LARGEST - (1 << 30)) else {
            return eprintln!("SKIPPED: there is memory for all that may be asked for");
        };
        let root = tempfile::tempdir().unwrap();
        std::fs::File::create(root.path().join("w")).unwrap().set_len(LARGEST).unwrap();
        let wanted = Wanted { location: "w".to_owned(), end: Some(available + (1 << 30)) };
        let error = read(Some(root.path()), &[wanted]).unwrap_err().to_string();
        assert!(error.starts_with("external data `w`: has") && error.contains("MiB of memory"), "{error}");
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
        let wanted = |location: &str| Wanted { location: location.to_owned(), end: None };
        let read = |location: &str| read(Some(root.path()), &[wanted(location)]);
        for location in ["weights.bin", "./weights.bin", "within"] {
            assert_eq!(&*read(location).unwrap()[0].bytes, b"abc", "{location}");
        }
        let absolute = root.path().join("weights.bin").display().to_string();
        for location in ["link", "../weights.bin", &absolute, "folder", "nothing", ""] {
            let error = read(location).unwrap_err().to_string();
            assert!(error.contains(location) && error.starts_with("external data"), "{error}");
        }
        assert!(super::read(None, &[wanted("weights.bin")]).is_err());
    }
}
