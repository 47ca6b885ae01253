//! ONNX Runtime: the reference, and the faster one for much. Its library is loaded while running, from where the
//! configuration says, so that a pool needs none that does not use it.
//!
//! * [`library`]: the library, once a process. `products`: a computation whose result is known, before it is believed.
//! * `session`: what a session is made with. `convert`: arrays to and fro.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::array::{Array, Values, elements};
use millgate_shared::engine::{Axis, Engine, EngineError, Model, OnnxFile, Session, Shapes, Signature};

use super::installed::Version;
use super::providers::Provider;
use library::Library;
pub(crate) use library::LibraryError;

mod convert;
mod library;
mod products;
mod session;
#[cfg(test)]
mod tests;

/// Sessions are made ahead for no longer than this; the rest are made when they are first needed.
const PREPARING: Duration = Duration::from_millis(500);

/// How a model's sessions are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// That one run may use.
    pub(crate) threads: usize,
    pub(crate) providers: Vec<Provider>,
    /// Those that the library lacks are passed over with a warning.
    pub(crate) may_lack: bool,
    /// Nothing is rearranged for speed: each operation by itself.
    pub(crate) plain: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { threads: 1, providers: vec![Provider::Cpu], may_lack: false, plain: false }
    }
}

/// The engine: a library and a way to use it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OnnxRuntime {
    library: Library,
    tuning: Tuning,
}

impl OnnxRuntime {
    pub(crate) const NAME: &str = "onnxruntime";
    /// The oldest version that can do what is asked of it.
    pub(crate) const LEAST: Version = Version { major: 1, minor: ort::MINOR_VERSION, patch: 0 };

    /// Loads the library, or takes the one that this process has loaded, which must be the same.
    pub(crate) fn open(path: &Path) -> Result<Self, LibraryError> {
        Ok(Self { library: Library::open(path)?, tuning: Tuning::default() })
    }

    /// An engine of this library that is used in another way.
    pub(crate) fn tuned(&self, tuning: Tuning) -> Self {
        Self { library: self.library.clone(), tuning }
    }

    /// Those of the providers that the library was built without.
    pub(crate) fn lacks(&self, providers: &[Provider]) -> Vec<Provider> {
        providers.iter().copied().filter(|provider| !session::is_available(*provider)).collect()
    }

    /// What the library says of its own build, version first.
    pub(crate) fn build(&self) -> &'static str {
        ort::info()
    }

    pub(crate) fn path(&self) -> &Path {
        self.library.path()
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        let graph = &file.signature.graph;
        self.library.products().check(graph).map_err(EngineError::Prepare)?;
        if let Some(what) = graph.contested {
            let why = "ONNX Runtime computes that otherwise than the standard's own tests have it";
            return Err(EngineError::Prepare(format!("it has {what}: {why}")));
        }
        let recipe = Recipe { engine: self.clone(), file: file.clone() };
        let first = recipe.session()?;
        let order = Order::of(&first, &file.signature)?;
        let mut model = OrtModel {
            signature: Arc::clone(&file.signature),
            recipe,
            order,
            idle: Mutex::new(Idle { sessions: vec![first], most: 1 }),
        };
        if let Shapes::Only(shapes) = shapes {
            model.signature = Arc::new(model.with_shapes(shapes)?);
        }
        Ok(Arc::new(model))
    }
}

/// All that it takes to make one more session.
#[derive(Debug)]
struct Recipe {
    engine: OnnxRuntime,
    file: OnnxFile,
}

impl Recipe {
    fn session(&self) -> Result<ort::session::Session, EngineError> {
        let OnnxRuntime { library, tuning } = &self.engine;
        catch_unwind(AssertUnwindSafe(|| session::make(library, tuning, &self.file)))
            .unwrap_or_else(|_| Err(EngineError::Prepare("the engine panicked".to_owned())))
    }
}

/// Where the signature's ports stand in a session.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    /// For each of the session's inputs, which of the signature's it is.
    inputs: Vec<usize>,
    /// For each of the signature's outputs, which of the session's it is.
    outputs: Vec<usize>,
}

