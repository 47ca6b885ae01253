//! Where a model is run: in this process, in a worker of its own, or in one that it shares with others.

use std::path::{Path, PathBuf};

use millgate_shared::engine::{Engine, EngineError, Tract};

use super::guest::{self, Seen};
use super::onnxruntime::{OnnxRuntime, Tuning};
use super::providers::Provider;
use crate::guests::{Guests, Household};

/// Where a model is to be run, where there are workers.
#[derive(Debug)]
pub(crate) struct Home {
    name: String,
    /// The worker that it shares with others in ONNX Runtime; `None`: each engine's attempt has a worker of its own.
    shared: Option<Household>,
    /// tract runs it in this process: it has lived through that in a worker.
    is_proved: bool,
}

impl Home {
    /// A worker of the model's own.
    pub(crate) fn own(name: &str) -> Self {
        Self { name: name.to_owned(), shared: None, is_proved: false }
    }

    /// The home of a bundle's model: ONNX Runtime runs it in a worker that all of them share; tract runs it here, where
    /// that `is_proved`.
    pub(crate) fn of_bundle(name: &str, shared: &Household, is_proved: bool) -> Self {
        Self { name: name.to_owned(), shared: Some(shared.clone()), is_proved }
    }

    pub(super) fn tract(&self, guests: &Guests) -> Box<dyn Engine> {
        if self.is_proved || !guests.are_apart() {
            return Box::new(Tract);
        }
        guest::tract(guests, &guests.household(&self.name))
    }

    fn household(&self, guests: &Guests) -> Household {
        self.shared.clone().unwrap_or_else(|| guests.household(&self.name))
    }
}

/// The library of ONNX Runtime that was found to work.
#[derive(Debug)]
pub(super) enum Library {
    /// The library is loaded into this process.
    Here(OnnxRuntime),
    /// Workers load it.
    Apart { path: PathBuf, seen: Seen },
}

impl Library {
    /// Loads it, in a worker where there are such: a broken one ends no more than that. The text of an error names the file.
    pub(super) fn open(path: &Path, guests: &Guests) -> Result<Self, String> {
        if !guests.are_apart() {
            return OnnxRuntime::open(path).map(Self::Here).map_err(|error| error.to_string());
        }
        let refuse = |error: EngineError| {
            let (text, name) = (error.to_string(), path.display().to_string());
            if text.contains(&name) { text } else { format!("{name}: {text}") }
        };
        let seen = guest::look(guests, path).map_err(refuse)?;
        tracing::info!(path = %path.display(), build = seen.build, "ONNX Runtime is here");
        // As the loader would name it, whatever has led here.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Ok(Self::Apart { path, seen })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Here(opened) => opened.path(),
            Self::Apart { path, .. } => path,
        }
    }

    /// Those of the providers that the library was built without.
    pub(super) fn lacks(&self, providers: &[Provider]) -> Vec<Provider> {
        match self {
            Self::Here(opened) => opened.lacks(providers),
            Self::Apart { seen, .. } => {
                providers.iter().copied().filter(|provider| !seen.has(*provider)).collect()
            }
        }
    }

    pub(super) fn engine(
        &self,
        tuning: Tuning,
        guests: &Guests,
        home: &Home,
    ) -> Result<Box<dyn Engine>, EngineError> {
        match self {
            Self::Here(opened) => Ok(Box::new(opened.tuned(tuning))),
            Self::Apart { path, .. } => guest::onnxruntime(guests, &home.household(guests), path, &tuning),
        }
    }
}
