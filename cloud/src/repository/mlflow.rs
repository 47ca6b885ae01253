//! A model as MLflow keeps it: `MLmodel`, a page of YAML, beside the file. Read, and held against the file.
//!
//! Only the `onnx` flavor is served; what other flavors hold runs Python.

use std::collections::BTreeMap;
use std::path::Path;

use millgate_shared::array::Datatype;
use millgate_shared::engine::{Port, Signature};
use millgate_shared::text_file;
use serde::Deserialize;

use super::RepositoryError;
use super::file::{bounded, stands};

pub(super) const FILE_NAME: &str = "MLmodel";
/// More is not read.
const LONGEST: u64 = 1 << 20;
/// Deeper than any key lies.
const DEEPEST: usize = 32;
/// What an `MLmodel` holds is counted in dozens; aliases are not used.
const MOST_NODES: usize = 20_000;
const MOST_ALIASES: usize = 64;

/// What is wanted of an `MLmodel`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mlflow {
    /// The ONNX file, or its folder; from the folder of the `MLmodel`.
    pub(super) data: String,
    /// For clients: where the model comes from.
    pub(super) origin: Vec<(&'static str, String)>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// The file's keys; others are passed over.
#[derive(Debug, Deserialize)]
struct Page {
    flavors: BTreeMap<String, Option<Flavor>>,
    signature: Option<Schemas>,
    model_uuid: Option<String>,
    model_id: Option<String>,
    run_id: Option<String>,
    utc_time_created: Option<String>,
    mlflow_version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Flavor {
    /// A path, where it is `onnx`.
    data: Option<serde_json::Value>,
}

/// Each a text that holds JSON.
#[derive(Debug, Deserialize)]
struct Schemas {
    inputs: Option<String>,
    outputs: Option<String>,
}

/// A column of a table has no `tensor-spec`, and says nothing of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Tensor {
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    spec: Option<Spec>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Spec {
    /// Name of the datatype in numpy.
    dtype: String,
    /// Axes; -1 is any length.
    shape: Vec<i64>,
}

/// `None` where the folder has none.
pub(super) fn read(root: &Path, folder: &Path) -> Result<Option<Mlflow>, RepositoryError> {
    let path = folder.join(FILE_NAME);
    if !stands(&path) {
        return Ok(None);
    }
    let bytes = bounded(root, &path, LONGEST)?;
    let refuse = |message: String| RepositoryError::Mlflow { path: path.clone(), message };
    let text = text_file::decode(&bytes).map_err(|error| refuse(error.to_string()))?;
    parse(text).map(Some).map_err(refuse)
}

fn parse(text: &str) -> Result<Mlflow, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: MOST_NODES,
            max_aliases: MOST_ALIASES,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_NODES,
            max_replay_stack_depth: 4,
        },
        with_snippet: false,
    };
    let page: Page = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    let Some(onnx) = page.flavors.get("onnx") else {
        let others: Vec<&str> = page.flavors.keys().map(String::as_str).collect();
        return Err(format!(
            "flavors: there is no `onnx`, and {others:?} run Python, which is not done here"
        ));
    };
    let data = onnx.as_ref().and_then(|onnx| onnx.data.as_ref());
    let Some(data) = data.and_then(|data| data.as_str()).filter(|data| !data.is_empty()) else {
        return Err("flavors.onnx.data: names no file".to_owned());
    };
    let signature = page.signature.unwrap_or(Schemas { inputs: None, outputs: None });
    let origin = [
        ("mlflow.model_uuid", page.model_uuid),
        ("mlflow.model_id", page.model_id),
        ("mlflow.run_id", page.run_id),
        ("mlflow.utc_time_created", page.utc_time_created),
        ("mlflow.mlflow_version", page.mlflow_version),
    ];
    Ok(Mlflow {
        data: data.to_owned(),
        origin: origin.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        inputs: tensors("signature.inputs", signature.inputs)?,
        outputs: tensors("signature.outputs", signature.outputs)?,
    })
}

fn tensors(field: &str, json: Option<String>) -> Result<Vec<Tensor>, String> {
    // Some writers put `null`.
    let read = |json: String| serde_json::from_str::<Option<Vec<Tensor>>>(&json);
    let tensors = json.map(read).transpose().map_err(|error| format!("{field}: {error}"))?;
    Ok(tensors.flatten().unwrap_or_default())
}

impl Mlflow {
    /// What it says of tensors must be so.
    pub(super) fn check(&self, signature: &Signature) -> Result<(), String> {
        check("signature.inputs", &self.inputs, &signature.inputs)?;
        check("signature.outputs", &self.outputs, &signature.outputs)
    }
}

fn check(field: &str, tensors: &[Tensor], ports: &[Port]) -> Result<(), String> {
    for tensor in tensors {
        let Some(spec) = &tensor.spec else { continue };
        let port = match (&tensor.name, tensors, ports) {
            (Some(name), _, _) => match ports.iter().find(|port| port.name == *name) {
                Some(port) => port,
                None => return Err(format!("{field}: the model has no `{name}`")),
            },
            // The only one needs no name.
            (None, [_], [port]) => port,
            (None, _, _) => continue,
        };
        let name = &port.name;
        // MLflow itself hands a model that takes FP32 what was float64 in a table.
        let is_narrowed = spec.dtype == "float64" && port.datatype == Datatype::Fp32;
        if datatype(&spec.dtype) != Some(port.datatype) && !is_narrowed {
            return Err(format!(
                "{field} `{name}`.dtype: is `{}`, the model's is {}",
                spec.dtype, port.datatype
            ));
        }
        if port.shape.is_none() {
            continue;
        }
        let shape = port.wire_shape();
        let fits = |(axis, own): (&i64, &i64)| *axis == -1 || *own == -1 || axis == own;
        if spec.shape.len() != shape.len() || !spec.shape.iter().zip(&shape).all(fits) {
            return Err(format!("{field} `{name}`.shape: is {:?}, the model's {shape:?}", spec.shape));
        }
    }
    Ok(())
}

/// numpy's name of a type of elements.
fn datatype(numpy: &str) -> Option<Datatype> {
    Some(match numpy {
        "bool" => Datatype::Bool,
        "uint8" => Datatype::Uint8,
        "uint16" => Datatype::Uint16,
        "uint32" => Datatype::Uint32,
        "uint64" => Datatype::Uint64,
        "int8" => Datatype::Int8,
        "int16" => Datatype::Int16,
        "int32" => Datatype::Int32,
        "int64" => Datatype::Int64,
        "float16" => Datatype::Fp16,
        "bfloat16" => Datatype::Bf16,
        "float32" => Datatype::Fp32,
        "float64" => Datatype::Fp64,
        "str" | "object" | "string" | "bytes" => Datatype::Bytes,
        other if other.starts_with("<U") || other.starts_with("|S") => Datatype::Bytes,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
