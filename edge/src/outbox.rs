//! From a decision to the sinks: kept for an amendment if it is provisional, committed, delivered, and only then forgotten.
//!
//! ```text
//! spool ──> journal: decided + outbox (one commit) ──> sinks ──> tidy the file ──> journal: delivered ──> spool: released
//! ```
//!
//! A kill anywhere leaves a state that the next start carries on from: before the commit the file is decided again, under
//! the same id; after it the record is delivered again, byte for byte.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use millgate_shared::decision::{Decision, Later, State};
use millgate_shared::shutdown::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::agent::{Decided, Late};
use crate::crash::law::Item;
use crate::crash::{Case, Hand, Held};
use crate::journal::{JournalHandle, Post, Remembered};
use crate::record::Undecided;
use crate::sink::{Delivered, Key, Record, Sinks};
use crate::source::{Outcome, Receipt, Tidied, Tidy};
use crate::spool::entry::{Entry, Head, Origin, Written};
use crate::spool::{Orphan, PutError, Spool, wall};

mod counts;
#[cfg(test)]
mod tests;

pub(crate) use counts::Counts;

/// Records of gRPC decisions that are on their way at a time; more are only offered to the sinks.
const CALLS: usize = 1024;
/// Records that are delivered again at a time.
const AGAIN: usize = 64;
/// The pause between attempts to write an entry, while the disk is full or out of order.
const RETRY: Duration = Duration::from_secs(1);
/// How long samples wait for a disk that takes no entry; from then on they go out without one, until the disk takes one again.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// How long a gRPC answer waits for its entry to be on the disk, if its caller waits as long.
const PATIENCE: Duration = Duration::from_millis(250);
/// How much of a caller's time is kept for the disk at most: a decision that waited for the pool to the last is to be kept
/// within it too.
const KEPT_BACK: Duration = Duration::from_millis(25);
/// Samples of gRPC calls, with their pictures, that wait for the disk at a time; of more the answer says that it does not
/// take them. Files are as many as the queue, and wait in their folder.
const KEEPING: usize = 128;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    sinks: Sinks,
    /// `None`: nothing here has to survive a restart.
    journal: Option<JournalHandle>,
    spool: Option<Spool>,
    tidy: Tidy,
    hand: Hand,
    counts: Counts,
    calls: Arc<Semaphore>,
    keeping: Arc<Semaphore>,
    /// Since when the disk takes no entry.
    failing: Mutex<Option<Instant>>,
    work: Tasks,
}

/// What was made of a source's sample.
#[derive(Debug)]
pub(crate) enum Made {
    Decided(Box<Decided>),
    /// Nothing can be decided of it. The id is the one that its decision would have had.
    Undecided {
        id: String,
        why: Undecided,
    },
    /// An earlier run has decided it, which the journal does not know: a sink's file does.
    Delivered {
        id: String,
        found: Delivered,
    },
}

/// A record that is as safe as it has to be before it is committed.
struct Kept {
    record: Record,
    /// Whether the decision's entry stands in the spool.
    awaits: bool,
}

