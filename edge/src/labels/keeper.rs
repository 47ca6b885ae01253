//! The thread that keeps labels: notes are gathered for a while and committed together, whatever a person says at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use millgate_shared::decision::{Decision, State};
use millgate_shared::part::Part;
use millgate_shared::recipe::Disposition;
use tokio::sync::oneshot;

use super::About;
use super::book::{Book, OpenError, Step};
use super::choice::{Law, is_local};
use super::kept::{Asked, Class, Kept, Page, Refusal, Row, Say};
use super::state;

/// Notes wait for others so long.
const GATHER: Duration = Duration::from_secs(1);
/// Notes of one commit.
const BATCH: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Note(Box<Noted>),
    Audited { id: String, label: String },
    Amended(Amended),
    Label(Say, Reply<Row>),
    List(Asked, Reply<Page>),
    Row(String, Reply<Row>),
    Picture { id: String, modality: String, reply: Reply<Vec<u8>> },
    Forget(Vec<String>, Reply<usize>),
    Reset(Option<String>, Reply<usize>),
    State(oneshot::Sender<state::State>),
    Flush(oneshot::Sender<()>),
}

/// A decision to be noted.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) kept: Kept,
    /// Why its pictures are to be kept, if they are.
    pub(super) class: Option<Class>,
    pub(super) parts: Vec<Part>,
    /// Labels of its task.
    pub(super) labels: Vec<String>,
    pub(super) novelty: Option<Novelty>,
}

/// How a decision compares with known samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Novelty {
    pub(super) is_hit: bool,
    pub(super) bound: f64,
    pub(super) calibration_samples: u64,
    pub(super) detectors: usize,
}

impl Noted {
    pub(super) fn of(decision: &Decision, about: About<'_>, law: &Law) -> Self {
        let About { manifest, risk } = about;
        let (sample, verdict) = (&decision.sample, &decision.verdict);
        let kept = Kept {
            id: decision.id.clone(),
            task: decision.task.clone(),
            label: verdict.label.clone(),
            probability: verdict.probability,
            disposition: decision.disposition.map(|disposition| disposition_name(disposition).to_owned()),
            state: state_name(decision.state).to_owned(),
            source: sample.source.clone(),
            part_id: sample.part_id.clone(),
            captured_at: sample.captured_at.clone(),
            at: jiff::Timestamp::now().as_millisecond(),
            path: sample.path.clone(),
            sha256: sample.sha256.clone(),
            modalities: sample.modalities.clone(),
            bundle: decision.bundle.digest.clone(),
            is_local: is_local(decision),
            is_drawn: law.is_drawn(&decision.id),
            risk,
            pool: None,
            is_error: None,
            pictures: Vec::new(),
            class: None,
            number: 0,
        };
        let labels = manifest.task(&decision.task).map_or_else(Vec::new, |task| task.labels.to_vec());
        let novelty = decision.novelty.as_ref().and_then(|novelty| {
            let bank = manifest.product(&novelty.product)?.novelty.as_ref()?;
            Some(Novelty {
                is_hit: novelty.is_unknown(),
                bound: novelty.bound,
                calibration_samples: bank.calibration_samples,
                detectors: bank.detectors.len(),
            })
        });
        // An amended decision is about a sample that was compared before.
        let novelty = novelty.filter(|_| decision.state != State::Amended);
        Self { kept, class: law.class(decision), parts: Vec::new(), labels, novelty }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }
}

/// What has become of a decision that was noted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Amended {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) probability: Option<f64>,
    pub(super) disposition: Option<String>,
    pub(super) state: String,
}

impl Amended {
    pub(super) fn of(decision: &Decision) -> Self {
        Self {
            id: decision.id.clone(),
            label: decision.verdict.label.clone(),
            probability: decision.verdict.probability,
            disposition: decision.disposition.map(|disposition| disposition_name(disposition).to_owned()),
            state: state_name(decision.state).to_owned(),
        }
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Final => "final",
        State::Provisional => "provisional",
        State::Amended => "amended",
    }
}

fn disposition_name(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Accept => "accept",
        Disposition::Reject => "reject",
        Disposition::Review => "review",
    }
}

/// Starts the thread; it ends when nobody can ask it any more.
pub(super) fn start(
    book: Book,
    queue: usize,
    waiting: &Arc<AtomicU64>,
) -> Result<SyncSender<Job>, OpenError> {
    let (jobs, receiver) = sync_channel(queue);
    let mut keeper = Keeper { book, steps: Vec::new(), bytes: 0, waiting: Arc::clone(waiting) };
    let started = std::thread::Builder::new().name("labels".to_owned()).spawn(move || keeper.run(&receiver));
    started.map_err(|error: io::Error| OpenError::Unusable {
        path: super::book::FILE_NAME.into(),
        why: format!("its thread cannot be started: {error}"),
    })?;
    Ok(jobs)
}

struct Keeper {
    book: Book,
    /// What waits to be committed, and the bytes of its pictures.
    steps: Vec<Step>,
    bytes: u64,
    waiting: Arc<AtomicU64>,
}

impl Keeper {
    fn run(&mut self, jobs: &Receiver<Job>) {
        let mut by: Option<Instant> = None;
        loop {
            let job = match by {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(by) => jobs.recv_timeout(by.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Note(noted)) => {
                    self.bytes += noted.bytes();
                    self.steps.push(Step::Note(noted));
                }
                Ok(Job::Audited { id, label }) => self.steps.push(Step::Audited { id, label }),
                Ok(Job::Amended(amended)) => self.steps.push(Step::Amended(amended)),
                Ok(job) => {
                    self.commit();
                    self.answer(job);
                }
                Err(RecvTimeoutError::Timeout) => self.commit(),
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
            if self.steps.len() >= BATCH {
                self.commit();
            }
            by = match self.steps.is_empty() {
                true => None,
                false => Some(by.unwrap_or_else(|| Instant::now() + GATHER)),
            };
        }
    }

    fn commit(&mut self) {
        let count = self.steps.len();
        if let Err(error) = self.book.note(std::mem::take(&mut self.steps)) {
            tracing::warn!(%error, decisions = count, "decisions cannot be noted, and cannot be labelled");
        }
        self.waiting.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    /// Whoever asked may have gone.
    fn answer(&mut self, job: Job) {
        let _gone = match job {
            Job::Label(say, reply) => reply.send(self.book.label(say)).is_err(),
            Job::List(asked, reply) => reply.send(self.book.list(&asked)).is_err(),
            Job::Row(id, reply) => reply.send(self.book.row(&id)).is_err(),
            Job::Picture { id, modality, reply } => reply.send(self.book.picture(&id, &modality)).is_err(),
            Job::Forget(ids, reply) => reply.send(self.book.forget(&ids)).is_err(),
            Job::Reset(source, reply) => reply.send(self.book.reset(source.as_deref())).is_err(),
            Job::State(reply) => reply.send(self.book.state()).is_err(),
            Job::Flush(reply) => reply.send(()).is_err(),
            Job::Note(_) | Job::Audited { .. } | Job::Amended(_) => false,
        };
    }
}
