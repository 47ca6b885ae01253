//! What waits in the queue: rows for a model, or work of another kind that wants a model thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millgate_shared::array::Array;
use tokio::sync::oneshot;

use super::job::Job;
use super::request::{Kept, Phases};
use super::room::Held;
use super::served::{Layout, Served};
use crate::failure::Failure;

/// What may share a batch: rows of the same model, shapes and parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bucket {
    /// The shape of each input, without the first axis where that is one of rows.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// The request's own, as text; empty where there are none.
    pub(crate) parameters: String,
    /// A number of its own for a request that shares with no other one.
    pub(crate) alone: Option<u64>,
}

/// Outputs in the signature's order.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outputs: Vec<Array>,
    pub(crate) phases: Phases,
}

/// The way back to a caller. A clone of it tells, while the rows are computed, whether anybody waits for them.
#[derive(Debug, Clone)]
pub(crate) struct Reply(Arc<Mutex<Option<Sender>>>);

type Sender = oneshot::Sender<Result<Done, Failure>>;

impl Reply {
    pub(crate) fn new(sender: Sender) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    /// Nobody waits any more: the caller is gone, or has its answer.
    pub(super) fn is_gone(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn send(&self, done: Result<Done, Failure>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The caller may have gone meanwhile.
        let _gone = sender.is_some_and(|sender| sender.send(done).is_err());
    }
}

/// Rows for a model.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) served: Arc<Served>,
    /// Inputs in the signature's order, checked.
    pub(crate) inputs: Vec<Array>,
    pub(crate) layout: Layout,
    pub(crate) arrived: Instant,
    pub(crate) reply: Reply,
    /// Room for the memory that its run takes, where that is much; held until it is answered.
    pub(crate) _held: Option<Held>,
    pub(crate) _kept: Kept,
}

impl Entry {
    /// Nobody waits for it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.reply.is_gone()
    }

    pub(super) fn answer(self, done: Result<Done, Failure>) {
        self.reply.send(done);
    }
}

/// What waits.
#[derive(Debug)]
pub(crate) enum Work {
    Rows(Entry),
    Job(Box<dyn Job>),
}

impl Work {
    /// Nobody waits for it any more.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Rows(entry) => entry.is_gone(),
            Self::Job(job) => job.is_gone(),
        }
    }

    /// The way back to the caller of rows.
    pub(super) fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Rows(entry) => Some(&entry.reply),
            Self::Job(_) => None,
        }
    }

    pub(super) fn refuse(self, failure: Failure) {
        match self {
            Self::Rows(entry) => entry.answer(Err(failure)),
            Self::Job(job) => job.refuse(failure),
        }
    }
}
