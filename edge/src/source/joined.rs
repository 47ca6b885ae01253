//! Joins what a source hands over part by part into samples: the shell round `joining`, between a source and whoever takes
//! its samples.
//!
//! The receipts of a sample's parts are settled together. A part that belongs to no sample is recorded as undecidable, by
//! the reason's name, so that nothing is left out in silence; a modality that did not come is a note of the decision.

use std::time::Duration;

use futures_util::future::BoxFuture;
use millgate_shared::sample::Note;
use millgate_shared::shutdown::Tasks;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Body, Outcome, Receipt, Taken};
use crate::input::Input;
use crate::joining::{By, Joined, Joining, Missing, Part, Refusal, Refused, Rules};
use crate::journal::Remembered;
use crate::settings::{Refused as RefusedKey, not_zero, refuse};

/// `join = { … }` of a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    pub by: JoinBy,
    /// The modalities of a whole sample.
    pub needs: Vec<String>,
    /// How long a sample waits for its parts, from its first one on.
    #[serde(default = "default_wait", with = "humantime_serde")]
    pub wait: Duration,
    /// How far apart the parts of a sample lie at most, where they are joined by time.
    #[serde(default = "default_span", with = "humantime_serde")]
    pub span: Duration,
    /// Samples that wait, at most.
    #[serde(default = "default_most")]
    pub most: usize,
}

/// What makes parts belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinBy {
    PartId,
    Time,
}

fn default_wait() -> Duration {
    Duration::from_secs(2)
}

fn default_span() -> Duration {
    Duration::from_millis(100)
}

fn default_most() -> usize {
    64
}

impl JoinConfig {
    /// Gives the first thing that is wrong; keys are those of the source.
    pub(crate) fn check(&self) -> Result<(), RefusedKey> {
        let is_double = |at: usize| self.needs[..at].contains(&self.needs[at]);
        if self.needs.len() < 2 || (0..self.needs.len()).any(|at| self.needs[at].is_empty() || is_double(at))
        {
            return refuse("join.needs", "must name at least two modalities, each once");
        }
        if self.most == 0 {
            return refuse("join.most", "must be at least 1");
        }
        not_zero("join.wait", self.wait)
    }

    fn rules(&self) -> Rules {
        let by = match self.by {
            JoinBy::PartId => By::PartId,
            JoinBy::Time => By::Time { span: self.span },
        };
        Rules { by, needs: self.needs.clone(), wait: self.wait, most: self.most }
    }
}

/// Starts joining; what is put into the sender that this gives comes to `out` joined. Each [`Taken`] must be here, and have
/// one part; its own time is [`Taken::born`].
pub(crate) fn start(config: &JoinConfig, out: mpsc::Sender<Taken>, tasks: &Tasks) -> mpsc::Sender<Taken> {
    let (parts, arriving) = mpsc::channel(1);
    let joining = Joining::new(config.rules());
    let token = tasks.token().clone();
    tasks.spawn(async move {
        // What waits when the agent stops was not acknowledged, and comes again.
        let _stopped = token.run_until_cancelled(run(joining, arriving, out)).await;
    });
    parts
}

async fn run(mut joining: Joining<Taken>, mut arriving: mpsc::Receiver<Taken>, out: mpsc::Sender<Taken>) {
    loop {
        let due = joining.next_due().map(Instant::from_std);
        let part = tokio::select! {
            part = arriving.recv() => part,
            () = until(due) => {
                let ready = joining.due(Instant::now().into_std()).into_iter().filter_map(sample);
                if !send(&out, ready).await { return }
                continue;
            }
        };
        let now = Instant::now().into_std();
        let mut ready: Vec<Taken> = joining.due(now).into_iter().filter_map(sample).collect();
        let Some(taken) = part else {
            ready.extend(joining.end().into_iter().filter_map(sample));
            send(&out, ready).await;
            return;
        };
        match part_of(taken) {
            Ok(part) => match joining.add(part, now) {
                Ok(joined) => ready.extend(joined.into_iter().filter_map(sample)),
                Err(Refused { part, why }) => ready.push(refused(part.body, why)),
            },
            // Not a part: it goes its own way.
            Err(taken) => ready.push(*taken),
        }
        if !send(&out, ready).await {
            return;
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// False if nobody takes samples any more.
async fn send(out: &mpsc::Sender<Taken>, ready: impl IntoIterator<Item = Taken>) -> bool {
    for taken in ready {
        if out.send(taken).await.is_err() {
            return false;
        }
    }
    true
}

fn part_of(taken: Taken) -> Result<Part<Taken>, Box<Taken>> {
    match &taken.body {
        Body::Here(Input { parts, part_id, .. }) if parts.len() == 1 => {
            let (modality, part_id) = (parts[0].modality.clone(), part_id.clone());
            let at = i64::try_from(taken.born).unwrap_or(i64::MAX);
            Ok(Part { modality, part_id, at, body: taken })
        }
        _ => Err(Box::new(taken)),
    }
}

/// All parts as one sample, known by the first and remembered by all.
fn sample(joined: Joined<Taken>) -> Option<Taken> {
    let Joined { parts, missing } = joined;
    let mut parts = parts.into_iter().map(|part| part.body);
    let mut whole = parts.next()?;
    let mut receipts = Receipts(Vec::new());
    for part in parts {
        let Taken { source, key, face, risk, body, receipt, others, .. } = part;
        whole.others.push(Remembered { source, key, mark: face });
        whole.others.extend(others);
        whole.risk = whole.risk.or(risk);
        receipts.0.push(receipt);
        if let (Body::Here(whole), Body::Here(part)) = (&mut whole.body, body) {
            whole.parts.extend(part.parts);
            whole.notes.extend(part.notes);
        }
    }
    if let Body::Here(input) = &mut whole.body {
        input.notes.extend(missing.into_iter().map(|(modality, why)| note(modality, why)));
    }
    receipts.0.push(whole.receipt);
    Some(Taken { receipt: Box::new(receipts), ..whole })
}

fn note(modality: String, why: Missing) -> Note {
    let message = match why {
        Missing::Late => "is missing: it did not come in time",
        Missing::Full => "is missing: too many samples waited for their parts",
        Missing::Ended => "is missing: its source has ended",
    };
    Note { modality, code: why.as_str().to_owned(), message: message.to_owned() }
}

fn refused(taken: Taken, why: Refusal) -> Taken {
    Taken { body: Body::Never { code: why.code(), message: why.to_string() }, ..taken }
}

/// The receipts of a sample's parts.
struct Receipts(Vec<Box<dyn Receipt>>);

impl Receipt for Receipts {
    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for receipt in &mut self.0 {
                receipt.settle().await;
            }
        })
    }

    fn end(self: Box<Self>, outcome: Outcome) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for receipt in self.0 {
                receipt.end(outcome).await;
            }
        })
    }
}