impl Order {
    fn of(session: &ort::session::Session, signature: &Signature) -> Result<Self, EngineError> {
        let inputs: Vec<&str> = session.inputs().iter().map(ort::value::Outlet::name).collect();
        let outputs: Vec<&str> = session.outputs().iter().map(ort::value::Outlet::name).collect();
        let differ = |what: &str, found: &[&str]| EngineError::Prepare(format!("its {what} are {found:?}"));
        let known = inputs.iter().map(|name| signature.input(name));
        let known: Option<Vec<usize>> = known.collect();
        let known = known.filter(|known| known.len() == signature.inputs.len());
        let given = signature.outputs.iter().map(|port| outputs.iter().position(|name| *name == port.name));
        let given: Option<Vec<usize>> = given.collect();
        Ok(Self {
            inputs: known.ok_or_else(|| differ("inputs", &inputs))?,
            outputs: given.ok_or_else(|| differ("outputs", &outputs))?,
        })
    }
}

/// Sessions that nobody uses just now.
#[derive(Debug)]
struct Idle {
    sessions: Vec<ort::session::Session>,
    most: usize,
}

#[derive(Debug)]
struct OrtModel {
    signature: Arc<Signature>,
    recipe: Recipe,
    order: Order,
    idle: Mutex<Idle>,
}

impl OrtModel {
    fn with_idle<T>(&self, work: impl FnOnce(&mut Idle) -> T) -> T {
        work(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The signature for these input shapes only: a run with blank inputs tells those of the outputs.
    fn with_shapes(&self, shapes: &[Vec<usize>]) -> Result<Signature, EngineError> {
        let mut signature = (*self.signature).clone();
        if shapes.len() != signature.inputs.len() {
            return Err(EngineError::InputCount { expected: signature.inputs.len(), got: shapes.len() });
        }
        let inputs = signature.inputs.iter().zip(shapes).map(|(port, shape)| {
            let count = elements(shape).unwrap_or(0);
            let blank = vec![0; count.saturating_mul(port.datatype.size().unwrap_or(size_of::<u32>()))];
            Ok(Array::new(shape.clone(), Values::from_raw(port.datatype, count, &blank)?)?)
        });
        let inputs: Vec<Array> = inputs.collect::<Result<_, EngineError>>()?;
        signature.check(&inputs).map_err(|misfit| EngineError::Prepare(misfit.to_string()))?;
        let outputs = self.with_idle(|idle| match idle.sessions.last_mut() {
            Some(session) => {
                convert::run(session, &self.order.inputs, &self.order.outputs, inputs, &signature)
            }
            None => Err(EngineError::Prepare("no session".to_owned())),
        })?;
        let fixed = |shape: &[usize]| shape.iter().copied().map(Axis::Fixed).collect::<Vec<Axis>>();
        for (port, shape) in signature.inputs.iter_mut().zip(shapes) {
            port.shape = Some(fixed(shape));
        }
        for (port, output) in signature.outputs.iter_mut().zip(&outputs) {
            port.shape = Some(fixed(output.shape()));
        }
        Ok(signature)
    }
}

impl Model for OrtModel {
    fn takes_zero_bytes(&self) -> bool {
        false
    }

    fn engine(&self) -> &'static str {
        OnnxRuntime::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn prepare(&self, sessions: usize) -> Result<(), EngineError> {
        let started = Instant::now();
        let mut there = self.with_idle(|idle| {
            idle.most = sessions.max(1);
            idle.sessions.len()
        });
        while there < sessions && started.elapsed() < PREPARING {
            let session = self.recipe.session()?;
            there = self.with_idle(|idle| {
                idle.sessions.push(session);
                idle.sessions.len()
            });
        }
        Ok(())
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        let session = match self.with_idle(|idle| idle.sessions.pop()) {
            Some(session) => session,
            None => self.recipe.session()?,
        };
        Ok(Box::new(OrtSession { model: self, session: Some(session) }))
    }
}

/// A session, lent by its model: one run at a time.
struct OrtSession {
    model: Arc<OrtModel>,
    /// `None` once it has panicked.
    session: Option<ort::session::Session>,
}

impl Session for OrtSession {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
        let OrtModel { signature, order, .. } = &*self.model;
        let expected = signature.inputs.len();
        if inputs.len() != expected {
            return Err(EngineError::InputCount { expected, got: inputs.len() });
        }
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.model.recipe.session()?,
        };
        // A session that has panicked is not used again.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let ran = convert::run(&mut session, &order.inputs, &order.outputs, inputs, signature);
            (ran, session)
        }));
        let (ran, session) = ran.map_err(|_| EngineError::Run("the engine panicked".to_owned()))?;
        self.session = Some(session);
        ran
    }
}

impl Drop for OrtSession {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let left = self.model.with_idle(|idle| {
            if idle.sessions.len() < idle.most {
                idle.sessions.push(session);
                return None;
            }
            Some(session)
        });
        // Not under the lock: this takes a while.
        drop(left);
    }
}
