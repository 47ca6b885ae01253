//! What earlier runs have left in the state directory.

use std::collections::HashMap;

use super::has_spool;
use crate::config::EdgeConfig;
use crate::crash::{Gate, Hand};
use crate::journal::{self, Journal, JournalError, Known, Post};

/// The journal, and what stands in it.
pub(super) struct Kept {
    /// `None`: nothing has to survive a restart.
    pub(super) journal: Option<Journal>,
    /// What each source has had decided.
    pub(super) known: Vec<Vec<Known>>,
    /// Whether each decision id that the spool may hold is closed.
    pub(super) spooled: HashMap<String, bool>,
    pub(super) undelivered: Vec<(u64, Post)>,
}

impl Kept {
    pub(super) async fn open(config: &EdgeConfig, hand: &Hand) -> Result<Self, JournalError> {
        let is_needed = !config.sources.is_empty() || has_spool(config);
        let _in_hand = match hand.part(journal::FILE_NAME) {
            Gate::Open(held) => Some(held),
            Gate::Aside { deaths } => {
                let why = format!("the agent died {deaths} times that it read it");
                Journal::set_aside(&config.state_dir, &why)?;
                None
            }
        };
        // What an earlier configuration has promised goes out under this one too.
        let journal = match is_needed || Journal::is_in(&config.state_dir) {
            true => Some(Journal::open_soon(&config.state_dir).await?),
            false => None,
        };
        let undelivered = journal.as_ref().map(Journal::outbox).transpose()?.unwrap_or_default();
        let Some(journal) = journal.filter(|_| is_needed || !undelivered.is_empty()) else {
            return Ok(Self { journal: None, known: vec![], spooled: HashMap::new(), undelivered });
        };
        let known: Result<_, _> =
            config.sources.iter().map(|source| journal.known(source.settings().name())).collect();
        let spooled = journal.spooled()?;
        Ok(Self { known: known?, spooled, undelivered, journal: Some(journal) })
    }
}
