//! The seam between a file and whatever runs it: an [`Engine`] loads a [`Model`], each thread that computes holds a
//! [`Session`] of it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millgate_array::Array;

use crate::error::EngineError;
use crate::external::{self, ExternalFile};
use crate::signature::{self, Signature};
use crate::zipmap;

/// ONNX file in memory: as it was read, but for outputs that are made tensors.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    pub bytes: Bytes,
    /// Folder in which weights lie that the file refers to rather than holds; `None` if it may not refer to any.
    pub dir: Option<PathBuf>,
    /// Weights that the file refers to, read.
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

/// Input shapes that a model will be given.
#[derive(Debug, Clone, Copy)]
pub enum Shapes<'a> {
    /// Any shapes that its signature allows.
    Any,
    /// These shapes alone, in the signature's order: less memory, and what is wrong with them shows at load.
    Only(&'a [Vec<usize>]),
}

pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Name of the engine in decisions, metrics and configuration.
    fn name(&self) -> &'static str;

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError>;
}

/// Loaded model. Shared between threads; sessions of it are cheap to make.
pub trait Model: Send + Sync + std::fmt::Debug {
    fn engine(&self) -> &'static str;

    fn signature(&self) -> &Signature;

    /// True if each set of input shapes costs a plan, so that few of them are better than many.
    fn plans_by_shape(&self) -> bool {
        false
    }

    /// True if the memory that a run takes is known by the shapes of its inputs, whatever their values are.
    fn takes_known_memory(&self) -> bool {
        false
    }

    /// Announces that so many threads will soon ask for a session. Worth something where a session is costly to make.
    fn prepare(&self, _sessions: usize) -> Result<(), EngineError> {
        Ok(())
    }

    /// True if an element of BYTES may hold a zero byte.
    fn takes_zero_bytes(&self) -> bool {
        true
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError>;
}

/// State of one thread for one model.
pub trait Session: Send {
    /// Runs the model: all outputs in the signature's order, for inputs in the signature's order. Inputs were checked
    /// against the signature; whatever else is wrong with them is an error of this run alone.
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError>;

    /// Runs the model as [`Session::run`] does, and says how much memory that took, where it can be known: it costs a
    /// little time, and what other threads take meanwhile is counted as well.
    fn run_measured(&mut self, inputs: Vec<Array>) -> Result<(Vec<Array>, Option<Took>), EngineError> {
        Ok((self.run(inputs)?, None))
    }

    /// A handle by which another thread can end a run that goes on for too long; `None` where runs cannot be ended.
    fn ender(&self) -> Option<Arc<dyn Ender>> {
        None
    }
}

/// Ends a run of one session from outside.
pub trait Ender: Send + Sync + std::fmt::Debug {
    /// Ends whatever computes the run, for the reason `why`: "it took more than 3 s". The run returns
    /// [`EngineError::Ended`] with that reason. Where none is under way, the next one begins anew.
    fn end(&self, why: String);
}

/// Memory of a process around one run, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// What it held when the run began.
    pub before: u64,
    /// The most that it held until the run was over.
    pub peak: u64,
}
