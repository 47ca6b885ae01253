//! `libonnxruntime`, loaded once a process and never let go: its environment is global.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::convert::text;
use super::products::{self, Products};

static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// Why the library cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LibraryError {
    #[error("{}: {reason}", path.display())]
    Load { path: PathBuf, reason: String },
    #[error("{}: this process runs with {} already", path.display(), loaded.display())]
    Another { path: PathBuf, loaded: PathBuf },
}

#[derive(Debug, Clone)]
pub(crate) struct Library {
    path: PathBuf,
    environment: Environment,
    products: Products,
}

impl Library {
    pub(super) fn open(path: &Path) -> Result<Self, LibraryError> {
        let refuse = |reason: String| LibraryError::Load { path: path.to_path_buf(), reason };
        // `ort` looks for a relative path beside the executable first.
        let real = path.canonicalize().map_err(|error| refuse(error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*loaded {
            if library.path == real {
                return Ok(library.clone());
            }
            let (path, loaded) = (path.to_path_buf(), library.path.clone());
            return Err(LibraryError::Another { path, loaded });
        }
        let library = catch_unwind(|| load(&real)).unwrap_or_else(|_| Err("is no ONNX Runtime".to_owned()));
        let library = library.map_err(refuse)?;
        *loaded = Some(library.clone());
        Ok(library)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What its 8-bit arithmetic is worth on this machine.
    pub(super) fn products(&self) -> Products {
        self.products
    }
}

fn load(path: &Path) -> Result<Library, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    // What matters comes back as an error; the rest is for whoever looks for it.
    let log = |_: LogLevel, _: &str, _: &str, place: &str, message: &str| {
        tracing::debug!(target: "onnxruntime", place, "{}", message.trim_end());
    };
    let environment = builder.with_name("millgate").with_telemetry(false).with_logger(Arc::new(log)).build();
    let environment = environment.map_err(|error| error.to_string())?;
    environment.set_log_level(LogLevel::Warning);
    let products =
        products::check(&environment).map_err(|error| format!("cannot compute: {}", text(&error)))?;
    tracing::info!(path = %path.display(), build = ort::info(), "ONNX Runtime is loaded");
    if products != Products::Exact {
        tracing::info!(
            ?products,
            "this CPU has no VNNI: models that multiply 8-bit numbers by others than constants are kept from ONNX Runtime"
        );
    }
    Ok(Library { path: path.to_path_buf(), environment, products })
}
