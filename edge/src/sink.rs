//! Where decisions go. Every sink has a thread and a bounded queue of its own (`sink::worker`); what it is told to keep it
//! tries to deliver until it has, and only then is the decision acknowledged.
//!
//! A decision counts as acknowledged when every sink has it, or has left it out by a policy that was configured and
//! counted. What a file's decision is worth remembering follows from that alone.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::decision::Decision;
use serde::Deserialize;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::finding::Item;
use crate::record::{Undecided, write_decision, write_error};
use crate::settings::{self, Refused, refuse};
use told::Collecting;
use worker::{Ack, Settings, Worker};

mod counts;
mod jsonl;
#[cfg(test)]
pub mod memory;
mod stdout;
mod told;
mod webhook;
mod worker;

pub use counts::{Counts, SinkMetrics};
pub use jsonl::JsonlConfig;
pub use stdout::StdoutConfig;
pub(crate) use told::{Delivered, Depth, Told};
pub use webhook::WebhookConfig;

settings::kinds! {
    /// One table of `[[sinks]]`: where decisions go. A new kind is its folder, its `mod` above, and its line here.
    SinkConfig, SinkSettings:
    Stdout(StdoutConfig),
    Jsonl(JsonlConfig),
    Webhook(WebhookConfig),
    #[cfg(test)]
    Memory(memory::MemoryConfig),
}

/// What a full queue of a sink does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Folders wait, their files stay on disk: nothing is lost, but a receiver that is down stops them.
    Block,
    /// The oldest decision in the queue is not delivered to this sink: counted in
    /// `millgate_sink_records_total{outcome="dropped"}`.
    DropOldest,
}

/// The settings of one sink, and all that is done with them. Keys in what these functions say are the sink's own, without
/// `sinks[0]`, unless they are given that as `at`.
pub(crate) trait SinkSettings: fmt::Debug + Send + Sync {
    /// The sink's `type` in edge.toml, which is its name in logs and metrics too.
    fn kind(&self) -> &'static str;

    /// Gives the first key that is wrong, beyond its type.
    fn check(&self) -> Result<(), Refused> {
        Ok(())
    }

    /// What no two sinks of this kind may have, and its key.
    fn only_one(&self) -> Option<(&'static str, String)> {
        None
    }

    /// Looks at what it needs on this device, for `millgate-edge check`. Blocks.
    fn look_here(&self, _at: &str) -> Vec<Item> {
        Vec::new()
    }

    /// Looks at what it needs elsewhere, which may come later than the agent. Blocks, for some seconds at most.
    fn look_there(&self, _at: &str) -> Vec<Item> {
        Vec::new()
    }

    /// Hands over the records that lie where it has delivered them, if it can look there, from the youngest on. Blocks.
    fn told(&self, _depth: Depth, _to: &mut Collecting<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Opens it and starts its thread; an error is for people, and names neither sink nor key.
    fn open(&self, opening: Opening<'_>) -> Result<Worker, String>;
}

/// Gives the first thing that is wrong with `[[sinks]]`.
pub(crate) fn check(configs: &[SinkConfig]) -> Result<(), Refused> {
    let mut seen = HashSet::new();
    for (at, config) in configs.iter().enumerate() {
        let (table, settings) = (format!("sinks[{at}]"), config.settings());
        settings.check().map_err(|refused| refused.below(&table))?;
        if let Some((key, what)) = settings.only_one()
            && !seen.insert((settings.kind(), what.clone()))
        {
            return refuse(format!("{table}.{key}"), format!("{what} stands twice"));
        }
    }
    Ok(())
}

/// What a sink is opened with.
pub(crate) struct Opening<'a> {
    /// Records that may wait for it, unless its settings say otherwise.
    pub(crate) queue: usize,
    /// Will be delivered again, though a sink may have them: one that can look leaves those out.
    pub(crate) undelivered: &'a HashSet<Key>,
    /// What was found to have been delivered where the journal does not know, by this sink's number.
    pub(crate) told: (Told, usize),
    name: String,
    metrics: SinkMetrics,
    on_broken: OnBroken,
}

/// Called when a sink can never work again.
type OnBroken = Arc<dyn Fn(String) + Send + Sync>;

impl Opening<'_> {
    fn start<W: Write>(self, settings: Settings, writer: W) -> Worker {
        let on_broken = self.on_broken;
        Worker::start(self.name, settings, writer, self.metrics, move |message| on_broken(message))
    }
}

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
    /// The decision's id.
    pub id: String,
    /// The decision's version; 0 where there is none.
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

    /// The line, with its line feed.
    pub fn line(&self) -> &[u8] {
        &self.0.line
    }

    /// The line, without its line feed.
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
    /// Another attempt may work; says why this one did not.
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
    /// Opens them; an empty list is standard output. `undelivered` will be delivered again; so may be what is `told` of, and
    /// a sink that has it leaves it out. `on_broken` is called when a sink
    /// can never work again.
    pub(crate) fn open(
        configs: &[SinkConfig],
        queue: usize,
        undelivered: &HashSet<Key>,
        told: &Told,
        counts: &Counts,
        on_broken: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let default = [SinkConfig::Stdout(StdoutConfig {})];
        let configs = if configs.is_empty() { &default } else { configs };
        let on_broken: OnBroken = Arc::new(on_broken);
        let kinds: Vec<&'static str> = configs.iter().map(|config| config.settings().kind()).collect();
        let open = |(at, config): (usize, &SinkConfig)| {
            let kind = kinds[at];
            let is_alone = kinds.iter().filter(|other| **other == kind).count() == 1;
            let name = if is_alone { kind.to_owned() } else { format!("{kind}-{at}") };
            let (metrics, on_broken) = (counts.of(&name), Arc::clone(&on_broken));
            let opening = Opening { queue, undelivered, told: (told.clone(), at), name, metrics, on_broken };
            config.settings().open(opening).map_err(|message| OpenError { at, kind, message })
        };
        let workers: Result<Vec<Worker>, OpenError> = configs.iter().enumerate().map(open).collect();
        Ok(Self { workers: workers?.into() })
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

/// Pauses between attempts; jitter shortens each to one half at most.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(15));
