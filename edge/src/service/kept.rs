//! What earlier runs have left in the state directory.

use std::collections::HashMap;
use std::path::PathBuf;

use millgate_shared::files;

use super::{StartError, has_spool};
use crate::config::EdgeConfig;
use crate::crash::law::Item;
use crate::crash::{Before, Gate, Hand};
use crate::journal::{self, Begun, Journal, JournalError, Known, Post};
use crate::sink::{Depth, Told};

/// The journal, and what stands in it.
pub(super) struct Kept {
    /// `None`: nothing has to survive a restart.
    pub(super) journal: Option<Journal>,
    /// What each source has had decided.
    pub(super) known: Vec<Vec<Known>>,
    /// Whether each decision id that the spool may hold is closed.
    pub(super) spooled: HashMap<String, bool>,
    pub(super) undelivered: Vec<(u64, Post)>,
    /// What was delivered by the sinks' own files, where the journal may not know all of it.
    pub(super) told: Told,
}

impl Kept {
    /// Where nothing has to survive a restart.
    fn nothing(undelivered: Vec<(u64, Post)>) -> Self {
        let (known, spooled, told) = (Vec::new(), HashMap::new(), Told::default());
        Self { journal: None, known, spooled, undelivered, told }
    }

    pub(super) async fn open(
        config: &EdgeConfig,
        hand: &Hand,
        counts: &journal::Counts,
    ) -> Result<Self, JournalError> {
        let is_needed = !config.sources.is_empty() || has_spool(config);
        let _in_hand = match hand.part(journal::FILE_NAME) {
            Gate::Open(held) => Some(held),
            Gate::Aside { deaths } => {
                let why = format!("the agent died {deaths} times that it read it");
                if let Err(error) = Journal::set_aside(&config.state_dir, &why, counts) {
                    tracing::error!(%error, why, "the journal cannot be set aside");
                }
                // The one that is made in its place is another.
                let item = Item::Part { name: journal::FILE_NAME.to_owned() };
                let acquitting = hand.clone();
                let _as_before = tokio::task::spawn_blocking(move || acquitting.acquit(&item)).await.is_err();
                None
            }
        };
        // What an earlier configuration has promised goes out under this one too.
        let journal = match is_needed || Journal::is_in(&config.state_dir) {
            true => Some(Journal::open_soon(&config.state_dir, counts).await?),
            false => None,
        };
        let Some(mut journal) = journal else { return Ok(Self::nothing(Vec::new())) };
        let read = |journal: &Journal| {
            let sources = config.sources.iter();
            let known = sources.map(|source| journal.known(source.settings().name()));
            Ok((journal.outbox()?, known.collect::<Result<Vec<_>, _>>()?, journal.spooled()?))
        };
        let (undelivered, known, spooled) = match read(&journal) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the journal cannot be read; its log is gone on with");
                journal.distrust(&error);
                read(&journal)?
            }
        };
        if !is_needed && undelivered.is_empty() {
            return Ok(Self::nothing(undelivered));
        }
        let told = ask_sinks(config, journal.begun(), hand.before()).await;
        Ok(Self { known, spooled, undelivered, told, journal: Some(journal) })
    }
}

/// What the sinks' own files say, where the journal may not know all that was delivered.
async fn ask_sinks(config: &EdgeConfig, begun: Begun, before: Before) -> Told {
    let (depth, lost) = match begun {
        // An end by itself, too, may have lost what no disk took.
        Begun::On | Begun::Mended { lost: 0 } => (Depth::Tail, 0),
        Begun::Mended { lost } => (Depth::All, lost),
        Begun::Anew | Begun::Blind => (Depth::All, 0),
    };
    let sinks = config.sinks.clone();
    // Some 100 MB may be read.
    let reading = tokio::task::spawn_blocking(move || Told::read(&sinks, depth)).await;
    let Ok(told) = reading else {
        tracing::error!("reading what was delivered earlier has panicked");
        return Told::default();
    };
    let was_there = before != Before::Unknown || told.len() > 0;
    if depth == Depth::All && was_there {
        tracing::error!(
            records = told.len(),
            is_partial = told.is_partial(),
            commits_lost = lost,
            "the journal does not know all that was decided: a sample whose record is in a file of a sink is not decided \
             again; any other that is still there is, under the same id; whether a sink without a file (webhook, stdout) has \
             the last records cannot be known, and those of samples that come again are delivered to it again"
        );
    }
    told
}

/// Makes the state directory, which nobody else may enter, before any room makes it by itself. One that cannot be made is said by
/// each store that lacks it.
pub(super) async fn make_state_dir(path: PathBuf) -> Result<(), StartError> {
    let make = move || {
        if let Err(error) = files::make_private_folder(&path) {
            tracing::error!(
                path = %path.display(), %error,
                "the state directory cannot be made; the agent decides, and cannot remember"
            );
        }
    };
    tokio::task::spawn_blocking(make).await.map_err(|_| StartError::Panicked)
}
