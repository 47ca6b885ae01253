//! One sample's way: read, decided, and down into the outbox, which keeps, commits and delivers it.

use std::sync::Arc;
use std::time::Duration;

use millgate_shared::image::NO_MEMORY;
use millgate_shared::trouble::Trouble;
use millgate_shared::workers::WorkError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Ask, DecideError};
use crate::audit::Audits;
use crate::crash::law::Item;
use crate::crash::{Case, Hand, Held};
use crate::input::Input;
use crate::journal::{Mark, Remembered};
use crate::metrics::Metrics;
use crate::outbox::{Made, Outbox};
use crate::record::Undecided;
use crate::sink::{Delivered, Told};
use crate::source::decision_id::decision_id;
use crate::source::{Body, Outcome, Read, Reads, Taken, Unread};

/// Samples decided at a time, for each model thread: enough to keep it busy while others wait for the pool, too few for the
/// last of them to miss its deadline in the queue.
const PER_THREAD: usize = 4;
/// Before a sample is tried again that found the model threads' queue full of gRPC calls.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a sample's task needs.
#[derive(Debug)]
pub(super) struct Desk {
    agent: Agent,
    outbox: Outbox,
    hand: Hand,
    metrics: Arc<Metrics>,
    audits: Audits,
    /// What was delivered of earlier runs, where the journal may not know.
    told: Told,
    deciding: Semaphore,
    stopping: CancellationToken,
}

/// What is known of a sample beside its body.
struct Named {
    of: Remembered,
    face: Mark,
    born: u64,
    path: String,
}

impl Named {
    fn id(&self, content: &[&[u8]]) -> String {
        decision_id(&self.of.source, &self.of.key, &self.face, content, self.born)
    }
}

