//! One file's way: read, decide, keep, and hand over to the outbox.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Ask, DecideError};
use crate::input::{Input, InputError};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Stopped, Tidied};
use crate::record::Undecided;
use crate::sink::Record;
use crate::source::identity::decision_id;
use crate::source::journal::FileVersion;
use crate::source::{Outcome, Reply, Taken, Version};

/// Files decided at a time, for each model thread: enough to keep it busy while others wait for the pool, too few for the
/// last of them to miss its deadline in the queue.
const PER_THREAD: usize = 4;
/// Before a file is tried again that found the model threads' queue full of gRPC calls.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a file's task needs.
#[derive(Debug)]
pub(super) struct Desk {
    agent: Agent,
    outbox: Outbox,
    metrics: Arc<Metrics>,
    deciding: Semaphore,
    stopping: CancellationToken,
}

/// A record and whether it awaits an amendment, or why there is none.
type Made = Result<(Record, bool), Outcome>;

impl Desk {
    pub(super) fn new(
        agent: &Agent,
        outbox: &Outbox,
        metrics: &Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            agent: agent.clone(),
            outbox: outbox.clone(),
            metrics: Arc::clone(metrics),
            deciding: Semaphore::new(agent.threads() * PER_THREAD),
            stopping,
        }
    }

    pub(super) async fn handle(&self, taken: Taken) {
        self.metrics.in_flight.inc();
        let outcome = match self.record(&taken).await {
            Ok((record, awaits)) => self.post(&record, &taken, awaits).await,
            Err(outcome) => outcome,
        };
        self.metrics.in_flight.dec();
        let Taken { relative, reply, .. } = taken;
        // A source that has stopped does not listen.
        let _stopped = reply.send(Reply { relative, outcome }).await.is_err();
    }

    async fn post(&self, record: &Record, taken: &Taken, awaits: bool) -> Outcome {
        let file = FileVersion {
            source: Arc::clone(&taken.source),
            relative: taken.relative.clone(),
            version: taken.version,
        };
        match self.outbox.file(record, file, awaits).await {
            Ok(Tidied::Kept) => Outcome::Done,
            Ok(Tidied::Removed) => Outcome::Removed,
            Ok(Tidied::Changed) => Outcome::Changed,
            Err(Stopped) => Outcome::Unacknowledged,
        }
    }

    async fn record(&self, taken: &Taken) -> Made {
        let Ok(_permit) = self.deciding.acquire().await else { return Err(Outcome::Unacknowledged) };
        let id = decision_id(&taken.source, &taken.relative, taken.version);
        let mut input = match read(taken).await? {
            Ok(input) => input,
            Err(error) if may_be_incomplete(error.code()) && !taken.is_last_chance => {
                return Err(Outcome::Incomplete);
            }
            Err(error) => return self.undecided(id, Undecided::of_input(&taken.path, &error)),
        };
        let path = input.path.clone();
        input.id.clone_from(&id);
        loop {
            match self.agent.decide_open(input.clone(), Ask::default()).await {
                Ok(decided) => {
                    self.metrics.decided(&decided.decision);
                    let kept = self.outbox.keep_file(decided, || self.stopping.is_cancelled()).await;
                    return kept.map_err(|Stopped| Outcome::Unacknowledged);
                }
                Err(error @ DecideError::Workers(_)) => {
                    if self.stopping.is_cancelled() || error.code() == "stopped" {
                        return Err(Outcome::Unacknowledged);
                    }
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) if may_be_incomplete(error.code()) && !taken.is_last_chance => {
                    tracing::debug!(path, %error, "may not be complete yet");
                    return Err(Outcome::Incomplete);
                }
                Err(error) => {
                    let undecided = Undecided { path, code: error.code(), message: error.to_string() };
                    return self.undecided(id, undecided);
                }
            }
        }
    }

    fn undecided(&self, id: String, undecided: Undecided) -> Made {
        let Undecided { path, code, message } = &undecided;
        tracing::warn!(path, code, message, "could not be decided");
        self.metrics.undecided(code);
        let record = Record::of_error(id, &undecided);
        record.map(|record| (record, false)).map_err(|error| unwritable(Path::new(path), &error))
    }
}

/// The file's bytes, if they are of the version that was taken.
async fn read(taken: &Taken) -> Result<Result<Input, InputError>, Outcome> {
    let (path, source, version) = (taken.path.clone(), Arc::clone(&taken.source), taken.version);
    let work = move || {
        let input = Input::from_file(&path, None, Some(&source));
        match Version::of(&path) {
            Ok(now) if now == version => Ok(input),
            // Changed under the reading, or gone.
            _ => Err(Outcome::Changed),
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Outcome::Changed)?
}

/// Errors that a file still being written can show.
fn may_be_incomplete(code: &str) -> bool {
    matches!(code, "truncated" | "empty_file" | "corrupt" | "unreadable")
}

fn unwritable(path: &Path, error: &io::Error) -> Outcome {
    tracing::error!(path = %path.display(), %error, "record cannot be written as JSON");
    Outcome::Unacknowledged
}