/// The service stops, or the journal has: what was to be done is done after the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Outbox {
    pub(crate) fn new(
        sinks: Sinks,
        journal: Option<JournalHandle>,
        spool: Option<Spool>,
        tidy: Tidy,
        hand: &Hand,
        counts: Counts,
        work: &Tasks,
    ) -> Self {
        let work = work.clone();
        let calls = Arc::new(Semaphore::new(CALLS));
        let keeping = Arc::new(Semaphore::new(KEEPING));
        let hand = hand.clone();
        Self(Arc::new(Parts {
            sinks,
            journal,
            spool,
            tidy,
            hand,
            counts,
            calls,
            keeping,
            failing: Mutex::default(),
            work,
        }))
    }

    /// What of a caller's time is not for deciding.
    pub(crate) fn keeps_back(&self, limit: Duration) -> Duration {
        if self.0.spool.is_some() { KEPT_BACK.min(limit / 8) } else { Duration::ZERO }
    }

    /// Whether an amendment of this decision can be hoped for; what is to be kept for it.
    fn later(&self, decision: &Decision, late: Option<Late>) -> Result<Option<(Spool, Late)>, Later> {
        if decision.state != State::Provisional {
            return Ok(None);
        }
        let late = late.ok_or(Later::NotNeeded)?;
        let spool = self.0.spool.clone().ok_or(Later::Off)?;
        Ok(Some((spool, late)))
    }

    /// Sees what was made of a source's sample to every sink. It is kept in the spool, if it is to be amended; committed;
    /// and then its receipt is settled, all sinks are handed the record, and the source tidies. While the disk does not take an
    /// entry of the spool, this waits for a while, as the sample does; `is_stopping` ends that.
    pub(crate) async fn sample(
        &self,
        made: Made,
        of: Vec<Remembered>,
        case: &Case,
        receipt: &mut dyn Receipt,
        is_stopping: impl Fn() -> bool,
    ) -> Outcome {
        let kept = match made {
            Made::Delivered { id, found: Delivered::Settled } => {
                case.lived_through().await;
                return self.remember(&id, of, receipt).await;
            }
            Made::Delivered { found: Delivered::Once(record), .. } => {
                self.0.counts.recognised.inc();
                Ok(Kept { record, awaits: false })
            }
            Made::Decided(decided) => self.keep(*decided, case, is_stopping).await,
            Made::Undecided { id, why } => undecided(id, &why).map(|record| Kept { record, awaits: false }),
        };
        let Ok(kept) = kept else { return Outcome::Unacknowledged };
        case.lived_through().await;
        let outcome = match self.commit(&kept, of, receipt).await {
            Ok(Tidied::Kept | Tidied::Later(_)) => Outcome::Done,
            Ok(Tidied::Removed) => Outcome::Removed,
            Ok(Tidied::Changed) => Outcome::Changed,
            Err(Stopped) => return Outcome::Unacknowledged,
        };
        case.is_set_aside().await;
        outcome
    }

    /// Remembers samples whose record every sink has by now, and tidies them.
    async fn remember(&self, id: &str, of: Vec<Remembered>, receipt: &mut dyn Receipt) -> Outcome {
        let Some(journal) = &self.0.journal else { return Outcome::Unacknowledged };
        self.0.counts.recognised.inc();
        if !journal.remember(of.clone()).await {
            return Outcome::Unacknowledged;
        }
        receipt.settle().await;
        let mut tidied = Vec::with_capacity(of.len());
        for of in &of {
            tidied.push(self.0.tidy.tidy(of, id).await);
            if tidied.last() == Some(&Tidied::Removed) {
                // What is not forgotten now is when its folder is listed.
                let _stopped = !journal.forget(&of.source, vec![of.key.clone()]).await;
            }
        }
        match Tidied::all(&tidied) {
            Tidied::Kept | Tidied::Later(_) => Outcome::Done,
            Tidied::Removed => Outcome::Removed,
            Tidied::Changed => Outcome::Changed,
        }
    }

    /// On the disk, if it is to be amended. The sample is in hand while it is encoded.
    async fn keep(
        &self,
        decided: Decided,
        case: &Case,
        is_stopping: impl Fn() -> bool,
    ) -> Result<Kept, Stopped> {
        let Decided { decision, late, audit: _ } = decided;
        let plain = |decision: &Decision| record(decision).map(|record| Kept { record, awaits: false });
        let (spool, late) = match self.later(&decision, late) {
            Ok(Some(later)) => later,
            Ok(None) => return plain(&decision),
            Err(why) => return plain(&marked(decision, why)),
        };
        let held = case.take_anyhow().await;
        let Some((entry, record)) = entry(&decision, late, Origin::File, held).await? else {
            return plain(&marked(decision, Later::NotNeeded));
        };
        loop {
            match spool.put(&entry).await {
                Ok(()) => {
                    *self.failing() = None;
                    return Ok(Kept { record, awaits: true });
                }
                Err(PutError::Full) => return plain(&marked(decision, Later::Full)),
                Err(PutError::Stopped) => return Err(Stopped),
                Err(PutError::Disk(_)) if is_stopping() => return Err(Stopped),
                Err(PutError::Disk(_)) if self.has_waited() => {
                    return plain(&marked(decision, Later::Disk));
                }
                Err(PutError::Disk(error)) => {
                    tracing::debug!(error, "an entry waits for the disk");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk has just refused an entry: whether it has done so for longer than is waited for.
    fn has_waited(&self) -> bool {
        let since = *self.failing().get_or_insert_with(Instant::now);
        since.elapsed() >= DISK_PATIENCE
    }

    /// Commits it to the journal, and sees it to the sinks from there.
    async fn commit(
        &self,
        kept: &Kept,
        of: Vec<Remembered>,
        receipt: &mut dyn Receipt,
    ) -> Result<Tidied, Stopped> {
        let Some(journal) = &self.0.journal else { return Err(Stopped) };
        let Kept { record, awaits } = kept;
        let post = post(record, of.clone());
        let number = journal.post(post, *awaits).await.ok_or(Stopped)?;
        receipt.settle().await;
        self.deliver(number, record, &of, *awaits).await
    }

    /// Hands a record to every sink, has its samples tidied, and forgets it; an entry that awaits this may be asked from
    /// then on.
    async fn deliver(
        &self,
        number: u64,
        record: &Record,
        of: &[Remembered],
        awaits: bool,
    ) -> Result<Tidied, Stopped> {
        let Some(journal) = &self.0.journal else { return Err(Stopped) };
        let records = &self.0.counts.records;
        records.inc();
        let is_delivered = self.0.sinks.deliver(record).await;
        records.dec();
        if !is_delivered {
            return Err(Stopped);
        }
        let (mut tidied, mut gone) = (Vec::with_capacity(of.len()), Vec::new());
        for of in of {
            tidied.push(self.0.tidy.tidy(of, record.id()).await);
            if tidied.last() == Some(&Tidied::Removed) {
                gone.push((Arc::clone(&of.source), of.key.clone()));
            }
        }
        journal.delivered(number, gone).await;
        if let Some(spool) = self.0.spool.as_ref().filter(|_| awaits) {
            spool.release(record.id().to_owned()).await;
        }
        Ok(Tidied::all(&tidied))
    }

    /// Takes in a gRPC call's decision: gives it as its caller is to see it, before `by`. What is to reach sinks does so behind the
    /// answer; only an entry of the spool is waited for, and not for long.
    pub(crate) async fn call(&self, decided: Decided, by: Option<Instant>) -> Decision {
        let Decided { decision, late, audit: _ } = decided;
        let (spool, late) = match self.later(&decision, late) {
            Ok(Some(later)) => later,
            Ok(None) => {
                self.post_call(&decision);
                return decision;
            }
            Err(why) => return self.without_entry(decision, why),
        };
        let Ok(permit) = Arc::clone(&self.0.calls).try_acquire_owned() else {
            return self.without_entry(decision, Later::Full);
        };
        let Ok(keeping) = Arc::clone(&self.0.keeping).try_acquire_owned() else {
            return self.without_entry(decision, Later::Disk);
        };
        let (answer, kept) = oneshot::channel();
        let (this, own) = (self.clone(), decision.clone());
        self.0.work.spawn(async move {
            let held = this.0.hand.take(&Item::Call).await;
            let put = match entry(&own, late, Origin::Api, held).await {
                Ok(Some((entry, record))) => match spool.put(&entry).await {
                    Ok(()) => Ok(record),
                    Err(PutError::Full) => Err(Later::Full),
                    Err(PutError::Disk(_) | PutError::Stopped) => Err(Later::Disk),
                },
                Ok(None) => Err(Later::NotNeeded),
                Err(Stopped) => Err(Later::Disk),
            };
            drop(keeping);
            let _late = answer.send(put.as_ref().err().copied().unwrap_or(Later::Spooled)).is_err();
            match put {
                Ok(record) => this.commit_call(record, true, permit).await,
                Err(later) => {
                    drop(permit);
                    this.post_call(&marked(own, later));
                }
            }
        });
        let patience = Instant::now() + PATIENCE;
        let until = by.map_or(patience, |by| by.min(patience));
        let later = tokio::time::timeout_at(until, kept).await;
        marked(decision, later.ok().and_then(Result::ok).unwrap_or(Later::Disk))
    }

    fn without_entry(&self, decision: Decision, why: Later) -> Decision {
        let decision = marked(decision, why);
        self.post_call(&decision);
        decision
    }

    /// A record of a call, behind its answer.
    fn post_call(&self, decision: &Decision) {
        let record = match record(decision) {
            Ok(record) => record,
            Err(Stopped) => return,
        };
        if self.0.journal.is_none() {
            return self.0.sinks.offer(&record);
        }
        match Arc::clone(&self.0.calls).try_acquire_owned() {
            Ok(permit) => {
                let this = self.clone();
                self.0.work.spawn(async move { this.commit_call(record, false, permit).await });
            }
            Err(_) => {
                self.0.counts.bypassed.inc();
                self.0.sinks.offer(&record);
            }
        }
    }

    async fn commit_call(&self, record: Record, awaits: bool, permit: OwnedSemaphorePermit) {
        let Some(journal) = &self.0.journal else { return };
        if let Some(number) = journal.post(post(&record, Vec::new()), awaits).await {
            // What a sink does not have is delivered after the next start.
            let _stopped = self.deliver(number, &record, &[], awaits).await.is_err();
        }
        drop(permit);
    }

    /// An amended record: committed, with its id closed, when this returns; its delivery is the future that it gives. An error:
    /// it was not committed and is not delivered.
    pub(crate) async fn amended(&self, record: Record) -> Result<impl Future<Output = ()> + use<>, Stopped> {
        let journal = self.0.journal.as_ref().ok_or(Stopped)?;
        let number = journal.amended(post(&record, Vec::new())).await.ok_or(Stopped)?;
        let this = self.clone();
        Ok(async move {
            let _stopped = this.deliver(number, &record, &[], false).await.is_err();
        })
    }

    /// What an earlier run left: records that not every sink has, in their order, and gRPC decisions that were killed
    /// between the spool and the journal.
    pub(crate) async fn carry_on(self, undelivered: Vec<(u64, Post)>, orphans: Vec<Orphan>) {
        if !undelivered.is_empty() || !orphans.is_empty() {
            tracing::info!(
                records = undelivered.len() + orphans.len(),
                "delivering what was left by an earlier run"
            );
        }
        self.0.counts.redelivered.inc_by(undelivered.len() as u64);
        let again = undelivered.into_iter().map(|(number, post)| {
            let this = &self;
            async move {
                let Post { id, version, line, of } = post;
                let record = Record::new(Key { id, version }, line);
                // Perhaps an entry waits for it.
                this.deliver(number, &record, &of, true).await
            }
        });
        let mut again = futures_util::stream::iter(again).buffered(AGAIN);
        while let Some(delivered) = again.next().await {
            if delivered.is_err() {
                return;
            }
        }
        for Orphan { id, line } in orphans {
            let Ok(permit) = Arc::clone(&self.0.calls).acquire_owned().await else { return };
            let record = Record::new(Key { id, version: 1 }, line.into_bytes());
            self.commit_call(record, true, permit).await;
        }
    }
}

fn marked(mut decision: Decision, later: Later) -> Decision {
    if let Some(degraded) = &mut decision.degraded {
        degraded.later = Some(later);
    }
    decision
}

fn record(decision: &Decision) -> Result<Record, Stopped> {
    Record::of_decision(decision).map_err(|error| {
        tracing::error!(path = decision.sample.path, %error, "record cannot be written as JSON");
        Stopped
    })
}

/// What the spool keeps, and the record that goes out with it; `None` if nothing of it can be asked.
async fn entry(
    decision: &Decision,
    late: Late,
    origin: Origin,
    held: Held,
) -> Result<Option<(Written, Record)>, Stopped> {
    let decision = marked(decision.clone(), Later::Spooled);
    let record = record(&decision)?;
    let line = String::from_utf8_lossy(record.line()).into_owned();
    let head = Head { origin, decided_at: wall(), digest: late.digest(), id: decision.id };
    // Pictures are encoded.
    let encoding = tokio::task::spawn_blocking(move || {
        let _in_hand = held;
        let (open, requests) = late.into_requests();
        let entry = Entry { head, open, line, requests };
        (!entry.requests.is_empty()).then(|| entry.into_written()).transpose()
    });
    let written = encoding.await.map_err(|_| Stopped)?;
    let refuse = |error| tracing::error!(%error, "an entry cannot be written as bytes");
    let written = written.map_err(refuse).map_err(|()| Stopped)?;
    Ok(written.map(|written| (written, record)))
}

fn post(record: &Record, of: Vec<Remembered>) -> Post {
    let Key { id, version } = record.key().clone();
    Post { id, version, line: record.line().to_vec(), of }
}

fn undecided(id: String, why: &Undecided) -> Result<Record, Stopped> {
    Record::of_error(id, why).map_err(|error| {
        tracing::error!(path = why.path, %error, "record cannot be written as JSON");
        Stopped
    })
}
