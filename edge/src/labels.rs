//! What people say of decisions, and what the pool says of those that were made here: the labels that come back.
//!
//! Each decision is noted for a while; of some its pictures are kept too: of all that are doubtful (to be reviewed, rejected,
//! unknown, provisional, contradicted by the pool), and of a small part of the others, drawn by their ids. What a person says of
//! a decision is kept beside it, whatever else was said before, and both can be written out as labelled data.
//!
//! It is kept in the state directory: notes and labels in one small [redb](https://www.redb.org) database, pictures as files. A label
//! is on the disk before it is acknowledged; notes follow within a second. Nothing here delays a decision: what finds the queue
//! full is counted and left out. A database that cannot be read is set aside and begun anew.
//!
//! * `kept`: what is kept, as values. `choice`: what is kept of which decision. `store`: the tables. `book`: what each step
//!   does to them. `keeper`: the thread at work. `export`: labelled data.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::decision::Decision;
use millgate_shared::part::Part;
use tokio::sync::oneshot;

pub(crate) mod book;
mod choice;
mod config;
mod counts;
pub(crate) mod export;
mod keeper;
pub(crate) mod kept;
pub(crate) mod state;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use choice::{Law, draw, is_local};
pub use config::LabelsConfig;
pub(crate) use counts::{Audited, Counts};

use crate::recent::Recent;
use book::Book;
use keeper::{Job, Noted};
use kept::{Asked, Page, Refusal, Row, Say};
use state::State;

/// Notes that wait for the disk at a time.
const QUEUE: usize = 1024;
/// Bytes of pictures that wait for the disk at a time; of more decisions the pictures are not kept.
const WAITING_BYTES: u64 = 64 << 20;

/// What of a decision is not in its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) manifest: &'a Manifest,
    /// The risk that was asked for.
    pub(crate) risk: f64,
}

/// Handle to the labels. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Labels(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: none are kept.
    jobs: Option<SyncSender<Job>>,
    law: Law,
    /// Bytes of pictures that wait.
    waiting: Arc<AtomicU64>,
    counts: Counts,
    /// Who is told of what people say.
    told: OnceLock<Recent>,
}

impl Labels {
    /// Keeps none.
    pub(crate) fn off(law: Law, counts: &Counts) -> Self {
        let counts = counts.clone();
        Self(Arc::new(Inner { jobs: None, law, waiting: Arc::default(), counts, told: OnceLock::new() }))
    }

    /// Opens what an earlier run has left in the state directory, or begins. Whatever lies there, this fails only by keeping none, and says
    /// so in the log. Blocks.
    pub(crate) fn start(dir: PathBuf, config: &LabelsConfig, law: Law, counts: &Counts) -> Self {
        if !config.enabled {
            return Self::off(law, counts);
        }
        let started = Book::open_soon(&dir, config, counts).and_then(|book| {
            let waiting = Arc::<AtomicU64>::default();
            keeper::start(book, QUEUE, &waiting).map(|jobs| (jobs, waiting))
        });
        match started {
            Ok((jobs, waiting)) => {
                let (jobs, counts, told) = (Some(jobs), counts.clone(), OnceLock::new());
                Self(Arc::new(Inner { jobs, law, waiting, counts, told }))
            }
            Err(error) => {
                tracing::error!(%error, "no labels can be kept");
                Self::off(law, counts)
            }
        }
    }

    /// Notes a decision, with the parts that it was made of.
    pub(crate) fn note(&self, decision: &Decision, about: About<'_>, parts: &[Part]) {
        if self.0.jobs.is_none() {
            return;
        }
        let mut noted = Noted::of(decision, about, &self.0.law);
        if noted.class.is_some() {
            noted.parts = self.0.law.kept_of(parts);
            let bytes = noted.bytes();
            if self.0.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES {
                self.0.waiting.fetch_sub(bytes, Ordering::Relaxed);
                self.0.counts.left_out.inc();
                noted.parts.clear();
            }
        }
        let bytes = noted.bytes();
        if self.send(Job::Note(Box::new(noted))).is_err() {
            self.0.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.0.counts.left_out.inc();
        }
    }

    /// A decision that was noted has become another.
    pub(crate) fn amended(&self, decision: &Decision) {
        if self.send(Job::Amended(keeper::Amended::of(decision))).is_err() && self.0.jobs.is_some() {
            self.0.counts.left_out.inc();
        }
    }

    /// The pool has answered an audit with this label.
    pub(crate) fn audited(&self, id: &str, label: &str) {
        let job = Job::Audited { id: id.to_owned(), label: label.to_owned() };
        if self.send(job).is_err() && self.0.jobs.is_some() {
            self.0.counts.left_out.inc();
        }
    }

    /// Tells of everything that people say from now on. The first call counts.
    pub(crate) fn tell(&self, recent: Recent) {
        self.0.told.get_or_init(|| recent);
    }

    /// Keeps what a person says; it is on the disk when this returns.
    pub(crate) async fn label(&self, say: Say) -> Result<Row, Refusal> {
        let row = self.ask(|reply| Job::Label(say, reply)).await??;
        if let (Some(recent), Some(said)) = (self.0.told.get(), row.said.last()) {
            recent.labelled(&row.decision.id, &said.label);
        }
        Ok(row)
    }

    /// One decision with all that was said of it.
    pub(crate) async fn row(&self, id: String) -> Result<Row, Refusal> {
        self.ask(|reply| Job::Row(id, reply)).await?
    }

    /// Bytes of the file that is kept of a decision's modality.
    pub(crate) async fn picture(&self, id: String, modality: String) -> Result<Vec<u8>, Refusal> {
        self.ask(|reply| Job::Picture { id, modality, reply }).await?
    }

    /// What was said, page by page.
    pub(crate) async fn list(&self, asked: Asked) -> Result<Page, Refusal> {
        self.ask(|reply| Job::List(asked, reply)).await?
    }

    /// Forgets decisions with all that was said of them; gives how many there were.
    pub(crate) async fn forget(&self, ids: Vec<String>) -> Result<usize, Refusal> {
        self.ask(|reply| Job::Forget(ids, reply)).await?
    }

    /// Begins the tests of a source anew, or all; gives how many sources there were.
    pub(crate) async fn reset(&self, source: Option<String>) -> Result<usize, Refusal> {
        self.ask(|reply| Job::Reset(source, reply)).await?
    }

    /// How things stand.
    pub(crate) async fn state(&self) -> Result<State, Refusal> {
        self.ask(Job::State).await
    }

    /// Everything noted so far is on the disk when this returns.
    pub(crate) async fn flush(&self) {
        let _none_kept = self.ask(Job::Flush).await.is_err();
    }

    /// Waits for the thread's answer.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(job(reply))?;
        answer.await.map_err(|_| Refusal::Failed("the keeper of labels has stopped".to_owned()))
    }

    fn send(&self, job: Job) -> Result<(), Refusal> {
        let jobs = self.0.jobs.as_ref().ok_or(Refusal::Off)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Failed("the keeper of labels has stopped".to_owned()),
        })
    }
}
