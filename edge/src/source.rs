//! Where samples come from, and what is remembered of them.
//!
//! A source emits each version of a file once: it hands out a [`Taken`] when there is room for it, and hears by an
//! [`Outcome`] what became of it. Until then the file stays where it is, so that nothing is held in memory that a crash
//! could lose. What was decided is kept in the `journal`, which a restart reads.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use millgate_shared::image::BitDepth;
use millgate_shared::shutdown::Tasks;
use tokio::sync::mpsc;

use crate::crash::Risk;
use crate::finding::Item;
use crate::journal::{Content, FileVersion, JournalHandle, Known, Reading, Version};
use crate::settings::{self, Refused, refuse};
use calm::Turn;

pub mod calm;
mod counts;
pub mod decision_id;
pub mod folder;

pub use counts::{Counts, SourceMetrics};
pub use folder::FolderConfig;

settings::kinds! {
    /// One table of `[[sources]]`: where samples come from. A new kind is its folder, its `mod` above, and its line here.
    SourceConfig, SourceSettings:
    Folder(FolderConfig),
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

    /// Looks at where its samples come from, for `millgate-edge check`; that may come later than the agent. Blocks, for some
    /// seconds at most.
    fn look_there(&self) -> Vec<Item> {
        Vec::new()
    }

    /// What it does with a sample once every sink has the decision. `None`: nothing.
    fn tidies(&self) -> Option<Box<dyn Tidies>> {
        None
    }

    /// Starts its tasks; what is ready goes to [`Starting::out`].
    fn start(&self, starting: Starting);
}

/// What a source is started with.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) left: Left,
    /// When it may hand out what may end the agent.
    pub(crate) turn: Turn,
    pub(crate) out: mpsc::Sender<Taken>,
    pub(crate) journal: JournalHandle,
    pub(crate) metrics: SourceMetrics,
    /// End when no more samples are taken.
    pub(crate) tasks: Tasks,
}

/// What an earlier run has left of a source.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Decided.
    pub(crate) known: Vec<Known>,
    /// In hand when it ended.
    pub(crate) risks: HashMap<PathBuf, (Version, Risk)>,
}

/// A source's own way with a sample that every sink has the decision of.
pub(crate) trait Tidies: fmt::Debug + Send + Sync {
    /// Tidies what was decided under the id. Blocks.
    fn tidy(&self, file: &FileVersion, id: &str) -> Tidied;
}

/// What became of a sample that every sink has the decision of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tidied {
    /// It stays, and is remembered.
    Kept,
    Removed,
    /// It is not the version that was decided any more.
    Changed,
}

/// By source, its way with samples that every sink has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tidy(Arc<HashMap<String, Arc<dyn Tidies>>>);

impl Tidy {
    pub(crate) fn new(sources: &[SourceConfig]) -> Self {
        let tidies = |source: &SourceConfig| {
            let settings = source.settings();
            Some((settings.name().to_owned(), Arc::from(settings.tidies()?)))
        };
        Self(Arc::new(sources.iter().filter_map(tidies).collect()))
    }

    /// Tidies on a thread that may block; `id` is the decision's.
    pub(crate) async fn tidy(&self, file: &FileVersion, id: &str) -> Tidied {
        let Some(tidies) = self.0.get(&*file.source).cloned() else { return Tidied::Kept };
        let (file, id) = (file.clone(), id.to_owned());
        let work = tokio::task::spawn_blocking(move || tidies.tidy(&file, &id));
        // One that panicked may have left it.
        work.await.unwrap_or(Tidied::Kept)
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
        settings.check().map_err(|refused| refused.below(&table))?;
    }
    Ok(())
}

/// A file that is ready to be decided.
#[derive(Debug)]
pub struct Taken {
    /// Of the source.
    pub source: Arc<str>,
    /// As it can be opened.
    pub path: PathBuf,
    /// Below the source's folder: how it is remembered.
    pub relative: PathBuf,
    pub version: Version,
    /// Its writer was seen closing it, or it was moved here whole.
    pub is_closed: bool,
    /// It has not changed for so long that a picture that ends too early will not be completed any more.
    pub is_last_chance: bool,
    /// The content at the last reading, which found it unfinished.
    pub unfinished: Option<Content>,
    /// What was decided, where the file looks as if it might hold something else by now.
    pub decided: Option<Again>,
    /// The file was in hand when the agent died.
    pub risk: Option<Risk>,
    /// Where to say what became of it.
    pub reply: mpsc::Sender<Reply>,
}

/// A decided file that is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// What it held when it was decided.
    pub content: Content,
    /// What it looks like now is worth keeping: it is not made up anew at each look.
    pub is_kept: bool,
}

/// What became of a [`Taken`].
#[derive(Debug)]
pub struct Reply {
    pub relative: PathBuf,
    pub outcome: Outcome,
    /// As it was read; `None` if it was not.
    pub reading: Option<Reading>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Decided, or found undecidable, and acknowledged by every sink; it stays where it is.
    Done,
    /// The same, and it was deleted or moved away.
    Removed,
    /// The file is what was decided before.
    Same,
    /// It is not whole: look again when it has changed, or once more when its time is up.
    Incomplete,
    /// It changed while it was read, or it is gone.
    Changed,
    /// It was not decided, or not every sink has its record: after a restart it is decided, or the record delivered again.
    Unacknowledged,
}
