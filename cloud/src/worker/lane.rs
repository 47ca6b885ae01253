//! One line to the pool, served by a thread of its own: its asks in turn, each answered.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millgate_shared::array::Array;
use millgate_shared::engine::external::ExternalFile;
use millgate_shared::engine::{EngineError, Model, OnnxFile, Session, Shapes, signature};

use super::meter;
use crate::engines::guest;
use crate::guests::channel::{Channel, ChannelError};
use crate::guests::message::{Answer, Ask, Load, Loaded, Tensor};
use crate::guests::shared::Memory;

/// The models of this worker, by the pool's numbers.
#[derive(Debug, Default)]
pub(super) struct Models(Mutex<HashMap<u64, Arc<dyn Model>>>);

impl Models {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u64, Arc<dyn Model>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, number: u64) -> Result<Arc<dyn Model>, EngineError> {
        let found = self.with(|models| models.get(&number).cloned());
        found.ok_or_else(|| EngineError::Run("the worker does not have this model".to_owned()))
    }
}

/// What a lane has at the moment.
pub(super) struct Lane {
    channel: Channel,
    models: Arc<Models>,
    session: Option<Box<dyn Session>>,
    memory: Option<Memory>,
    /// Outputs that wait for memory to be put into.
    waiting: Option<(Vec<Array>, Took)>,
}

/// Bytes held before a run, and the most until its end.
type Took = Option<(u64, u64)>;

impl Lane {
    pub(super) fn new(channel: Channel, models: Arc<Models>) -> Self {
        Self { channel, models, session: None, memory: None, waiting: None }
    }

    /// Serves until the pool closes the line.
    pub(super) fn serve(mut self) {
        loop {
            let ended = match self.channel.receive::<Ask>() {
                Ok((ask, file)) => {
                    let answer = self.answer(ask, file).unwrap_or_else(|error| Answer::Failed(error.into()));
                    self.channel.send(&answer, None).err()
                }
                Err(error) => Some(error),
            };
            match ended {
                None => {}
                Some(ChannelError::Closed) => return,
                Some(error) => {
                    tracing::error!(%error, "a lane has ended: the pool");
                    return;
                }
            }
        }
    }

    fn answer(&mut self, ask: Ask, file: Option<OwnedFd>) -> Result<Answer, EngineError> {
        match ask {
            Ask::Look { engine, settings } => Ok(Answer::Seen(guest::look_here(&engine, &settings)?)),
            Ask::Load(load) => self.load(load, file),
            Ask::Prepare { model, sessions } => {
                self.models.get(model)?.prepare(sessions)?;
                Ok(Answer::Done)
            }
            Ask::Open { model } => {
                self.session = Some(self.models.get(model)?.session()?);
                Ok(Answer::Done)
            }
            Ask::Memory { bytes } => {
                let Some(file) = file else {
                    (self.memory, self.waiting) = (None, None);
                    return Ok(Answer::Done);
                };
                self.memory = Some(Memory::of(File::from(file), bytes).map_err(unshared)?);
                match self.waiting.take() {
                    Some((outputs, took)) => self.give(outputs, took),
                    None => Ok(Answer::Done),
                }
            }
            Ask::Run { inputs, measured } => self.run(inputs, measured),
            Ask::Unload { model } => {
                let gone = self.models.with(|models| models.remove(&model));
                drop(gone);
                Ok(Answer::Done)
            }
        }
    }

    fn load(&self, load: Load, file: Option<OwnedFd>) -> Result<Answer, EngineError> {
        let missing = || EngineError::Prepare("the model's file did not come".to_owned());
        let file = File::from(file.ok_or_else(missing)?);
        let Load { model, engine, settings, shapes, dir, length, weights } = load;
        let mut at = 0;
        let bytes = Bytes::from(read(&file, &mut at, length)?);
        let read_weights = weights.into_iter().map(|weights| {
            let bytes = read(&file, &mut at, weights.length)?.into();
            Ok(ExternalFile { location: weights.location, path: PathBuf::from(weights.path), bytes })
        });
        let external = read_weights.collect::<Result<_, EngineError>>()?;
        drop(file);
        let signature = Arc::new(signature::read(&bytes)?);
        let file = OnnxFile { bytes, dir: dir.map(PathBuf::from), external, signature };
        let engine = guest::open_here(&engine, &settings)?;
        let loaded = engine.load(&file, shapes.as_deref().map_or(Shapes::Any, Shapes::Only))?;
        let answer = Loaded {
            inputs: loaded.signature().inputs.iter().map(Into::into).collect(),
            outputs: loaded.signature().outputs.iter().map(Into::into).collect(),
            plans_by_shape: loaded.plans_by_shape(),
            takes_zero_bytes: loaded.takes_zero_bytes(),
        };
        let before = self.models.with(|models| models.insert(model, loaded));
        drop(before);
        Ok(Answer::Loaded(answer))
    }

    fn run(&mut self, tensors: Vec<Tensor>, measured: bool) -> Result<Answer, EngineError> {
        let inputs = match &self.memory {
            Some(memory) => memory.read(tensors).map_err(|error| EngineError::Run(error.to_string()))?,
            None => return Err(EngineError::Run("there is no memory to read from".to_owned())),
        };
        let session = self.session.as_mut();
        let session = session.ok_or_else(|| EngineError::Run("no model is open".to_owned()))?;
        let before = if measured { meter::begin() } else { None };
        let outputs = session.run(inputs)?;
        let took = before.and_then(|before| Some((before, meter::peak()?)));
        self.give(outputs, took)
    }

    /// Puts outputs where the pool finds them.
    fn give(&mut self, outputs: Vec<Array>, took: Took) -> Result<Answer, EngineError> {
        let (tensors, bytes) = Tensor::lay_out(&outputs);
        match &self.memory {
            Some(memory) if memory.size() >= bytes => {
                memory.write(&outputs, &tensors).map_err(|error| EngineError::Run(error.to_string()))?;
                Ok(Answer::Ran { outputs: tensors, memory: took })
            }
            _ => {
                self.waiting = Some((outputs, took));
                Ok(Answer::NeedsMemory { bytes })
            }
        }
    }
}

fn unshared(error: std::io::Error) -> EngineError {
    EngineError::Run(format!("the pool's memory cannot be seen: {error}"))
}

/// Reads the next part of a file that lives in memory.
fn read(file: &File, at: &mut u64, length: usize) -> Result<Vec<u8>, EngineError> {
    let missing = |what: String| EngineError::Prepare(format!("the model's file cannot be read: {what}"));
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|error| missing(error.to_string()))?;
    bytes.resize(length, 0);
    file.read_exact_at(&mut bytes, *at).map_err(|error| missing(error.to_string()))?;
    *at += length as u64;
    Ok(bytes)
}
