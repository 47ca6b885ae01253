//! What the agent has in hand, noted on disk, so that whatever ends the process cannot do so for ever.
//!
//! ```text
//! take ──> slots: a file, nothing synced ──death──> law: who is suspected ──> suspects.json ──> last, alone, or aside
//! ```
//!
//! A sample is in hand while it is read, decoded, run through models here, and encoded: where memory is taken and code
//! computes that is not ours. Not while the pool is waited for, nor while its record is committed and delivered.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millgate_shared::trouble::{self, Fault};
use millgate_shared::{bounded, files};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::journal::{Key, Mark};
pub(crate) use case::Case;
pub(crate) use law::Risk;
use law::{Item, Suspect};
pub(crate) use slots::Before;
use slots::{Slot, Slots};

mod case;
pub(crate) mod law;
mod slots;
#[cfg(test)]
mod tests;

/// The file's name in the state directory.
const FILE_NAME: &str = "suspects.json";
/// Before a suspect is tried the agent has run for so long, and twice as long for each death with it alone in hand: what
/// kills agents soon after their start is then less likely to hit it.
const CALM: Duration = Duration::from_secs(1);
const LONGEST_CALM: Duration = Duration::from_secs(60);
/// A suspect waits so often and so long for nothing else to be in hand, and then so long with all others held up.
const LOOKS: u32 = if cfg!(test) { 4 } else { 200 };
const LOOK: Duration = Duration::from_millis(25);
const HOLD_UP: Duration = Duration::from_millis(250);

/// Knows what is in hand. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hand(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    /// Held by all that is in hand; by a suspect alone.
    lock: Arc<RwLock<()>>,
    /// `None`: nothing is noted.
    slots: Option<Slots>,
    path: PathBuf,
    suspects: Mutex<Vec<Suspect>>,
}

/// Something in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    // Dropped in this order.
    _slot: Option<Slot>,
    _lock: Lock,
}

