//! One file's way: read, decide, deliver, remember, tidy up.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Ask, DecideError};
use crate::config::{After, EdgeConfig, SourceConfig};
use crate::input::{Input, InputError, template_path};
use crate::metrics::Metrics;
use crate::record::Undecided;
use crate::sink::{Record, Sinks};
use crate::source::identity::decision_id;
use crate::source::journal::JournalHandle;
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
    sinks: Sinks,
    journal: JournalHandle,
    metrics: Arc<Metrics>,
    /// By source.
    after: HashMap<String, (PathBuf, After)>,
    deciding: Semaphore,
    stopping: CancellationToken,
}

/// A record, or why there is none.
type Made = Result<Record, Outcome>;

impl Desk {
    pub(super) fn new(
        config: &EdgeConfig,
        agent: &Agent,
        sinks: &Sinks,
        journal: JournalHandle,
        metrics: &Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Self {
        let after = |source: &SourceConfig| match source {
            SourceConfig::Folder(folder) => {
                (folder.name.clone(), (folder.path.clone(), folder.after.clone()))
            }
        };
        Self {
            agent: agent.clone(),
            sinks: sinks.clone(),
            journal,
            metrics: Arc::clone(metrics),
            after: config.sources.iter().map(after).collect(),
            deciding: Semaphore::new(agent.threads() * PER_THREAD),
            stopping,
        }
    }

    pub(super) async fn handle(&self, taken: Taken) {
        self.metrics.in_flight.inc();
        let outcome = match self.record(&taken).await {
            Ok(record) if self.sinks.deliver(&record).await => self.finish(&taken).await,
            Ok(_) => Outcome::Unacknowledged,
            Err(outcome) => outcome,
        };
        self.metrics.in_flight.dec();
        let Taken { relative, reply, .. } = taken;
        // A source that has stopped does not listen.
        let _stopped = reply.send(Reply { relative, outcome }).await.is_err();
    }

    async fn record(&self, taken: &Taken) -> Made {
        let Ok(_permit) = self.deciding.acquire().await else { return Err(Outcome::Unacknowledged) };
        let id = decision_id(&taken.source, &taken.relative, taken.version);
        let input = match read(taken).await? {
            Ok(input) => input,
            Err(error) if may_be_incomplete(error.code()) && !taken.is_last_chance => {
                return Err(Outcome::Incomplete);
            }
            Err(error) => return self.undecided(id, Undecided::of_input(&taken.path, &error)),
        };
        let path = input.path.clone();
        loop {
            match self.agent.decide(input.clone(), Ask::default()).await {
                Ok(mut decision) => {
                    decision.id = id;
                    self.metrics.decided(&decision);
                    return Record::of_decision(&decision).map_err(|error| unwritable(&taken.path, &error));
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
        Record::of_error(id, &undecided).map_err(|error| unwritable(Path::new(path), &error))
    }

    /// Every sink has it: remember it, or make that needless.
    async fn finish(&self, taken: &Taken) -> Outcome {
        let tidied = match self.after.get(&*taken.source) {
            None | Some((_, After::Keep)) => None,
            Some((root, after)) => Some(self.tidy(root.clone(), after.clone(), taken).await),
        };
        match tidied {
            Some(Ok(true)) => return Outcome::Removed,
            Some(Ok(false)) => return Outcome::Changed,
            Some(Err(error)) => {
                tracing::warn!(path = %taken.path.display(), %error, "decided, but cannot be moved away; it stays");
            }
            None => {}
        }
        match self.journal.decided(&taken.source, &taken.relative, taken.version).await {
            true => Outcome::Done,
            false => Outcome::Unacknowledged,
        }
    }

    /// Deletes or moves a file and its template; false if it is not the one that was decided any more.
    async fn tidy(&self, root: PathBuf, after: After, taken: &Taken) -> io::Result<bool> {
        let id = decision_id(&taken.source, &taken.relative, taken.version);
        let (relative, version) = (taken.relative.clone(), taken.version);
        let work = move || {
            let path = root.join(&relative);
            if Version::of(&path)? != version {
                return Ok(false);
            }
            let template = template_path(&path).filter(|template| template.is_file());
            match &after {
                After::Keep => {}
                After::Delete => {
                    std::fs::remove_file(&path)?;
                    template.map(std::fs::remove_file).transpose()?;
                }
                After::Move(dir) => {
                    move_into(dir, &root, &path, &id)?;
                    template.map(|template| move_into(dir, &root, &template, &id)).transpose()?;
                }
            }
            Ok(true)
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
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

/// Keeps the path below `root`. A name that is taken gets the decision's id, so that nothing is overwritten.
fn move_into(dir: &Path, root: &Path, path: &Path, id: &str) -> io::Result<()> {
    let mut to = dir.join(path.strip_prefix(root).unwrap_or(path));
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if to.exists() {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        to.set_file_name(format!("{id}.{name}"));
    }
    std::fs::rename(path, &to)
}
