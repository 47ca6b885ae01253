//! Stands where ONNX Runtime would: this binary is built without it, and says so when it is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millgate_shared::engine::{Engine, EngineError, Model, OnnxFile, Shapes};

use super::installed::Version;
use super::providers::Provider;

#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: this binary is built without the feature `onnxruntime`", .0.display())]
pub(crate) struct LibraryError(PathBuf);

#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    pub(crate) threads: usize,
    pub(crate) providers: Vec<Provider>,
    pub(crate) may_lack: bool,
    pub(crate) plain: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { threads: 1, providers: vec![Provider::Cpu], may_lack: false, plain: false }
    }
}

/// There is none: it is never made.
#[derive(Debug, Clone)]
pub(crate) struct OnnxRuntime(PathBuf);

impl OnnxRuntime {
    pub(crate) const NAME: &str = "onnxruntime";
    pub(crate) const LEAST: Version = Version { major: 1, minor: 24, patch: 0 };

    pub(crate) fn open(path: &Path) -> Result<Self, LibraryError> {
        Err(LibraryError(path.to_path_buf()))
    }

    pub(crate) fn tuned(&self, _tuning: Tuning) -> Self {
        self.clone()
    }

    pub(crate) fn lacks(&self, providers: &[Provider]) -> Vec<Provider> {
        providers.to_vec()
    }

    pub(crate) fn build(&self) -> &'static str {
        ""
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn load(&self, _file: &OnnxFile, _shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        Err(EngineError::Prepare(LibraryError(self.0.clone()).to_string()))
    }
}
