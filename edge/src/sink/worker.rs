//! A sink's queue and thread: bounded, retrying, drained.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millgate_shared::panics::caught;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::WhenFull;
use super::counts::SinkMetrics;
use super::{PAUSES, Record, Write, WriteError};
use crate::backoff::jittered;

#[cfg(test)]
mod tests;

/// What became of a record. A dropped sender means that the sink does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    /// Delivered, or left out by policy.
    Settled,
}

/// How a sink waits, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Records that wait, at most.
    pub(super) queue: usize,
    pub(super) when_full: WhenFull,
    /// Attempts after the first. `None`: for ever.
    pub(super) retries: Option<u32>,
}

impl Settings {
    /// Loses nothing: what waits for it waits, and it is tried for ever.
    pub(super) fn patient(queue: usize) -> Self {
        Self { queue, when_full: WhenFull::Block, retries: None }
    }
}

/// Handle to a sink at work.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

struct Job {
    record: Record,
    ack: oneshot::Sender<Ack>,
}

/// What the handle and the thread share.
struct Shared {
    name: String,
    settings: Settings,
    metrics: SinkMetrics,
    queue: Mutex<Queue>,
    /// Told of each change of the queue.
    changed: Condvar,
    /// Room in the queue, with `when_full = "block"`.
    room: Semaphore,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Taken from `jobs`, not yet settled.
    at_work: usize,
    /// No more will come.
    is_closed: bool,
    /// Do not even finish what is there.
    is_abandoned: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Worker {
    pub(super) fn start<W: Write>(
        name: String,
        settings: Settings,
        writer: W,
        metrics: SinkMetrics,
        on_broken: impl Fn(String) + Send + 'static,
    ) -> Self {
        let room = Semaphore::new(settings.queue.min(Semaphore::MAX_PERMITS));
        let queue = Mutex::default();
        let shared = Arc::new(Shared { name, settings, metrics, queue, changed: Condvar::new(), room });
        let (end, ended) = watch::channel(false);
        let thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            thread.run(writer, &on_broken);
            end.send_replace(true);
        });
        Self { shared, ended }
    }

    /// Queues a record; waits for room, or makes some, as configured.
    pub(super) async fn push(&self, record: Record) -> oneshot::Receiver<Ack> {
        if self.shared.settings.when_full == WhenFull::Block {
            match self.shared.room.acquire().await {
                Ok(permit) => permit.forget(),
                // Closed: the receiver learns it below.
                Err(_) => return oneshot::channel().1,
            }
        }
        self.shared.put(record)
    }

    /// Queues a record if there is room or may be made some.
    pub(super) fn offer(&self, record: Record) {
        if self.shared.settings.when_full == WhenFull::Block {
            match self.shared.room.try_acquire() {
                Ok(permit) => permit.forget(),
                Err(_) => {
                    self.shared.metrics.dropped.inc();
                    return;
                }
            }
        }
        drop(self.shared.put(record));
    }

    pub(super) fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.room.close();
        self.shared.changed.notify_all();
    }

    /// Waits for the thread; what it has not delivered by `until` is abandoned and counted.
    pub(super) async fn ended(&self, until: Instant) -> usize {
        let mut ended = self.ended.clone();
        let has_ended = tokio::time::timeout_at(until, ended.wait_for(|ended| *ended)).await.is_ok();
        let mut queue = self.shared.lock();
        queue.is_abandoned = true;
        // One that is being written right now may yet arrive, but nobody will know.
        let left = queue.jobs.len() + if has_ended { 0 } else { queue.at_work };
        queue.jobs.clear();
        drop(queue);
        self.shared.changed.notify_all();
        self.shared.metrics.abandoned.inc_by(left as u64);
        left
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, record: Record) -> oneshot::Receiver<Ack> {
        let (ack, receiver) = oneshot::channel();
        let mut queue = self.lock();
        if queue.is_closed {
            return receiver;
        }
        if self.settings.when_full == WhenFull::DropOldest
            && queue.jobs.len() >= self.settings.queue
            && let Some(oldest) = queue.jobs.pop_front()
        {
            self.metrics.dropped.inc();
            settle(oldest);
        }
        queue.jobs.push_back(Job { record, ack });
        self.metrics.queued.set(queue.jobs.len() as i64);
        drop(queue);
        self.changed.notify_all();
        receiver
    }

    fn run<W: Write>(&self, mut writer: W, on_broken: &dyn Fn(String)) {
        while let Some(batch) = self.next(W::BATCH) {
            if let Some(message) = self.deliver(&mut writer, batch) {
                tracing::error!(sink = self.name, message, "sink has broken");
                let mut queue = self.lock();
                queue.is_closed = true;
                queue.jobs.clear();
                self.room.close();
                on_broken(format!("sink {}: {message}", self.name));
                return;
            }
            self.lock().at_work = 0;
        }
    }

    /// Gives why the sink has broken, if it has.
    fn deliver<W: Write>(&self, writer: &mut W, batch: Vec<Job>) -> Option<String> {
        let records: Vec<Record> = batch.iter().map(|job| job.record.clone()).collect();
        match self.write(writer, &records) {
            End::Settled => batch.into_iter().for_each(settle),
            // The acks are dropped: the sink does not have them.
            End::Abandoned => {}
            End::Broken(message) => return Some(message),
            // One record that the writer cannot stand must take neither the others with it nor the thread.
            End::Panicked(_) if batch.len() > 1 => {
                return batch.into_iter().find_map(|job| self.deliver(writer, vec![job]));
            }
            End::Panicked(message) => {
                let id = records.first().map_or("", Record::id);
                tracing::error!(
                    sink = self.name,
                    id,
                    message,
                    "writing the record panicked; it is not delivered to this sink"
                );
                self.metrics.refused.inc();
                batch.into_iter().for_each(settle);
            }
        }
        None
    }

    /// The next records; `None` when closed and empty.
    fn next(&self, most: usize) -> Option<Vec<Job>> {
        let mut queue = self.lock();
        loop {
            if queue.is_abandoned {
                return None;
            }
            if !queue.jobs.is_empty() {
                let count = queue.jobs.len().min(most);
                let batch: Vec<Job> = queue.jobs.drain(..count).collect();
                queue.at_work = count;
                self.metrics.queued.set(queue.jobs.len() as i64);
                if self.settings.when_full == WhenFull::Block {
                    self.room.add_permits(count);
                }
                return Some(batch);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tries until it is written, or there is a reason not to.
    fn write<W: Write>(&self, writer: &mut W, records: &[Record]) -> End {
        let count = records.len() as u64;
        let sink = &self.name;
        let mut failures: u32 = 0;
        loop {
            let written = match caught(|| writer.write(records)) {
                Ok(written) => written,
                Err(message) => return End::Panicked(message),
            };
            let error = match written {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(sink, failures, "sink takes records again");
                    }
                    self.metrics.delivered.inc_by(count);
                    return End::Settled;
                }
                Err(WriteError::Later(error)) => error,
                Err(WriteError::Refused(error)) => {
                    let id = records.first().map_or("", Record::id);
                    tracing::error!(sink, id, error, "record refused; it is not delivered to this sink");
                    self.metrics.refused.inc_by(count);
                    return End::Settled;
                }
                Err(WriteError::Broken(error)) => return End::Broken(error),
            };
            if failures == 0 {
                tracing::warn!(sink, error, "sink does not take records; trying again");
            }
            failures += 1;
            if self.settings.retries.is_some_and(|retries| failures > retries) {
                tracing::error!(sink, error, failures, "given up; the record is not delivered to this sink");
                self.metrics.given_up.inc_by(count);
                return End::Settled;
            }
            if self.is_abandoned_after(jittered(PAUSES.of(failures), fastrand::f64())) {
                return End::Abandoned;
            }
            self.metrics.retries.inc();
        }
    }

    /// Waits, but not for a sink that is to stop at once.
    fn is_abandoned_after(&self, pause: Duration) -> bool {
        let queue = self.lock();
        let waited = self.changed.wait_timeout_while(queue, pause, |queue| !queue.is_abandoned);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_abandoned
    }
}

/// How the writing of a batch ended.
enum End {
    Settled,
    Abandoned,
    Broken(String),
    Panicked(String),
}

fn settle(job: Job) {
    // Nobody waits for a record that was only offered.
    let _offered = job.ack.send(Ack::Settled).is_err();
}
