//! Lives through a bundle in a worker before anything of it is loaded here: every model is loaded and run, on its golden
//! samples and in batches. What ends the worker is an error that names the model.

use std::sync::Arc;

use millgate_shared::bundle::manifest::model_path;
use millgate_shared::bundle::{Bundle, BundleError};
use millgate_shared::engine::{Engine, EngineError, OnnxFile, Shapes, Tract};
use millgate_shared::proof::golden::{self, Passed};
use millgate_shared::runner::{Holding, Models};

use crate::engines::{guest, trial};
use crate::guests::Guests;

/// Name of the worker.
const HOUSEHOLD: &str = "bundle-proof";

/// Loads every model and runs the golden samples: in a worker, or in this process where there are none.
pub(crate) fn passed(bundle: &Bundle, guests: &Guests) -> Result<Passed, BundleError> {
    if !guests.are_apart() {
        return Ok(checked(bundle, &Tract)?.1);
    }
    let engine = guest::tract(guests, &guests.household(HOUSEHOLD));
    Ok(checked(bundle, &*engine)?.1)
}

fn checked(bundle: &Bundle, engine: &dyn Engine) -> Result<(Arc<Models>, Passed), BundleError> {
    let models = Arc::new(Models::load(bundle, Holding::All, engine)?);
    let passed = golden::check(bundle, &models)?;
    Ok((models, passed))
}

/// Loads and runs every model as this process would; blocks for as long as that takes.
pub(super) fn prove(bundle: &Bundle, guests: &Guests) -> Result<(), BundleError> {
    let engine = guest::tract(guests, &guests.household(HOUSEHOLD));
    let (models, _passed) = checked(bundle, &*engine)?;
    for (name, _) in models.all() {
        let path = model_path(name);
        let onnx = bundle.read(&path)?;
        let tried = OnnxFile::read(onnx.into(), None).and_then(|file| {
            let model = engine.load(&file, Shapes::Any)?;
            trial::run(&model, None, &[], guests.load_limit())
        });
        match tried {
            // What ends no process may go wrong where it is served, which says so.
            Ok(_) => {}
            Err(error @ EngineError::Ended(_)) => {
                return Err(BundleError::Model { file: path, source: error.into() });
            }
            Err(error) => tracing::debug!(model = name, %error, "a model cannot be tried in batches"),
        }
    }
    Ok(())
}
