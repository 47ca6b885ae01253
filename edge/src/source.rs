//! Where samples come from.
//!
//! A source hands each sample over once, as a `Taken`, when there is room for it. What it keeps of it until then stays
//! where nothing can lose it: a file in its folder, a message unacknowledged at its broker. It learns by the `Receipt`
//! when the outbox holds the decision, and what became of the sample. What was decided is remembered by key and mark in
//! the `journal`, which a source is given at its start.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use millgate_shared::image::BitDepth;
use millgate_shared::shutdown::Tasks;
use millgate_shared::trouble::Trouble;
use tokio::sync::mpsc;

use crate::crash::Risk;
use crate::finding::Item;
use crate::input::{Input, Naming};
use crate::journal::{JournalHandle, Key, Known, Mark, Remembered};
use crate::record::Undecided;
use crate::settings::{self, Refused, refuse};
use crate::wishes::SourceWish;
use calm::Turn;

pub mod calm;
mod counts;
pub(crate) mod decision_id;
pub mod folder;
pub mod joined;
#[cfg(test)]
pub mod memory;
mod tidying;

pub use counts::{Counts, SourceMetrics};
pub use folder::FolderConfig;
pub use joined::JoinConfig;
pub(crate) use tidying::Tidy;

settings::kinds! {
    /// One table of `[[sources]]`: where samples come from. A new kind is its folder, its `mod` above, and its line here.
    SourceConfig, SourceSettings:
    Folder(FolderConfig),
    #[cfg(test)]
    Memory(memory::MemoryConfig),
}

/// The settings of one source, and all that is done with them. Keys in what these functions say are the source's own,
/// without `sources[0]`.
pub(crate) trait SourceSettings: fmt::Debug + Send + Sync {
    /// Tells it from all others; `sample.source` of its decisions.
    fn name(&self) -> &str;

    /// Gives the first key that is wrong, beyond its type.
    fn check(&self) -> Result<(), Refused> {
        Ok(())
    }

    /// How many bits of its 16-bit samples count, if the operator says so.
    fn bit_depth(&self) -> Option<BitDepth> {
        None
    }

    /// What it says of its samples, where that differs from what holds for all.
    fn wish(&self) -> SourceWish {
        SourceWish::default()
    }

    /// How the parts that it hands over one by one are joined into samples. `None`: what it hands over is whole.
    fn join(&self) -> Option<&JoinConfig> {
        None
    }

    /// Looks at where its samples come from, for `millgate-edge check`; that may come later than the agent. Blocks, for some
    /// seconds at most.
    fn look_there(&self) -> Vec<Item> {
        Vec::new()
    }

    /// What it does with a sample once every sink has the decision. `None`: nothing.
    fn tidies(&self, naming: &Naming) -> Option<Box<dyn Tidies>> {
        let _ = naming;
        None
    }

    /// Starts its tasks; what is ready goes to [`Starting::out`].
    fn start(&self, starting: Starting);
}

/// What a source is started with.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) left: Left,
    /// When it may hand out what may end the agent. [`Turn::listed`] must be called once all that was there at the start is
    /// known, or no source ever takes that risk.
    pub(crate) turn: Turn,
    pub(crate) out: mpsc::Sender<Taken>,
    pub(crate) journal: JournalHandle,
    pub(crate) metrics: SourceMetrics,
    /// How the files of one sample are named.
    pub(crate) naming: Naming,
    /// End when no more samples are taken.
    pub(crate) tasks: Tasks,
}

/// What an earlier run has left of a source.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Decided.
    pub(crate) known: Vec<Known>,
    /// Samples that were in hand when it ended, with their faces.
    pub(crate) risks: HashMap<Key, (Mark, Risk)>,
}

/// A source's own way with a sample that every sink has the decision of, however many starts later that is.
pub(crate) trait Tidies: fmt::Debug + Send + Sync {
    /// Tidies what was decided under the id. Blocks.
    fn tidy(&self, key: &Key, mark: &Mark, id: &str) -> Tidied;
}

/// What became of a sample that every sink has the decision of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tidied {
    /// The sample stays, and is remembered.
    Kept,
    /// The sample is gone, and need not be remembered.
    Removed,
    /// What is there is not what was decided any more.
    Changed,
    /// The machine does not let it be tidied now.
    Later(Trouble),
}

impl Tidied {
    /// What became of a sample of several parts: it has changed if one has, and is gone if all are.
    pub(crate) fn all(parts: &[Self]) -> Self {
        match () {
            () if parts.contains(&Self::Changed) => Self::Changed,
            () if !parts.is_empty() && parts.iter().all(|part| *part == Self::Removed) => Self::Removed,
            () => Self::Kept,
        }
    }
}

