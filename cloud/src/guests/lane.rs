//! A line to a worker: what is asked on it is answered in turn. Tensors go through memory that both sides see.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::array::Array;
use millgate_shared::engine::{Cause, Doing, EngineError, Took};

use super::channel::{Channel, ChannelError};
use super::config::Limits;
use super::message::{Answer, Ask, Tensor};
use super::process::Process;
use super::shared::Memory;

/// Memory beyond this is given back after the run that needed it.
const KEPT: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) process: Arc<Process>,
    channel: Channel,
    memory: Option<Memory>,
    limits: Limits,
}

impl Lane {
    pub(super) fn open(process: &Arc<Process>, limits: Limits, doing: Doing) -> Result<Self, EngineError> {
        let channel = process.lane();
        let channel = channel.map_err(|error| EngineError::Ended(process.ending(&error, doing)))?;
        Ok(Self { process: Arc::clone(process), channel, memory: None, limits })
    }

    /// Asks for anything but a run. What takes longer than `limit` ends the process.
    pub(super) fn ask(
        &mut self,
        ask: &Ask,
        file: Option<&std::fs::File>,
        limit: Duration,
        doing: Doing,
    ) -> Result<Answer, EngineError> {
        let file = file.map(AsFd::as_fd);
        let answer = self
            .channel
            .wait_at_most(limit)
            .and_then(|()| self.channel.send(ask, file))
            .and_then(|()| self.channel.receive().map(|(answer, _)| answer));
        match answer {
            Ok(Answer::Failed(failed)) => Err(failed.into()),
            Ok(answer) => Ok(answer),
            Err(ChannelError::TimedOut) => {
                let what = match doing {
                    Doing::Starting => "its start",
                    Doing::Loading => "loading it",
                    Doing::Running => "a run",
                };
                self.process.end(Cause::Ended(format!("{what} took more than {}", seconds(limit))));
                Err(EngineError::Ended(self.process.ending(&ChannelError::Closed, doing)))
            }
            Err(error) => Err(EngineError::Ended(self.process.ending(&error, doing))),
        }
    }

    /// The error for an answer that makes no sense; the process is ended for it.
    pub(super) fn nonsense(&self, what: String, doing: Doing) -> EngineError {
        self.process.nonsense(what, doing)
    }

    pub(super) fn run(
        &mut self,
        inputs: Vec<Array>,
        measured: bool,
    ) -> Result<(Vec<Array>, Option<Took>), EngineError> {
        let (tensors, bytes) = Tensor::lay_out(&inputs);
        self.grow(bytes)?;
        if let Some(memory) = &self.memory {
            memory.write(&inputs, &tensors).map_err(|error| EngineError::Run(error.to_string()))?;
        }
        // The worker has its own copy from here on.
        drop(inputs);
        let mut answer = self.running(&Ask::Run { inputs: tensors, measured }, None)?;
        if let Answer::NeedsMemory { bytes } = answer {
            if bytes as u64 > self.limits.memory {
                return Err(self.nonsense(format!("gave outputs of {bytes} bytes"), Doing::Running));
            }
            answer = match self.exchange(bytes) {
                Err(error @ EngineError::Run(_)) => {
                    // The worker is not to keep what it could give nowhere.
                    self.let_go()?;
                    return Err(error);
                }
                answer => answer?,
            };
        }
        let Answer::Ran { outputs, memory: took } = answer else {
            return Err(self.nonsense("gave no outputs".to_owned(), Doing::Running));
        };
        let outputs = match &self.memory {
            Some(memory) => memory.read(outputs).map_err(|error| error.to_string()),
            None => Err("gave outputs nowhere".to_owned()),
        };
        let outputs = outputs.map_err(|what| self.nonsense(what, Doing::Running))?;
        if self.memory.as_ref().is_some_and(|memory| memory.size() > KEPT) {
            // The answer is here; a worker that ends now is the next run's matter.
            let _has_ended = self.let_go().is_err();
        }
        Ok((outputs, took.map(|(before, peak)| Took { before, peak })))
    }

    fn running(&mut self, ask: &Ask, file: Option<&std::fs::File>) -> Result<Answer, EngineError> {
        self.ask(ask, file, self.limits.run, Doing::Running)
    }

    /// Gives the memory back, and has the worker do so.
    fn let_go(&mut self) -> Result<(), EngineError> {
        self.memory = None;
        self.running(&Ask::Memory { bytes: 0 }, None).map(drop)
    }

    /// Sees to it that there are so many bytes.
    fn grow(&mut self, bytes: usize) -> Result<(), EngineError> {
        if self.memory.as_ref().is_some_and(|memory| memory.size() >= bytes) {
            return Ok(());
        }
        match self.exchange(bytes)? {
            Answer::Done => Ok(()),
            _ => Err(self.nonsense("took its memory for something else".to_owned(), Doing::Running)),
        }
    }

    /// Gives the worker other memory, of so many bytes at least.
    fn exchange(&mut self, bytes: usize) -> Result<Answer, EngineError> {
        let made = Memory::new(bytes);
        let (memory, file) =
            made.map_err(|error| EngineError::Run(format!("{bytes} bytes of memory to share: {error}")))?;
        let answer = self.running(&Ask::Memory { bytes: memory.size() }, Some(&file))?;
        self.memory = Some(memory);
        Ok(answer)
    }
}

/// A duration in words.
fn seconds(limit: Duration) -> String {
    match limit.as_millis() {
        millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}
