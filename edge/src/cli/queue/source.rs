//! Where the queue is read from: the running agent, or its state directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::admin::queue::{Drop, Dropped};
use crate::cli::running::{Answer, RunningAgent};
use crate::journal::JournalError;
use crate::spool::SpoolConfig;
use crate::spool::look::{Look, LookError};
use crate::spool::status::{Listed, Status};

/// A running agent that does not answer by then hangs.
const PATIENCE: Duration = Duration::from_secs(20);
pub(super) enum Source {
    Running(RunningAgent),
    Stopped(Box<Look>),
}

impl Source {
    pub(super) fn open(state_dir: &Path, config: &SpoolConfig) -> Result<Self, String> {
        match Look::open(state_dir, config) {
            Ok(look) => Ok(Self::Stopped(Box::new(look))),
            Err(LookError::Journal(JournalError::InUse { .. })) => {
                RunningAgent::find(state_dir, PATIENCE).map(Self::Running)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    pub(super) fn status(&mut self) -> io::Result<Status> {
        match self {
            Self::Running(agent) => {
                Ok(serde_json::from_slice(&found(agent.get("/queue")?).ok_or_else(no_spool)?)?)
            }
            Self::Stopped(look) => Ok(look.status()),
        }
    }

    pub(super) fn list(&mut self) -> io::Result<Vec<Listed>> {
        match self {
            Self::Running(agent) => {
                Ok(serde_json::from_slice(&found(agent.get("/queue/entries")?).ok_or_else(no_spool)?)?)
            }
            Self::Stopped(look) => Ok(look.list()),
        }
    }

    pub(super) fn body(&mut self, id: &str) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Running(agent) => Ok(found(agent.get(&format!("/queue/entries/{id}"))?)),
            Self::Stopped(look) => Ok(look.body(id)),
        }
    }

    /// `None`: all.
    pub(super) fn discard(&mut self, ids: Option<Vec<String>>) -> io::Result<usize> {
        match self {
            Self::Running(agent) => {
                let all = ids.is_none();
                let text = serde_json::to_vec(&Drop { ids: ids.unwrap_or_default(), all })?;
                let body = found(agent.post("/queue/drop", &text)?).ok_or_else(no_spool)?;
                Ok(serde_json::from_slice::<Dropped>(&body)?.dropped)
            }
            Self::Stopped(look) => look.discard(ids.as_deref()).map_err(io::Error::other),
        }
    }
}

fn no_spool() -> io::Error {
    io::Error::other(
        "the running agent keeps no spool: it needs `spool.enabled`, a pool, and records of what it decides",
    )
}

/// `None`: there is no such thing.
fn found(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Ok(body) => Some(body),
        Answer::NotThere | Answer::Conflict(_) => None,
    }
}