impl Desk {
    pub(super) fn new(
        agent: &Agent,
        outbox: &Outbox,
        hand: &Hand,
        metrics: &Arc<Metrics>,
        audits: Audits,
        told: Told,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            agent: agent.clone(),
            outbox: outbox.clone(),
            hand: hand.clone(),
            metrics: Arc::clone(metrics),
            audits,
            told,
            deciding: Semaphore::new(agent.threads() * PER_THREAD),
            stopping,
        }
    }

    pub(super) async fn handle(&self, taken: Taken) {
        let Taken { source, key, face, born, path, risk, body, others, mut receipt } = taken;
        self.metrics.in_flight.inc();
        let item = Item::Sample { source: source.to_string(), key: key.clone(), face: face.clone() };
        let case = self.hand.case(item, risk);
        let mut named = Named { of: Remembered { source, key, mark: face.clone() }, face, born, path };
        let outcome = match self.make(&mut named, body, &case).await {
            Ok(made) => {
                let stopping = || self.stopping.is_cancelled();
                let of = std::iter::once(named.of).chain(others).collect();
                self.outbox.sample(made, of, &case, &mut *receipt, stopping).await
            }
            Err(outcome) => {
                if !matches!(outcome, Outcome::Changed | Outcome::Delayed(_) | Outcome::Unacknowledged) {
                    case.lived_through().await;
                }
                outcome
            }
        };
        self.metrics.in_flight.dec();
        receipt.end(outcome).await;
    }

    /// Reads and decides it.
    async fn make(&self, named: &mut Named, body: Body, case: &Case) -> Result<Made, Outcome> {
        if let Some(deaths) = case.is_aside() {
            if let Some(made) = self.delivered(&named.id(&[])).await {
                return Ok(made);
            }
            return Ok(self.undecided(named.id(&[]), aside(named, deaths)));
        }
        let Ok(_permit) = self.deciding.acquire().await else { return Err(Outcome::Unacknowledged) };
        let is_here = matches!(body, Body::Here(_));
        let mut held = Some(self.take(case, is_here).await?);
        let (input, reads) = match read(named, body).await {
            Ok((Read { input, mark }, reads)) => {
                named.of.mark = mark;
                (input, reads)
            }
            Err(Unread::Not(outcome)) => return Err(outcome),
            Err(Unread::Never { id, mark, why }) => {
                named.of.mark = mark;
                if let Some(made) = self.delivered(&id).await {
                    return Ok(made);
                }
                return Ok(self.undecided(id, why));
            }
        };
        if let Some(made) = self.delivered(&input.id).await {
            return Ok(made);
        }
        loop {
            let in_hand = match held.take() {
                Some(held) => held,
                None => self.take(case, is_here).await?,
            };
            let epoch = self.agent.epoch();
            let deciding = self.agent.decide_open(&epoch, input.clone(), Ask::default(), Some(in_hand));
            match deciding.await {
                Ok(mut decided) => {
                    self.metrics.decided(&decided.decision);
                    let policy = &epoch.asked(input.source.as_deref()).policy;
                    self.audits.decided(&mut decided, &epoch, policy, &input.parts);
                    return Ok(Made::Decided(Box::new(decided)));
                }
                Err(error @ DecideError::Workers(WorkError::Full { .. } | WorkError::Stopped)) => {
                    if self.stopping.is_cancelled() || error.code() == "stopped" {
                        return Err(Outcome::Unacknowledged);
                    }
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) if reads.is_some() && error.code() == NO_MEMORY => {
                    tracing::debug!(path = named.path, %error, "waits for memory");
                    return Err(Outcome::Delayed(Trouble::Memory));
                }
                Err(error) if reads.as_ref().is_some_and(|reads| reads.may_heal(error.code())) => {
                    tracing::debug!(path = named.path, %error, "may not be complete yet");
                    return Err(Outcome::Incomplete);
                }
                Err(error) => {
                    let path = named.path.clone();
                    let undecided = Undecided { path, code: error.code(), message: error.to_string() };
                    return Ok(self.undecided(input.id, undecided));
                }
            }
        }
    }

    /// What the sinks' own files have of a sample that the journal does not know.
    async fn delivered(&self, id: &str) -> Option<Made> {
        self.told.knows(id)?;
        let (told, own) = (self.told.clone(), id.to_owned());
        let found = tokio::task::spawn_blocking(move || told.of(&own)).await;
        tracing::info!(id, "was decided by an earlier run, by a file of a sink");
        let found = found.ok().flatten().unwrap_or(Delivered::Settled);
        Some(Made::Delivered { id: id.to_owned(), found })
    }

    /// Takes it in hand. A risk that finds no moment for itself comes again, or where its parts are here waits for one.
    async fn take(&self, case: &Case, is_here: bool) -> Result<Held, Outcome> {
        loop {
            match case.take().await {
                Some(held) => return Ok(held),
                None if !is_here => return Err(Outcome::Changed),
                None if self.stopping.is_cancelled() => return Err(Outcome::Unacknowledged),
                None => {}
            }
        }
    }

    fn undecided(&self, id: String, why: Undecided) -> Made {
        let Undecided { path, code, message } = &why;
        tracing::warn!(path, code, message, "could not be decided");
        self.metrics.undecided(code);
        Made::Undecided { id, why }
    }
}

/// Reads a body on a thread that may block; gives also who can tell whether it may heal.
async fn read(named: &Named, body: Body) -> Result<(Read, Option<Box<dyn Reads>>), Unread> {
    match body {
        Body::Here(input) => Ok((filled(named, input), None)),
        Body::Never { code, message } => {
            let why = Undecided { path: named.path.clone(), code, message };
            Err(Unread::Never { id: named.id(&[]), mark: named.face.clone(), why })
        }
        Body::Unread(mut reads) => {
            let work = tokio::task::spawn_blocking(move || Ok((reads.read()?, Some(reads))));
            // One that panicked is looked at again.
            work.await.unwrap_or(Err(Unread::Not(Outcome::Changed)))
        }
    }
}

/// A sample whose parts are here: its id tells their content too.
fn filled(named: &Named, mut input: Input) -> Read {
    let lengths: Vec<[u8; 8]> =
        input.parts.iter().map(|part| (part.bytes.len() as u64).to_le_bytes()).collect();
    let pieces: Vec<&[u8]> = input
        .parts
        .iter()
        .zip(&lengths)
        .flat_map(|(part, length)| [part.modality.as_bytes(), &length[..], &part.bytes[..]])
        .collect();
    let id = named.id(&pieces);
    input.id = id;
    input.path.clone_from(&named.path);
    input.source = Some(named.of.source.to_string());
    Read { input, mark: named.face.clone() }
}

fn aside(named: &Named, deaths: u32) -> Undecided {
    Undecided {
        path: named.path.clone(),
        code: "crashed",
        message: format!(
            "the agent died {deaths} times with this sample in hand, the last times with nothing else; it is set aside, \
             and decided when it changes"
        ),
    }
}
