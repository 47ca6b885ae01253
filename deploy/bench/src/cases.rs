//! Models and inputs that a script has laid out, run by the built-in engine alone: what does it answer, or why not.
//!
//! Each folder holds `model.onnx` and `inputs.json`, a list of `{name, datatype, shape, file}`, whose files hold raw
//! contents as the protocol has them. Beside them come `answer.json` and the files that it names.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millgate_shared::array::{Array, Datatype};
use millgate_shared::engine::{Engine, EngineError, OnnxFile, Shapes, Tract};
use serde::{Deserialize, Serialize};

use crate::LoadError;

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    /// Where its contents lie, in the case's folder.
    file: String,
}

/// What became of a case.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// `load` or `run`, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    outputs: Vec<Part>,
}

/// Every case of `dir` that has no answer yet, in the order of their names; each is named before it runs, so that a
/// script can tell which one ended the process.
pub fn run(dir: &Path, fixed_shapes: bool, out: &mut impl Write) -> Result<(), LoadError> {
    let io = |what: &Path| {
        let what = what.display().to_string();
        move |source| LoadError::Io { what, source }
    };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let folder = entry.map_err(io(dir))?.path();
        if folder.join("model.onnx").is_file() && !folder.join("answer.json").exists() {
            folders.push(folder);
        }
    }
    folders.sort();
    for folder in folders {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        writeln!(out, "{name}")?;
        out.flush()?;
        let answer = answer(&folder, fixed_shapes)?;
        let path = folder.join("answer.json");
        let text = serde_json::to_vec(&answer).map_err(std::io::Error::from).map_err(io(&path))?;
        std::fs::write(&path, text).map_err(io(&path))?;
    }
    Ok(())
}

fn answer(folder: &Path, fixed_shapes: bool) -> Result<Answer, LoadError> {
    let read = |file: &str| -> Result<Vec<u8>, LoadError> {
        let path: PathBuf = folder.join(file);
        std::fs::read(&path).map_err(|source| LoadError::Io { what: path.display().to_string(), source })
    };
    let listed = read("inputs.json")?;
    let parts: Vec<Part> = serde_json::from_slice(&listed).map_err(|error| LoadError::Io {
        what: folder.join("inputs.json").display().to_string(),
        source: error.into(),
    })?;
    let mut given = Vec::with_capacity(parts.len());
    for part in &parts {
        let refuse = |message: String| LoadError::Input {
            model: folder.display().to_string(),
            input: part.name.clone(),
            message,
        };
        let datatype = Datatype::from_name(&part.datatype);
        let datatype = datatype.ok_or_else(|| refuse(format!("no datatype `{}`", part.datatype)))?;
        let array = Array::from_raw(datatype, part.shape.clone(), &read(&part.file)?);
        given.push(array.map_err(|error| refuse(error.to_string()))?);
    }
    let (model, dir) = (read("model.onnx")?, Some(folder.to_path_buf()));
    let failed = |failed, error: EngineError| {
        let (failed, error) = (Some(failed), Some(error.to_string()));
        Answer { failed, error, outputs: Vec::new() }
    };
    let file = match OnnxFile::read(Bytes::from(model), dir) {
        Ok(file) => file,
        Err(error) => return Ok(failed("load", error)),
    };
    let inputs: Option<Vec<Array>> = file
        .signature
        .inputs
        .iter()
        .map(|port| {
            let at = parts.iter().position(|part| part.name == port.name)?;
            Some(given[at].clone())
        })
        .collect();
    let Some(inputs) = inputs else {
        return Ok(failed(
            "run",
            EngineError::InputCount { expected: file.signature.inputs.len(), got: given.len() },
        ));
    };
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
    let loaded = Tract.load(&file, if fixed_shapes { Shapes::Only(&shapes) } else { Shapes::Any });
    let model = match loaded {
        Ok(model) => model,
        Err(error) => return Ok(failed("load", error)),
    };
    let signature = Arc::clone(&file.signature);
    let outputs = match model.session().and_then(|mut session| session.run(inputs)) {
        Ok(outputs) => outputs,
        Err(error) => return Ok(failed("run", error)),
    };
    let mut answer = Answer::default();
    for (at, (output, port)) in outputs.iter().zip(&signature.outputs).enumerate() {
        let part = Part {
            name: port.name.clone(),
            datatype: output.datatype().name().to_owned(),
            shape: output.shape().to_vec(),
            file: format!("answer_{at}.bin"),
        };
        let path = folder.join(&part.file);
        std::fs::write(&path, output.values().to_raw())
            .map_err(|source| LoadError::Io { what: path.display().to_string(), source })?;
        answer.outputs.push(part);
    }
    Ok(answer)
}
