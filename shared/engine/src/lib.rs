//! Runs ONNX models, behind one small trait: an [`Engine`] loads a [`Model`], each thread that computes holds a
//! [`Session`] of it.
//!
//! * [`signature`]: what a file says of itself, whatever will run it.
//! * [`external`]: weights that lie in files beside it.
//! * [`graph`]: what its operations show without running them. [`zipmap`]: outputs that are no tensors made such.
//! * `tract`: the engine that is always there. Other crates may bring others.
//! * [`fixed`]: a model that takes one sample of known shapes, as a bundle's do.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub use signature::{Axis, Port, Signature};
pub use tract::Tract;

use external::ExternalFile;
use millgate_array::{Array, ArrayError, Datatype};

pub mod external;
pub mod fixed;
pub mod graph;
pub mod signature;
mod tract;
pub mod zipmap;

/// What helps where the built-in engine cannot run a model, or is not trusted with it.
pub const REMEDY: &str =
    "serve it with ONNX Runtime: `millgate-cloud engine install onnxruntime-*.whl` (docs/serving.md)";

/// An ONNX file in memory: as it was read, but for outputs that are made tensors.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    pub bytes: Bytes,
    /// Where weights lie that the file refers to rather than holds.
    pub dir: Option<PathBuf>,
    /// Those weights, read.
    pub external: Vec<ExternalFile>,
    pub signature: Arc<Signature>,
}

impl OnnxFile {
    /// Reads the signature and, from `dir`, the weights that the file names.
    pub fn read(bytes: Bytes, dir: Option<PathBuf>) -> Result<Self, EngineError> {
        let signature = Arc::new(signature::read(&bytes)?);
        let bytes = match &*signature.zipped {
            [] => bytes,
            zipped => zipmap::unzip(&bytes, zipped)?,
        };
        let external = external::read(dir.as_deref(), &signature.external_files)?;
        Ok(Self { bytes, dir, external, signature })
    }
}

/// Which input shapes a model will be given.
#[derive(Debug, Clone, Copy)]
pub enum Shapes<'a> {
    /// Any that its signature allows.
    Any,
    /// Only these, in the signature's order: less memory, and what is wrong with them shows at load.
    Only(&'a [Vec<usize>]),
}

pub trait Engine: Send + Sync + std::fmt::Debug {
    /// As decisions, metrics and configuration name it.
    fn name(&self) -> &'static str;

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError>;
}

/// A loaded model. Shared; cheap to get sessions from.
pub trait Model: Send + Sync + std::fmt::Debug {
    fn engine(&self) -> &'static str;

    fn signature(&self) -> &Signature;

    /// Each set of input shapes costs a plan, so that few of them are better than many.
    fn plans_by_shape(&self) -> bool {
        false
    }

    /// So many threads will ask for a session, soon. Worth something where a session is costly to make.
    fn prepare(&self, _sessions: usize) -> Result<(), EngineError> {
        Ok(())
    }

    /// An element of BYTES may hold a zero byte.
    fn takes_zero_bytes(&self) -> bool {
        true
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError>;
}

/// One thread's state for one model.
pub trait Session: Send {
    /// All outputs in the signature's order, for inputs in the signature's order. Inputs were checked against the
    /// signature; whatever else is wrong with them is an error of this run alone.
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError>;
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    #[error("`{name}` is {what}, which cannot be served")]
    Kind { name: String, what: String },
    #[error("external data `{location}`: {what}")]
    External { location: String, what: String },
    #[error("opset {found} of the default domain is not in {}..={}", fixed::OPSETS.start(), fixed::OPSETS.end())]
    Opset { found: i64 },
    #[error("inputs are {found:?}, the manifest says {expected:?}")]
    Inputs { expected: Vec<String>, found: Vec<String> },
    #[error("input `{name}` has shape {found}, the manifest says {expected:?}")]
    InputShape { name: String, expected: Vec<usize>, found: String },
    #[error("output `{0}` is missing")]
    MissingOutput(String),
    #[error("output `{name}` has shape {found}, the manifest says {expected:?}")]
    OutputShape { name: String, expected: Vec<usize>, found: String },
    #[error("output `{name}` is {found}, the file says {expected}")]
    OutputType { name: String, expected: Datatype, found: String },
    #[error("the engine does not take {0}")]
    Datatype(Datatype),
    #[error("cannot be prepared: {0}")]
    Prepare(String),
    /// The model would run, and what it answers may be wrong.
    #[error("{0}; {REMEDY}")]
    Untrusted(String),
    #[error("got {got} inputs, needs {expected}")]
    InputCount { expected: usize, got: usize },
    #[error("input `{name}` needs shape {expected:?}, got {got:?}")]
    InputValue { name: String, expected: Vec<usize>, got: Vec<usize> },
    #[error("input `{name}` needs {expected}, got {found}")]
    InputType { name: String, expected: Datatype, found: Datatype },
    #[error(transparent)]
    Array(#[from] ArrayError),
    #[error("failed while running: {0}")]
    Run(String),
    /// An input holds what a node of this engine would make something else of without a word. `what` is NaN or infinity.
    #[error("input `{name}` holds {what}, of which tract's {node} makes a number; {REMEDY}")]
    Unheard { name: String, what: &'static str, node: String },
}
