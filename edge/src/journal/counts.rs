//! What the journal says of itself: on `/metrics`, and to whoever asks whether the agent can remember.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How what is decided is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Both copies take it.
    #[default]
    Whole,
    /// One of the two copies takes it: a restart finds it.
    Half,
    /// No copy takes it: what is decided is held in memory, and a restart does not find it.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Store {
    store: String,
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// `journal_remembers`: 1 while what is decided is found again by a restart, 0 while it is not.
    remembers: Gauge,
    /// `journal_copies`: how many of the journal's two copies take what is decided.
    copies: Gauge,
    /// `journal_held`: changes in memory that no disk has taken yet.
    pub(super) held: Gauge,
    /// `journal_forgotten_total`: changes that nobody will know of after a restart, because there was no room to hold them.
    pub(super) forgotten: Counter,
    /// `stores_set_aside_total{store}`: stores that could not be used and were kept under another name.
    aside: Family<Store, Counter>,
    /// `stores_made_anew_total{store}`: stores that were lost or damaged, and were written anew from others.
    anew: Family<Store, Counter>,
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    memory: Memory,
    why: String,
    since: Option<Instant>,
}

impl Counts {
    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        // An agent that has nothing to remember lacks nothing.
        self.remembers(Memory::Whole, "");
        let journal = registry.sub_registry_with_prefix("journal");
        let text = "1 while what is decided is found again by a restart, 0 while it is not";
        journal.register("remembers", text, self.remembers.clone());
        let text = "How many of the journal's two copies take what is decided";
        journal.register("copies", text, self.copies.clone());
        journal.register("held", "Changes in memory that no disk has taken yet", self.held.clone());
        let text = "Changes that no restart will know of: no room to hold them";
        journal.register("forgotten", text, self.forgotten.clone());
        let stores = registry.sub_registry_with_prefix("stores");
        let text = "Stores that could not be used and were kept under another name";
        stores.register("set_aside", text, self.aside.clone());
        let text = "Stores that were lost or damaged and were written anew from others";
        stores.register("made_anew", text, self.anew.clone());
    }

    /// A store could not be used, and was kept under another name.
    pub(crate) fn set_aside(&self, store: &str) {
        self.aside.get_or_create(&Store { store: store.to_owned() }).inc();
    }

    /// A store was written anew.
    pub(crate) fn made_anew(&self, store: &str) {
        self.anew.get_or_create(&Store { store: store.to_owned() }).inc();
    }

    /// Says how what is decided is remembered from now on; true if that is news.
    pub(super) fn remembers(&self, memory: Memory, why: &str) -> bool {
        self.remembers.set((memory != Memory::Lost).into());
        self.copies.set(match memory {
            Memory::Whole => 2,
            Memory::Half => 1,
            Memory::Lost => 0,
        });
        let mut said = self.said();
        let is_news = said.memory != memory;
        if is_news {
            *said = Said { memory, why: why.to_owned(), since: Some(Instant::now()) };
        }
        is_news
    }

    /// What is wrong, for people; `None`: nothing is.
    pub(crate) fn trouble(&self) -> Option<String> {
        let said = self.said();
        let since = said.since.map_or(0, |since| since.elapsed().as_secs());
        match said.memory {
            Memory::Whole => None,
            Memory::Half => Some(format!("remembers in one of two copies, for {since} s: {}", said.why)),
            Memory::Lost => Some(format!(
                "decides, cannot remember, for {since} s, {} changes held in memory: {}",
                self.held.get(),
                said.why
            )),
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
