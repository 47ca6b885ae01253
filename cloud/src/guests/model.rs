//! A model that lives in a worker, and its sessions there, as engines have them.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use millgate_shared::array::Array;
use millgate_shared::engine::{
    Cause, Doing, Ender, Ending, Engine, EngineError, Model, OnnxFile, Port, Session, Shapes, Signature, Took,
};

use super::house::{House, Household};
use super::lane::Lane;
use super::message::{Answer, Ask, Load, Loaded, Named, Weights};
use super::process::Process;
use super::shared::kept;
use super::{Facts, Spec};

/// A model that is loaded may wait so long until its process may be started again.
const LONG: Duration = Duration::from_secs(60);

/// An engine whose models live in one household.
#[derive(Debug)]
pub(super) struct GuestEngine {
    pub(super) spec: Spec,
    pub(super) household: Household,
}

impl Engine for GuestEngine {
    fn name(&self) -> &'static str {
        self.spec.engine
    }

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        let house = &self.household.0;
        let weights = file.external.iter().map(|weights| Weights {
            location: weights.location.clone(),
            path: weights.path.to_string_lossy().into_owned(),
            length: weights.bytes.len(),
        });
        let load = Load {
            model: house.inner.next(),
            engine: self.spec.engine.to_owned(),
            settings: self.spec.settings.clone(),
            shapes: match shapes {
                Shapes::Any => None,
                Shapes::Only(shapes) => Some(shapes.to_vec()),
            },
            dir: file.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            length: file.bytes.len(),
            weights: weights.collect(),
        };
        let parts = std::iter::once(&*file.bytes).chain(file.external.iter().map(|weights| &*weights.bytes));
        let bytes = kept(&parts.collect::<Vec<_>>());
        let bytes = bytes.map_err(|error| EngineError::Prepare(format!("no memory to share: {error}")))?;
        let mut model = GuestModel {
            house: Arc::clone(house),
            engine: self.spec.engine,
            signature: Arc::clone(&file.signature),
            facts: self.spec.facts,
            recipe: Recipe { ask: Ask::Load(load), bytes },
            lives_in: Mutex::new(None),
        };
        let process = house.process(LONG)?;
        let loaded = model.load_into(&process)?;
        model.take(loaded).map_err(|what| process.nonsense(what, Doing::Loading))?;
        model.lives_in = Mutex::new(Some(process.number));
        let model = Arc::new(model);
        house.add(&model);
        Ok(model)
    }
}

/// All that it takes to load a model again: what is served is what was read once.
#[derive(Debug)]
struct Recipe {
    ask: Ask,
    bytes: File,
}

#[derive(Debug)]
pub(super) struct GuestModel {
    house: Arc<House>,
    engine: &'static str,
    signature: Arc<Signature>,
    facts: Facts,
    recipe: Recipe,
    /// Number of the process that has loaded it. Whoever loads it again holds this meanwhile.
    lives_in: Mutex<Option<u64>>,
}

impl GuestModel {
    fn number(&self) -> u64 {
        match &self.recipe.ask {
            Ask::Load(load) => load.model,
            _ => 0,
        }
    }

    fn load_into(&self, process: &Arc<Process>) -> Result<Loaded, EngineError> {
        let limits = self.house.limits();
        let mut lane = Lane::open(process, limits, Doing::Loading)?;
        match lane.ask(&self.recipe.ask, Some(&self.recipe.bytes), limits.load, Doing::Loading)? {
            Answer::Loaded(loaded) => Ok(loaded),
            _ => Err(lane.nonsense("loaded something else".to_owned(), Doing::Loading)),
        }
    }

    /// Takes over what the worker knows better: shapes of outputs. An error says what it says that cannot be.
    fn take(&mut self, loaded: Loaded) -> Result<(), String> {
        let Ask::Load(Load { shapes, .. }) = &self.recipe.ask else { return Ok(()) };
        if shapes.is_some() {
            let signature = Arc::make_mut(&mut self.signature);
            over(&mut signature.inputs, loaded.inputs)?;
            over(&mut signature.outputs, loaded.outputs)?;
        }
        self.facts.plans_by_shape = loaded.plans_by_shape;
        self.facts.takes_zero_bytes = loaded.takes_zero_bytes;
        Ok(())
    }

    /// The process that has it, loaded into a new one if need be. Others who ask meanwhile wait for the same.
    fn settle(&self, process: Arc<Process>) -> Result<Arc<Process>, EngineError> {
        let mut lives_in = self.lives_in.lock().unwrap_or_else(PoisonError::into_inner);
        if *lives_in != Some(process.number) {
            self.load_into(&process)?;
            *lives_in = Some(process.number);
        }
        Ok(process)
    }

    /// Loads it into the household's process of now, after one has ended.
    pub(super) fn revive(&self) -> Result<(), EngineError> {
        self.settle(self.house.process(LONG)?)?;
        Ok(())
    }