#[derive(Debug)]
enum Lock {
    /// Nothing is held, and nobody is waited for.
    None,
    Shared(#[expect(dead_code, reason = "held")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>),
}

/// Something of the state directory may be read, or is to be set aside.
#[derive(Debug)]
pub(crate) enum Gate {
    Open(Held),
    Aside { deaths: u32 },
}

impl Hand {
    /// Opens the notes of a state directory; without them, work goes on and deaths teach nothing. Blocks.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE_NAME);
        let (slots, death) = match Slots::open(dir) {
            Ok((slots, death)) => (Some(slots), death),
            Err(error) => {
                // Of another agent its journal speaks.
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(dir = %dir.display(), %error, "what is in hand cannot be noted");
                }
                (None, None)
            }
        };
        let before = read(&path);
        let this = Self(Arc::new(Parts { lock: Arc::default(), slots, path, suspects: Mutex::default() }));
        let Some(death) = death else {
            *this.suspects() = before;
            return this;
        };
        let after = law::judge(before.clone(), &death);
        for suspect in after.iter().filter(|suspect| !before.contains(suspect)) {
            let Suspect { item, deaths, .. } = suspect;
            let next = if suspect.is_aside() { "it is set aside" } else { "it comes last, and alone" };
            tracing::warn!(?item, deaths, next, "an item was in hand when the agent died");
        }
        let is_news = after != before;
        *this.suspects() = after;
        if is_news {
            this.keep();
        }
        this
    }

    /// How the run before has ended.
    pub(crate) fn before(&self) -> Before {
        self.0.slots.as_ref().map_or(Before::Unknown, Slots::before)
    }

    fn suspects(&self) -> MutexGuard<'_, Vec<Suspect>> {
        self.0.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples of a source that were in hand at a death, and their faces.
    pub(crate) fn risks(&self, of: &str) -> HashMap<Key, (Mark, Risk)> {
        let mut risks = HashMap::new();
        for suspect in self.suspects().iter() {
            if let Item::Sample { source, key, face } = &suspect.item
                && source == of
            {
                let risk = match suspect.is_aside() {
                    true => Risk::Aside { deaths: suspect.deaths },
                    false => Risk::Alone { points: suspect.points },
                };
                risks.insert(key.clone(), (face.clone(), risk));
            }
        }
        risks
    }

    /// A sample of a source, and what is to be done with it if it was in hand at a death.
    pub(crate) fn case(&self, item: Item, risk: Option<Risk>) -> Case {
        Case { hand: self.clone(), item, risk }
    }

    /// How long the agent is to run before a suspect is tried.
    pub(crate) fn calm(&self) -> Duration {
        let most =
            self.suspects().iter().filter(|suspect| !suspect.is_aside()).map(|suspect| suspect.points).max();
        CALM.saturating_mul(1 << most.unwrap_or(0).min(6)).min(LONGEST_CALM)
    }

    /// Takes an item in hand, beside others. Waits while a suspect is.
    pub(crate) async fn take(&self, item: &Item) -> Held {
        let lock = Lock::Shared(Arc::clone(&self.0.lock).read_owned().await);
        Held { _slot: self.note(item), _lock: lock }
    }

    /// Takes a suspect in hand, and nothing else; `None` if there is always something else. Holds up others for a moment at
    /// most, since one of them may never end.
    pub(crate) async fn take_alone(&self, item: &Item) -> Option<Held> {
        let held = |lock| Held { _slot: self.note(item), _lock: Lock::Alone(lock) };
        for _ in 0..LOOKS {
            if let Ok(lock) = Arc::clone(&self.0.lock).try_write_owned() {
                return Some(held(lock));
            }
            tokio::time::sleep(LOOK).await;
        }
        let lock = Arc::clone(&self.0.lock).write_owned();
        tokio::time::timeout(HOLD_UP, lock).await.ok().map(held)
    }

    /// Something that a start reads, when nothing else is at work.
    pub(crate) fn part(&self, name: &str) -> Gate {
        self.gate(Item::Part { name: name.to_owned() })
    }

    /// An entry of the spool, while it is read or amended: beside all others, for a moment.
    pub(crate) fn entry(&self, id: &str) -> Gate {
        self.gate(Item::Entry { id: id.to_owned() })
    }

    fn gate(&self, item: Item) -> Gate {
        let aside =
            self.suspects().iter().find(|suspect| suspect.item == item && suspect.is_aside()).cloned();
        match aside {
            Some(Suspect { deaths, .. }) => Gate::Aside { deaths },
            None => Gate::Open(Held { _slot: self.note(&item), _lock: Lock::None }),
        }
    }

    /// Everything that a start reads has been read: none of it is to blame. What is set aside stays so. Blocks.
    pub(crate) fn has_started(&self) {
        let is_cleared = |suspect: &Suspect| matches!(suspect.item, Item::Part { .. }) && !suspect.is_aside();
        let cleared: Vec<Item> = self
            .suspects()
            .iter()
            .filter(|suspect| is_cleared(suspect))
            .map(|suspect| suspect.item.clone())
            .collect();
        cleared.iter().for_each(|item| self.acquit(item));
    }

    fn note(&self, item: &Item) -> Option<Slot> {
        self.0.slots.as_ref().and_then(|slots| slots.take(item))
    }

    /// A suspect has been lived through, or was set aside: it is none any more. Blocks.
    pub(crate) fn acquit(&self, item: &Item) {
        let mut suspects = self.suspects();
        let before = suspects.len();
        suspects.retain(|suspect| suspect.item != *item);
        let is_news = suspects.len() < before;
        drop(suspects);
        if is_news {
            self.keep();
        }
    }

    /// The agent ends by itself: what it leaves in hand is not to blame. Blocks.
    pub(crate) fn end(&self) {
        if let Some(slots) = &self.0.slots
            && let Err(error) = slots.end()
        {
            tracing::debug!(%error, "a note that the agent has ended by itself cannot be written");
        }
    }

    fn keep(&self) {
        let suspects = self.suspects().clone();
        let text = serde_json::to_vec_pretty(&suspects).unwrap_or_default();
        if let Err(error) = files::replace(&self.0.path, &text, files::PRIVATE) {
            tracing::warn!(path = %self.0.path.display(), %error, "the list of suspects cannot be written");
        }
    }
}

/// Nobody, where the file is absent; nor where it is no good, which is then set aside.
fn read(path: &Path) -> Vec<Suspect> {
    let _of_another_user = files::narrow(path).is_err();
    let text = match bounded::read(path, bounded::TEXT) {
        Ok(text) => text,
        Err(error) if trouble::judge(&error) == Fault::Absent => return Vec::new(),
        Err(error) => {
            if trouble::judge(&error) == Fault::Itself {
                set_aside(path, &error.to_string());
            } else {
                tracing::error!(path = %path.display(), %error, "the list of suspects cannot be read");
            }
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        set_aside(path, &error.to_string());
        Vec::new()
    })
}

fn set_aside(path: &Path, why: &str) {
    let aside = files::set_aside(path);
    tracing::error!(
        path = %path.display(), why, ?aside,
        "the list of suspects is damaged; it is set aside, and what was on it is tried again like anything else"
    );
}
