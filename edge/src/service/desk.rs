//! One file's way: read, decide, keep, and hand over to the outbox.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Ask, DecideError};
use crate::crash::law::Item;
use crate::crash::{Hand, Held, Risk};
use crate::input::Input;
use crate::journal::{FileVersion, Reading};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Stopped};
use crate::record::Undecided;
use crate::sink::Record;
use crate::source::decision_id::decision_id;
use crate::source::{Outcome, Reply, Taken, Tidied};
use millgate_shared::workers::WorkError;
use reading::Read;

mod reading;

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
    hand: Hand,
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
        hand: &Hand,
        metrics: &Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            agent: agent.clone(),
            outbox: outbox.clone(),
            hand: hand.clone(),
            metrics: Arc::clone(metrics),
            deciding: Semaphore::new(agent.threads() * PER_THREAD),
            stopping,
        }
    }

    pub(super) async fn handle(&self, taken: Taken) {
        self.metrics.in_flight.inc();
        let mut reading = None;
        let made = self.record(&taken, &mut reading).await;
        let is_settled = !matches!(made, Err(Outcome::Changed | Outcome::Unacknowledged));
        if matches!(taken.risk, Some(Risk::Alone { .. })) && is_settled {
            // It has been lived through, or it is another by now.
            self.acquit(&taken).await;
        }
        let outcome = match made {
            Ok((record, awaits)) => self.post(&record, &taken, reading, awaits).await,
            Err(outcome) => outcome,
        };
        if matches!(taken.risk, Some(Risk::Aside { .. })) && outcome != Outcome::Unacknowledged {
            // That it is set aside stands in the journal now.
            self.acquit(&taken).await;
        }
        self.metrics.in_flight.dec();
        let Taken { relative, reply, .. } = taken;
        // A source that has stopped does not listen.
        let _stopped = reply.send(Reply { relative, outcome, reading }).await.is_err();
    }

    async fn post(&self, record: &Record, taken: &Taken, reading: Option<Reading>, awaits: bool) -> Outcome {
        let file = FileVersion {
            source: Arc::clone(&taken.source),
            relative: taken.relative.clone(),
            version: taken.version,
            reading,
        };
        match self.outbox.file(record, file, awaits).await {
            Ok(Tidied::Kept) => Outcome::Done,
            Ok(Tidied::Removed) => Outcome::Removed,
            Ok(Tidied::Changed) => Outcome::Changed,
            Err(Stopped) => Outcome::Unacknowledged,
        }
    }

    async fn record(&self, taken: &Taken, reading: &mut Option<Reading>) -> Made {
        if let Some(Risk::Aside { deaths }) = taken.risk {
            return self.undecided(id(taken, None), aside(taken, deaths));
        }
        let Ok(_permit) = self.deciding.acquire().await else { return Err(Outcome::Unacknowledged) };
        // A risk that finds no moment for itself comes again.
        let held = self.take(taken).await.ok_or(Outcome::Changed)?;
        let Read { input, content, stat, is_unwritten } = reading::read(taken).await?;
        let read = Reading { stat, content };
        *reading = Some(read);
        if let Some(again) = taken.decided
            && (again.content == content || input.is_err())
        {
            // One that cannot be read at the moment may be what it was.
            let same = Reading { stat, content: again.content };
            *reading = Some(same);
            drop(held);
            if again.is_kept {
                self.outbox.seen(taken, same).await;
            }
            return Err(Outcome::Same);
        }
        let may_change = !taken.is_last_chance || taken.unfinished.is_some_and(|before| before != content);
        let mut input = match input {
            Ok(_) if is_unwritten && may_change => {
                tracing::debug!(path = %taken.path.display(), "looks as if it were still being written");
                return Err(Outcome::Incomplete);
            }
            Ok(input) => input,
            Err(error) if may_be_incomplete(error.code()) && may_change => return Err(Outcome::Incomplete),
            Err(error) => return self.undecided(id(taken, None), Undecided::of_input(&taken.path, &error)),
        };
        let path = input.path.clone();
        input.id = id(taken, Some(&read));
        let is_blank = is_blank(&input);
        let mut held = Some(held);
        loop {
            let in_hand = match held.take() {
                Some(held) => held,
                None => self.take(taken).await.ok_or(Outcome::Changed)?,
            };
            match self.agent.decide_open(input.clone(), Ask::default(), Some(in_hand)).await {
                Ok(decided) => {
                    self.metrics.decided(&decided.decision);
                    let stopping = || self.stopping.is_cancelled();
                    let take = async {
                        match self.take(taken).await {
                            Some(held) => held,
                            None => self.hand.take(&item(taken)).await,
                        }
                    };
                    let kept = self.outbox.keep_file(decided, take, stopping).await;
                    return kept.map_err(|Stopped| Outcome::Unacknowledged);
                }
                Err(error @ DecideError::Workers(WorkError::Full { .. } | WorkError::Stopped)) => {
                    if self.stopping.is_cancelled() || error.code() == "stopped" {
                        return Err(Outcome::Unacknowledged);
                    }
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) if (may_be_incomplete(error.code()) || is_blank) && may_change => {
                    tracing::debug!(path, %error, "may not be complete yet");
                    return Err(Outcome::Incomplete);
                }
                Err(error) => {
                    let undecided = Undecided { path, code: error.code(), message: error.to_string() };
                    return self.undecided(input.id, undecided);
                }
            }
        }
    }

    /// In hand: the file, beside others, or where it is a risk nothing else; `None` if there is always something else.
    async fn take(&self, taken: &Taken) -> Option<Held> {
        match taken.risk {
            Some(Risk::Alone { .. }) => self.hand.take_alone(&item(taken)).await,
            _ => Some(self.hand.take(&item(taken)).await),
        }
    }

    async fn acquit(&self, taken: &Taken) {
        let (hand, item) = (self.hand.clone(), item(taken));
        // Writes a small file.
        if tokio::task::spawn_blocking(move || hand.acquit(&item)).await.is_err() {
            tracing::error!("that a suspect is none any more cannot be kept");
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

fn id(taken: &Taken, reading: Option<&Reading>) -> String {
    decision_id(&taken.source, &taken.relative, taken.version, reading)
}

fn item(taken: &Taken) -> Item {
    let (source, path) = (taken.source.to_string(), taken.relative.clone());
    Item::File { source, path, version: taken.version }
}

fn aside(taken: &Taken, deaths: u32) -> Undecided {
    Undecided {
        path: taken.path.display().to_string(),
        code: "crashed",
        message: format!(
            "the agent died {deaths} times with this file in hand, the last times with nothing else; it is set aside, \
             and decided when it changes"
        ),
    }
}

/// Errors that a file still being written can show.
fn may_be_incomplete(code: &str) -> bool {
    matches!(code, "truncated" | "empty_file" | "corrupt" | "unreadable")
}

/// A picture begins with what it is. A file that begins with zeros was given its size and not yet its bytes, or is none.
fn is_blank(input: &Input) -> bool {
    const HEAD: usize = 16;
    let mut heads = input.images.iter().filter_map(|image| image.bytes.get(..HEAD));
    heads.any(|head| head.iter().all(|byte| *byte == 0))
}

fn unwritable(path: &Path, error: &io::Error) -> Outcome {
    tracing::error!(path = %path.display(), %error, "record cannot be written as JSON");
    Outcome::Unacknowledged
}
