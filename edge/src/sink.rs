//! Where decisions go. Every sink has a thread and a bounded queue of its own (`sink::worker`); what it is told to keep it
//! tries to deliver until it has, and only then is the decision acknowledged.
//!
//! A decision counts as acknowledged when every sink has it, or has left it out by a policy that was configured and
//! counted. What a file's decision is worth remembering follows from that alone.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::decision::Decision;
use tokio::time::Instant;

use crate::config::{SinkConfig, StdoutConfig, WhenFull};
use crate::metrics::Metrics;
use crate::record::{Undecided, write_decision, write_error};
use worker::{Ack, Settings, Worker};

mod jsonl;
mod stdout;
mod webhook;
mod worker;

pub(crate) use jsonl::probe_dir;
pub(crate) use webhook::way;

/// One line of JSON, on its way.
#[derive(Debug, Clone)]
pub struct Record(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    key: Key,
    line: Vec<u8>,
}

/// What a record is known by: equal for one that is delivered again, and for no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of the decision.
    pub id: String,
    /// Of the decision; 0 where there is none.
    pub version: u32,
}

impl Record {
    pub fn of_decision(decision: &Decision) -> io::Result<Self> {
        let mut line = Vec::with_capacity(1024);
        write_decision(&mut line, decision)?;
        Ok(Self::new(Key { id: decision.id.clone(), version: decision.version }, line))
    }

    /// `id` as a decision of the same input would have had it.
    pub fn of_error(id: String, undecided: &Undecided) -> io::Result<Self> {
        let mut line = Vec::with_capacity(256);
        write_error(&mut line, undecided, Some(&id))?;
        Ok(Self::new(Key { id, version: 0 }, line))
    }

    /// A line that was written before, with its line feed.
    pub fn new(key: Key, line: Vec<u8>) -> Self {
        Self(Arc::new(Parts { key, line }))
    }

    pub fn key(&self) -> &Key {
        &self.0.key
    }

    pub fn id(&self) -> &str {
        &self.0.key.id
    }

    /// With the line feed.
    pub fn line(&self) -> &[u8] {
        &self.0.line
    }

    /// Without the line feed.
    pub fn json(&self) -> &[u8] {
        self.0.line.strip_suffix(b"\n").unwrap_or(&self.0.line)
    }
}

/// Why a sink cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("sinks[{at}] ({kind}): {message}")]
pub struct OpenError {
    pub at: usize,
    pub kind: &'static str,
    pub message: String,
}

/// A sink's way of writing. Called on the sink's own thread.
trait Write: Send + 'static {
    /// Records written at once, at most.
    const BATCH: usize;

    /// All of `batch`, or an error: then the same batch comes again, and goes on where it must (a webhook's batch is one).
    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError>;
}

/// Why a batch was not written.
#[derive(Debug, PartialEq, Eq)]
enum WriteError {
    /// It may work later.
    Later(String),
    /// The receiver will never take this record.
    Refused(String),
    /// Nothing will ever work again.
    Broken(String),
}

/// All sinks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sinks {
    workers: Arc<[Worker]>,
}

impl Sinks {
    /// Opens them; an empty list is standard output. `undelivered` will be delivered again, though a sink may have them:
    /// one that can look leaves those out. `on_broken` is called when a sink can never work again.
    pub fn open(
        configs: &[SinkConfig],
        queue: usize,
        undelivered: &HashSet<Key>,
        metrics: &Metrics,
        on_broken: &(impl Fn(String) + Clone + Send + 'static),
    ) -> Result<Self, OpenError> {
        let default = [SinkConfig::Stdout(StdoutConfig {})];
        let configs = if configs.is_empty() { &default } else { configs };
        let mut workers = Vec::with_capacity(configs.len());
        for (at, config) in configs.iter().enumerate() {
            let kind = config.kind();
            let name = if configs.iter().filter(|other| other.kind() == kind).count() > 1 {
                format!("{kind}-{at}")
            } else {
                kind.to_owned()
            };
            let metrics = metrics.sink(&name);
            let settings =
                |queue, when_full, retries| Settings { name: name.clone(), queue, when_full, retries };
            let refuse = |message| OpenError { at, kind, message };
            let on_broken = on_broken.clone();
            workers.push(match config {
                SinkConfig::Stdout(_) => {
                    let stdout = stdout::Stdout::default();
                    Worker::start(settings(queue, WhenFull::Block, None), stdout, metrics, on_broken)
                }
                SinkConfig::Jsonl(config) => {
                    let jsonl = jsonl::Jsonl::open(config, undelivered)
                        .map_err(|error| refuse(format!("{}: {error}", config.path.display())))?;
                    Worker::start(settings(queue, WhenFull::Block, None), jsonl, metrics, on_broken)
                }
                SinkConfig::Webhook(config) => {
                    let settings = settings(config.queue, config.when_full, config.retries);
                    Worker::start(settings, webhook::Webhook::new(config), metrics, on_broken)
                }
            });
        }
        Ok(Self { workers: workers.into() })
    }

    /// Hands a record to every sink, waiting for room, and waits until each has it; false if one has not.
    pub async fn deliver(&self, record: &Record) -> bool {
        let mut acks = Vec::with_capacity(self.workers.len());
        for worker in &*self.workers {
            acks.push(worker.push(record.clone()).await);
        }
        let mut has_all = true;
        for ack in acks {
            has_all &= matches!(ack.await, Ok(Ack::Settled));
        }
        has_all
    }

    /// Hands a record to those sinks that have room right now, and waits for none.
    pub fn offer(&self, record: &Record) {
        for worker in &*self.workers {
            worker.offer(record.clone());
        }
    }

    /// Takes no more, and waits until `until` for what is queued; gives the number of records left behind.
    pub async fn close(&self, until: Instant) -> usize {
        for worker in &*self.workers {
            worker.close();
        }
        let mut left = 0;
        for worker in &*self.workers {
            left += worker.ended(until).await;
        }
        left
    }
}

/// A pause of at least this between attempts, and at most [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