/// Gives the first thing that is wrong with `[[sources]]`.
pub(crate) fn check(configs: &[SourceConfig]) -> Result<(), Refused> {
    let mut names = BTreeSet::new();
    for (at, config) in configs.iter().enumerate() {
        let (table, settings) = (format!("sources[{at}]"), config.settings());
        let name = settings.name();
        if name.is_empty() {
            return refuse(format!("{table}.name"), "is empty");
        }
        if !names.insert(name) {
            return refuse(format!("{table}.name"), format!("`{name}` stands twice"));
        }
        let checked = settings.check().and_then(|()| settings.join().map_or(Ok(()), JoinConfig::check));
        checked.map_err(|refused| refused.below(&table))?;
    }
    Ok(())
}

/// A sample that is ready to be decided.
pub(crate) struct Taken {
    /// The source's name.
    pub(crate) source: Arc<str>,
    /// How it is known, over restarts too.
    pub(crate) key: Key,
    /// Tells it from another of the same key without reading it; empty where nothing does.
    pub(crate) face: Mark,
    /// The sample's own time, in milliseconds since 1970, which is the same when it comes again.
    pub(crate) born: u64,
    /// Where people find it: `sample.path` of its record.
    pub(crate) path: String,
    /// What to do about its having been in hand when the agent died; `None`: it was not.
    pub(crate) risk: Option<Risk>,
    pub(crate) body: Body,
    /// Other samples of the source that were joined to this one: remembered with it.
    pub(crate) others: Vec<Remembered>,
    /// Where the source learns what became of it.
    pub(crate) receipt: Box<dyn Receipt>,
}

/// What a sample consists of.
pub(crate) enum Body {
    /// The sample's parts, by their modalities, and what is known of the part that they show. Id, path and source are filled
    /// in from what stands beside it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for sources without files: folders read theirs"))]
    Here(Input),
    /// Something that is to be read, once there is room for it.
    Unread(Box<dyn Reads>),
    /// Nothing of it can be decided.
    Never {
        /// A name for programs.
        code: &'static str,
        /// What is wrong, for people; does not repeat the path.
        message: String,
    },
}

/// Reads a sample.
pub(crate) trait Reads: Send + 'static {
    /// Reads it. Blocks; called once.
    fn read(&mut self) -> Result<Read, Unread>;

    /// Whether a sample that was read and cannot be decided, for a reason by this code, may yet become one that can: its
    /// source then keeps it and hands it over again.
    fn may_heal(&self, _code: &str) -> bool {
        false
    }
}

/// A sample, read.
pub(crate) struct Read {
    /// The sample, with its id.
    pub(crate) input: Input,
    /// What is to be remembered of it.
    pub(crate) mark: Mark,
}

/// Why a sample that was handed over is not decided.
pub(crate) enum Unread {
    /// [`Outcome::Same`], [`Outcome::Incomplete`], [`Outcome::Changed`] or [`Outcome::Delayed`].
    Not(Outcome),
    /// The sample can never be decided: this is its record.
    Never { id: String, mark: Mark, why: Undecided },
}

/// A source's hold on a sample that it has handed over. Receipts of one source are settled in any order; one that is dropped
/// unsettled is of a sample that comes again, at the latest after a restart.
pub(crate) trait Receipt: Send + 'static {
    /// The outbox holds the decision, which will be delivered whatever happens: a queue acknowledges now, a log moves its
    /// offset. Called once at most, and before [`Receipt::end`].
    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What became of the sample at last.
    fn end(self: Box<Self>, _outcome: Outcome) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What became of a [`Taken`]. One that is [`Outcome::Incomplete`], [`Outcome::Changed`] or [`Outcome::Delayed`] its source
/// hands over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Decided, or found undecidable, and acknowledged by every sink; it stays where it is.
    Done,
    /// Decided and acknowledged likewise, and it was deleted or moved away.
    Removed,
    /// What was decided before is there again.
    Same,
    /// Something of it is still to come: look again when it has changed, or once more when its time is up.
    Incomplete,
    /// The sample changed while it was read, or is gone.
    Changed,
    /// The machine did not let it be read, which says nothing of the sample: it is tried again, later each time.
    Delayed(Trouble),
    /// Nothing was decided, or not every sink has its record: after a restart it is decided, or the record delivered again.
    Unacknowledged,
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, key, path) = (&self.source, &self.key, &self.path);
        f.debug_struct("Taken")
            .field("source", source)
            .field("key", key)
            .field("path", path)
            .finish_non_exhaustive()
    }
}
