//! The thread that owns the log and its index. All that touches the disk happens here, so that nothing else waits for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millgate_shared::bundle::BundleDigest;
use tokio::sync::{mpsc, oneshot};

use super::config::SpoolConfig;
use super::disk::{Dir, Disk};
use super::entry::{Entry, Head, Origin};
use super::index::{Again, Emptied, Entry as Known, Index, Limits, Millis, Room, State};
use super::log::{Found, Log, Sync};
use super::rate::Rate;
use super::status::{Listed, Status};
use super::{Closed, PutError, QUEUE, Spool, SpoolMetrics, Work};
use crate::crash::law::Item;
use crate::crash::{Gate, Hand};
use crate::journal::JournalHandle;

mod report;
mod start;
#[cfg(test)]
mod tests;
mod ticking;

pub(crate) use report::when_full;
pub(crate) use start::{Orphan, Started, born};
pub(super) use ticking::Ticking;

/// Entries written together, at most, and their bytes.
const GROUP: usize = 64;
const GROUP_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
#[error("spool {}: {source}", path.display())]
pub struct OpenError {
    pub path: PathBuf,
    pub source: io::Error,
}

pub(super) enum Job {
    Put { head: Head, body: Arc<[u8]>, done: oneshot::Sender<Result<(), PutError>> },
    Release(String),
    Take(oneshot::Sender<Option<Work>>),
    Retry { seq: u64, pause: Duration, why: Again },
    Close { seq: u64, why: Closed },
    Wake,
    Tick,
    Status(oneshot::Sender<Status>),
    List(oneshot::Sender<Vec<Listed>>),
    Bundles(oneshot::Sender<BTreeSet<BundleDigest>>),
    Read { id: String, done: oneshot::Sender<Option<Vec<u8>>> },
    Discard { ids: Option<Vec<String>>, done: oneshot::Sender<usize> },
}

/// An entry to be written, and who waits for it.
type Put = (Head, Arc<[u8]>, oneshot::Sender<Result<(), PutError>>);

/// What the journal is to be told, in order, as soon as it has room.
enum Telling {
    /// By a sink's file, which the journal does not know.
    Awaits(Vec<String>),
    Closed(Vec<String>),
    Pruned(Vec<String>),
}

pub(super) struct Keeper<D> {
    log: Log<D>,
    index: Index,
    rate: Rate,
    config: SpoolConfig,
    journal: JournalHandle,
    hand: Hand,
    metrics: SpoolMetrics,
    telling: VecDeque<Telling>,
    began: Instant,
    ticking: Ticking,
    /// The wall clock at the start, by which the entries of earlier runs were taken to be born.
    began_at: Millis,
    closed: HashMap<&'static str, u64>,
    refused_full: u64,
    /// Already in the metrics.
    counted: super::log::Counts,
    /// The disk does not take entries; said once.
    is_failing: bool,
    /// Segments that could not be moved since the last tick.
    stuck: BTreeSet<u64>,
}

