//! Where labels are kept: by the running agent, or in its state directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::labels::{Forget, Reset};
use crate::cli::running::{Answer, RunningAgent};
use crate::labels::book::{self, Book, OpenError};
use crate::labels::kept::{Asked, Page, Refusal, Row, Say};
use crate::labels::state::State;
use crate::labels::{Counts, LabelsConfig};

/// A running agent that does not answer by then hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) enum Source {
    Running(RunningAgent),
    Stopped(Box<Book>),
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Else(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Else(error.to_string())
    }
}

impl Source {
    pub(super) fn open(state_dir: &Path, config: &LabelsConfig) -> Result<Self, Failed> {
        let path = state_dir.join(book::FILE_NAME);
        if !path.exists() {
            let text = format!("{}: no agent that keeps labels was ever started here", path.display());
            return Err(Failed::Else(text));
        }
        match Book::open(state_dir, config, &Counts::default()) {
            Ok(book) => Ok(Self::Stopped(Box::new(book))),
            Err(OpenError::InUse(_)) => {
                RunningAgent::find(state_dir, PATIENCE).map(Self::Running).map_err(Failed::Else)
            }
            Err(error) => Err(Failed::Else(error.to_string())),
        }
    }

    pub(super) fn label(&mut self, say: Say) -> Result<Row, Failed> {
        match self {
            Self::Running(agent) => post(agent, "/labels", &say),
            Self::Stopped(book) => Ok(book.label(say)?),
        }
    }

    pub(super) fn list(&mut self, asked: Asked) -> Result<Page, Failed> {
        match self {
            Self::Running(agent) => post(agent, "/labels/list", &asked),
            Self::Stopped(book) => Ok(book.list(&asked)?),
        }
    }

    pub(super) fn forget(&mut self, ids: Vec<String>) -> Result<usize, Failed> {
        match self {
            Self::Running(agent) => {
                let mut forgotten = 0;
                // A request has a bound.
                for ids in ids.chunks(1000) {
                    forgotten += post::<usize>(agent, "/labels/forget", &Forget { ids: ids.to_vec() })?;
                }
                Ok(forgotten)
            }
            Self::Stopped(book) => Ok(book.forget(&ids)?),
        }
    }

    pub(super) fn reset(&mut self, source: Option<String>) -> Result<usize, Failed> {
        match self {
            Self::Running(agent) => post(agent, "/labels/reset", &Reset { source }),
            Self::Stopped(book) => Ok(book.reset(source.as_deref())?),
        }
    }

    pub(super) fn state(&mut self) -> Result<State, Failed> {
        match self {
            Self::Running(agent) => read(agent.get("/labels/state")?),
            Self::Stopped(book) => Ok(book.state()),
        }
    }
}

fn post<T: DeserializeOwned>(agent: &RunningAgent, path: &str, body: &impl Serialize) -> Result<T, Failed> {
    read(agent.post(path, &serde_json::to_vec(body).map_err(io::Error::from)?)?)
}

fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, Failed> {
    match answer {
        Answer::Ok(body) => Ok(serde_json::from_slice(&body).map_err(io::Error::from)?),
        Answer::Conflict(body) => {
            Err(Failed::Refused(serde_json::from_slice(&body).map_err(io::Error::from)?))
        }
        Answer::NotThere => {
            Err(Failed::Else("the running agent keeps no labels: is it an older one?".to_owned()))
        }
    }
}