    fn lane(&self) -> Result<Lane, EngineError> {
        let process = self.settle(self.house.process_for_run()?)?;
        let mut lane = Lane::open(&process, self.house.limits(), Doing::Running)?;
        let open = Ask::Open { model: self.number() };
        match lane.ask(&open, None, self.house.limits().load, Doing::Loading)? {
            Answer::Done => Ok(lane),
            _ => Err(lane.nonsense("opened something else".to_owned(), Doing::Running)),
        }
    }
}

/// Puts shapes over those of the same ports.
fn over(ports: &mut [Port], with: Vec<Named>) -> Result<(), String> {
    if ports.len() != with.len() {
        return Err("has other inputs or outputs than the file".to_owned());
    }
    for (port, named) in ports.iter_mut().zip(with) {
        let found = named.port()?;
        if (&found.name, found.datatype) != (&port.name, port.datatype) {
            return Err("has other inputs or outputs than the file".to_owned());
        }
        port.shape = found.shape;
    }
    Ok(())
}

impl Model for GuestModel {
    fn engine(&self) -> &'static str {
        self.engine
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn plans_by_shape(&self) -> bool {
        self.facts.plans_by_shape
    }

    fn takes_zero_bytes(&self) -> bool {
        self.facts.takes_zero_bytes
    }

    fn prepare(&self, sessions: usize) -> Result<(), EngineError> {
        let process = self.settle(self.house.process(LONG)?)?;
        let mut lane = Lane::open(&process, self.house.limits(), Doing::Loading)?;
        let prepare = Ask::Prepare { model: self.number(), sessions };
        lane.ask(&prepare, None, self.house.limits().load, Doing::Loading)?;
        Ok(())
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        let lane = self.lane()?;
        let ender = GuestEnder { model: self.number(), process: Mutex::new(Arc::downgrade(&lane.process)) };
        let ender = Arc::new(ender);
        Ok(Box::new(GuestSession { model: self, lane: Some(lane), ender }))
    }
}

impl Drop for GuestModel {
    /// A household of others forgets it; one of its own ends with it.
    fn drop(&mut self) {
        let lives_in = *self.lives_in.get_mut().unwrap_or_else(PoisonError::into_inner);
        if lives_in.is_none() || !self.house.has_models() {
            return;
        }
        let process = self.house.living().filter(|process| Some(process.number) == lives_in);
        let Some(process) = process else { return };
        let unload = Ask::Unload { model: self.number() };
        // Whoever drops a model must not wait for a worker.
        if let Err(error) = process.lane().and_then(|mut line| line.send(&unload, None)) {
            tracing::debug!(%error, "a worker was not told that a model is gone");
        }
    }
}

/// A session of one thread; after its process has ended, the next run makes a new one.
struct GuestSession {
    model: Arc<GuestModel>,
    lane: Option<Lane>,
    ender: Arc<GuestEnder>,
}

impl GuestSession {
    fn attempt(
        &mut self,
        inputs: Vec<Array>,
        measured: bool,
    ) -> Result<(Vec<Array>, Option<Took>), EngineError> {
        let expected = self.model.signature.inputs.len();
        if inputs.len() != expected {
            return Err(EngineError::InputCount { expected, got: inputs.len() });
        }
        let lane = self.lane.take().filter(|lane| lane.process.has_ended().is_none());
        let mut lane = match lane {
            Some(lane) => lane,
            None => {
                let lane = self.model.lane()?;
                self.ender.is_for(&lane.process);
                lane
            }
        };
        let inside = lane.process.enter(self.model.number());
        let ran = lane.run(inputs, measured).and_then(|(outputs, took)| {
            let ports = &self.model.signature.outputs;
            let fits = |(output, port): (&Array, &Port)| output.datatype() == port.datatype;
            if outputs.len() != ports.len() || !outputs.iter().zip(ports).all(fits) {
                return Err(lane.nonsense("gave other outputs than its file has".to_owned(), Doing::Running));
            }
            Ok((outputs, took))
        });
        drop(inside);
        match ran {
            Err(EngineError::Ended(ending)) => {
                let is_anothers = lane.process.is_anothers(self.model.number());
                Err(EngineError::Ended(Ending { is_anothers, ..ending }))
            }
            ran => {
                self.lane = Some(lane);
                ran
            }
        }
    }
}

impl Session for GuestSession {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
        self.attempt(inputs, false).map(|(outputs, _)| outputs)
    }

    fn run_measured(&mut self, inputs: Vec<Array>) -> Result<(Vec<Array>, Option<Took>), EngineError> {
        self.attempt(inputs, true)
    }

    fn ender(&self) -> Option<Arc<dyn Ender>> {
        Some(Arc::<GuestEnder>::clone(&self.ender))
    }
}

/// Ends the process that a session runs in now.
#[derive(Debug)]
struct GuestEnder {
    /// Number of the model.
    model: u64,
    process: Mutex<Weak<Process>>,
}

impl GuestEnder {
    fn is_for(&self, process: &Arc<Process>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(process);
    }
}

impl Ender for GuestEnder {
    fn end(&self, why: String) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(process) = process {
            process.end_for(self.model, Cause::Ended(why));
        }
    }
}