impl<D: Disk> Keeper<D> {
    /// Forward only, from 0 at the start.
    fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    /// Entries that are too old by what is known of the time.
    fn expired(&self, now: Millis) -> Vec<u64> {
        self.index.expired(now, self.ticking.now().map(|wall| wall - now - self.began_at))
    }

    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = None;
        loop {
            let Some(job) = next.take().or_else(|| jobs.blocking_recv()) else { break };
            match job {
                Job::Put { head, body, done } => {
                    let mut bytes = body.len();
                    let mut group = vec![(head, body, done)];
                    while group.len() < GROUP && bytes < GROUP_BYTES {
                        match jobs.try_recv() {
                            Ok(Job::Put { head, body, done }) => {
                                bytes += body.len();
                                group.push((head, body, done));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.put(group);
                }
                other => self.work(other),
            }
            self.tell();
        }
        if let Err(error) = self.log.flush() {
            tracing::warn!(%error, "spool cannot be synced at the end");
        }
    }

    fn work(&mut self, job: Job) {
        let now = self.now();
        // A caller that has gone does not want to know.
        let _gone = match job {
            Job::Put { head, body, done } => {
                self.put(vec![(head, body, done)]);
                false
            }
            Job::Release(id) => {
                self.index.release(&id, now);
                false
            }
            Job::Take(done) => done.send(self.take(now)).is_err(),
            Job::Retry { seq, pause, why } => {
                self.index.retry(seq, now + pause.as_millis() as Millis, why);
                self.metrics.retries.inc();
                false
            }
            Job::Close { seq, why } => {
                if why == Closed::Crashed {
                    self.keep_aside(seq);
                }
                self.close(&[seq], why);
                false
            }
            Job::Wake => {
                self.index.wake(now);
                false
            }
            Job::Tick => {
                self.tick(now);
                false
            }
            Job::Status(done) => done.send(self.status(now)).is_err(),
            Job::List(done) => done.send(self.list(now)).is_err(),
            Job::Bundles(done) => done.send(self.index.bundles().into_keys().collect()).is_err(),
            Job::Read { id, done } => {
                let found = self.index.find(&id).map(|(seq, entry)| (seq, entry.place));
                let body = found.and_then(|(seq, place)| self.log.read(seq, place).ok().flatten());
                done.send(body).is_err()
            }
            Job::Discard { ids, done } => done.send(self.discard(ids)).is_err(),
        };
    }

    fn tick(&mut self, now: Millis) {
        if self.config.sync == Sync::Second
            && let Err(error) = self.log.flush()
        {
            tracing::warn!(%error, "spool cannot be synced");
        }
        self.ticking.look();
        let expired = self.expired(now);
        if !expired.is_empty() {
            tracing::warn!(
                entries = expired.len(),
                "entries are too old to be amended; their decisions stay provisional"
            );
            self.close(&expired, Closed::Expired);
        }
        self.stuck.clear();
        for emptied in self.index.empty_segments() {
            self.forget(Some(emptied));
        }
        self.measure(now);
    }

    fn put(&mut self, group: Vec<Put>) {
        let now = self.now();
        // With its room made, each; those that found none are answered.
        let mut accepted = Vec::with_capacity(group.len());
        let mut planned = 0;
        for (head, body, done) in group {
            let bytes = (body.len() + super::frame::HEAD) as u64;
            match self.make_room(planned + bytes, now) {
                Ok(()) => {
                    planned += bytes;
                    accepted.push((head, body, done));
                }
                Err(error) => {
                    if error == PutError::Full {
                        self.refused_full += 1;
                        self.metrics.refused_full.inc();
                    } else {
                        self.metrics.refused_disk.inc();
                    }
                    let _gone = done.send(Err(error)).is_err();
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        let bodies: Vec<&[u8]> = accepted.iter().map(|(_, body, _)| &**body).collect();
        let appended = self.log.append(&bodies);
        match &appended {
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::error!(%error, "spool cannot be written; provisional decisions of gRPC calls will not be amended, files wait");
            }
            Ok(_) if self.is_failing => {
                self.is_failing = false;
                tracing::info!("spool can be written again");
            }
            _ => {}
        }
        match appended {
            Ok(places) => {
                for ((head, body, done), (seq, place)) in accepted.into_iter().zip(places) {
                    self.rate.note(now, place.len);
                    let Head { digest, id, .. } = head;
                    let known = Known { id, place, born: now, digest, state: State::Held, tries: 0 };
                    let emptied = self.index.insert(seq, known);
                    self.forget(emptied);
                    self.metrics.accepted.inc();
                    drop(body);
                    let _gone = done.send(Ok(())).is_err();
                }
            }
            Err(error) => {
                for (_, _, done) in accepted {
                    self.metrics.refused_disk.inc();
                    let _gone = done.send(Err(PutError::Disk(error.to_string()))).is_err();
                }
            }
        }
    }

    /// An entry of so many bytes now fits, or why it does not.
    fn make_room(&mut self, bytes: u64, now: Millis) -> Result<(), PutError> {
        let mut failed = None;
        loop {
            let before = self.index.bytes();
            match self.index.room(bytes, self.log.current(), &self.stuck) {
                Room::Fits => return Ok(()),
                Room::Refused => {
                    // Perhaps only the clock has not been looked at.
                    let expired = self.expired(now);
                    if expired.is_empty() {
                        let is_disk = !self.stuck.is_empty();
                        let message = || failed.unwrap_or_else(|| "a segment cannot be moved".to_owned());
                        return Err(if is_disk { PutError::Disk(message()) } else { PutError::Full });
                    }
                    self.close(&expired, Closed::Expired);
                }
                Room::Compact(segment) => {
                    if let Err(error) = self.compact(segment) {
                        tracing::warn!(segment, %error, "an entry cannot be moved; the next try is in a second");
                        self.stuck.insert(segment);
                        failed = Some(error.to_string());
                    } else if self.index.bytes() >= before {
                        return Err(stays());
                    }
                }
                Room::Drop(victims) => {
                    tracing::warn!(
                        entries = victims.len(),
                        "spool is full; its oldest entries will not be amended"
                    );
                    self.close(&victims, Closed::Dropped);
                    if self.index.bytes() >= before {
                        return Err(stays());
                    }
                }
            }
        }
    }

    /// What is needed of a segment goes to the youngest in one piece, and is on the disk before the old one goes.
    fn compact(&mut self, segment: u64) -> io::Result<()> {
        let (mut bodies, mut damaged) = (Vec::new(), Vec::new());
        for seq in self.index.live(segment) {
            let Some(place) = self.index.get(seq).map(|known| known.place) else { continue };
            match self.log.read(seq, place)? {
                Some(body) => bodies.push((seq, body)),
                None => damaged.push(seq),
            }
        }
        let borrowed: Vec<(u64, &[u8])> = bodies.iter().map(|(seq, body)| (*seq, body.as_slice())).collect();
        if !borrowed.is_empty() {
            let places = self.log.move_up(&borrowed)?;
            for ((seq, _), place) in bodies.iter().zip(places) {
                if let Some(known) = self.index.get(*seq).cloned() {
                    let emptied = self.index.insert(*seq, Known { place, ..known });
                    self.forget(emptied);
                }
            }
        }
        self.close(&damaged, Closed::Damaged);
        Ok(())
    }

    fn take(&mut self, now: Millis) -> Option<Work> {
        while let Some((seq, place)) = self.index.take(now) {
            let known = self.index.get(seq);
            let (tries, id) = known.map_or((0, String::new()), |known| (known.tries, known.id.clone()));
            let _in_hand = match self.hand.entry(&id) {
                Gate::Open(held) => held,
                Gate::Aside { deaths } => {
                    tracing::error!(
                        id,
                        deaths,
                        "the agent died each time that it worked on this; it is set aside"
                    );
                    self.keep_aside(seq);
                    self.close(&[seq], Closed::Crashed);
                    self.hand.acquit(&Item::Entry { id });
                    continue;
                }
            };
            match self.log.read(seq, place) {
                Ok(Some(body)) => match Entry::read(&body) {
                    Ok(entry) => return Some(Work { seq, entry, tries }),
                    Err(error) => {
                        tracing::error!(seq, %error, "an entry cannot be read; its decision will not be amended");
                        self.close(&[seq], Closed::Damaged);
                    }
                },
                Ok(None) => self.close(&[seq], Closed::Damaged),
                Err(error) => {
                    // The disk, not the entry: it may pass.
                    tracing::warn!(seq, %error, "spool cannot be read; trying again");
                    self.index.retry(seq, now + 5_000, Again::Trouble);
                    return None;
                }
            }
        }
        None
    }

    fn close(&mut self, seqs: &[u64], why: Closed) {
        let ids: Vec<String> =
            seqs.iter().filter_map(|seq| self.index.get(*seq)).map(|known| known.id.clone()).collect();
        *self.closed.entry(why.as_str()).or_default() += ids.len() as u64;
        self.metrics.closed(why).inc_by(ids.len() as u64);
        if why != Closed::Amended && !ids.is_empty() {
            self.telling.push_back(Telling::Closed(ids));
        }
        for seq in seqs {
            let emptied = self.index.remove(*seq);
            self.forget(emptied);
        }
    }

    /// Copies an entry's bytes aside, where they may tell somebody what is wrong with it.
    fn keep_aside(&mut self, seq: u64) {
        let Some(place) = self.index.get(seq).map(|known| known.place) else { return };
        let kept = match self.log.read(seq, place) {
            Ok(Some(body)) => self.log.keep_aside(place, &body),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(seq, %error, "an entry cannot be kept aside");
        }
    }

    /// A segment that nobody needs. As long as it may come back, its entries are to be known as closed.
    fn forget(&mut self, emptied: Option<Emptied>) {
        let Some(emptied) = emptied else { return };
        if !self.log.remove(emptied.segment) {
            let bytes = self.log.len_of(emptied.segment);
            return self.index.keep(emptied, bytes);
        }
        if !emptied.closed.is_empty() {
            self.telling.push_back(Telling::Pruned(emptied.closed));
        }
    }

    fn discard(&mut self, ids: Option<Vec<String>>) -> usize {
        let is_meant = |id: &String| ids.as_ref().is_none_or(|ids| ids.contains(id));
        let meant = self.index.iter().filter(|(_, known)| known.state != State::Asked && is_meant(&known.id));
        let seqs: Vec<u64> = meant.map(|(seq, _)| seq).collect();
        self.close(&seqs, Closed::Discarded);
        seqs.len()
    }

    /// Never waits: the journal may be busy with a slow disk.
    fn tell(&mut self) {
        while let Some(telling) = self.telling.pop_front() {
            let refused = match telling {
                Telling::Awaits(ids) => self.journal.try_awaits(ids).map_err(Telling::Awaits),
                Telling::Closed(ids) => self.journal.try_closed(ids).map_err(Telling::Closed),
                Telling::Pruned(mut ids) => {
                    // One that was decided again is awaited again.
                    ids.retain(|id| self.index.find(id).is_none());
                    self.journal.try_pruned(ids).map_err(Telling::Pruned)
                }
            };
            if let Err(telling) = refused {
                self.telling.push_front(telling);
                return;
            }
        }
    }
}

/// Not one entry more is given up for a disk that gives no room back.
fn stays() -> PutError {
    PutError::Disk("a segment that is not needed cannot be removed".to_owned())
}

/// Milliseconds since 1970, by the device's clock.
pub(crate) fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A salt for a segment's name.
fn salt() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness entries are still safe against chance, only not against forgery.
    if getrandom::fill(&mut bytes).is_err() {
        return wall() as u32;
    }
    u32::from_le_bytes(bytes)
}
