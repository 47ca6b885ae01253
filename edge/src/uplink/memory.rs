//! Remembers over restarts which transport worked last for each pool: a site that blocks UDP is not asked again at every
//! start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use millgate_shared::{bounded, files};

use super::pools::Transport;

/// Name of the file in the state directory.
const FILE: &str = "uplink.json";

/// A handle to what is remembered. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    path: Option<PathBuf>,
    winners: Arc<Mutex<BTreeMap<String, Transport>>>,
}

impl Memory {
    /// What cannot be read is as good as never written: it is a hint.
    pub(super) fn open(dir: Option<&Path>) -> Self {
        let path = dir.map(|dir| dir.join(FILE));
        let text = path.as_ref().and_then(|path| bounded::read_to_string(path, bounded::RECORD).ok());
        let winners = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Self { path, winners: Arc::new(Mutex::new(winners)) }
    }

    pub(super) fn winner(&self, pool: &str) -> Option<Transport> {
        self.winners.lock().unwrap_or_else(PoisonError::into_inner).get(pool).copied()
    }

    /// Writes the file if this is news; blocks for that.
    pub(super) fn won(&self, pool: &str, transport: Transport) {
        let text = {
            let mut winners = self.winners.lock().unwrap_or_else(PoisonError::into_inner);
            if winners.insert(pool.to_owned(), transport) == Some(transport) {
                return;
            }
            serde_json::to_vec(&*winners).unwrap_or_default()
        };
        let Some(path) = &self.path else { return };
        if let Err(error) = files::replace(path, &text, files::PRIVATE) {
            tracing::debug!(path = %path.display(), %error, "which transport worked is not remembered");
        }
    }

    pub(super) fn is_news(&self, pool: &str, transport: Transport) -> bool {
        self.winner(pool) != Some(transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_worked_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(Some(dir.path()));
        assert_eq!(memory.winner("https://a:1"), None);
        memory.won("https://a:1", Transport::Tcp);
        assert_eq!(Memory::open(Some(dir.path())).winner("https://a:1"), Some(Transport::Tcp));
        std::fs::write(dir.path().join(FILE), "{\"https://a:1\":\"pigeon\"}").unwrap();
        assert_eq!(Memory::open(Some(dir.path())).winner("https://a:1"), None);
        Memory::open(None).won("https://a:1", Transport::Tcp);
    }
}
