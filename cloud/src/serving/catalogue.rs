//! The models by name: which versions there are, which of them answer, and why the others do not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::served::Served;
use crate::failure::Failure;

/// By version.
pub(crate) type Versions = BTreeMap<u64, Slot>;

#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Ready(Arc<Served>),
    /// Why it cannot be asked.
    Unavailable(String),
}

impl Slot {
    fn ready(&self) -> Option<&Arc<Served>> {
        match self {
            Self::Ready(served) => Some(served),
            Self::Unavailable(_) => None,
        }
    }
}

/// A version of a model in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Empty where not one is known.
    pub(crate) version: String,
    /// Why it cannot be asked, if it cannot.
    pub(crate) reason: Option<String>,
    /// What is to be known of one that can.
    pub(crate) note: Option<String>,
}

#[derive(Debug, Default)]
struct Model {
    versions: Versions,
    /// Why there is no version at all.
    reason: String,
}

impl Model {
    fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<Served>> {
        self.versions.values().filter_map(Slot::ready)
    }

    /// Of the highest version.
    fn why_not(&self) -> &str {
        let last = self.versions.values().next_back();
        last.map_or(&self.reason, |slot| match slot {
            Slot::Unavailable(reason) => reason,
            Slot::Ready(_) => &self.reason,
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Catalogue {
    models: RwLock<BTreeMap<String, Model>>,
}

impl Catalogue {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The versions of `name` are these from now on. Whoever holds one of before keeps it.
    pub(super) fn put(&self, name: &str, versions: Versions, reason: String) {
        let model = Model { versions, reason };
        // Dropped after the lock: a model may be large.
        let _before =
            self.models.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), model);
    }

    /// The version, if it is ready; an empty text means the highest that is.
    pub(super) fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Failure> {
        let models = self.read();
        let model = models.get(name).ok_or_else(|| Failure::UnknownModel(name.to_owned()))?;
        let not_ready = |reason: String| Failure::NotReady { model: name.to_owned(), reason };
        if version.is_empty() {
            let highest = model.ready().next_back();
            return highest.cloned().ok_or_else(|| not_ready(model.why_not().to_owned()));
        }
        let slot = number(version).and_then(|number| model.versions.get(&number));
        match slot {
            Some(Slot::Ready(served)) => Ok(Arc::clone(served)),
            Some(Slot::Unavailable(reason)) => Err(not_ready(format!("version {version}: {reason}"))),
            None if model.versions.is_empty() => Err(not_ready(model.reason.clone())),
            None => Err(Failure::UnknownVersion { model: name.to_owned(), version: version.to_owned() }),
        }
    }

    /// Every version that is ready, lowest first; none of a name that is not here.
    pub(super) fn versions(&self, name: &str) -> Vec<Arc<Served>> {
        self.read().get(name).map(|model| model.ready().cloned().collect()).unwrap_or_default()
    }

    /// All that is known of a name, and nothing of one that is not here.
    pub(super) fn slots(&self, name: &str) -> Option<Versions> {
        self.read().get(name).map(|model| model.versions.clone())
    }

    /// All that are ready, by name and version.
    pub(super) fn all(&self) -> Vec<Arc<Served>> {
        self.read().values().flat_map(Model::ready).cloned().collect()
    }

    pub(super) fn index(&self) -> Vec<Listed> {
        let mut index = Vec::new();
        for (name, model) in self.read().iter() {
            let listed = |version: String, reason: Option<String>, note: Option<String>| Listed {
                name: name.clone(),
                version,
                reason,
                note,
            };
            if model.versions.is_empty() {
                index.push(listed(String::new(), Some(model.reason.clone()), None));
            }
            for (version, slot) in &model.versions {
                let (reason, note) = match slot {
                    Slot::Ready(served) => (None, served.note()),
                    Slot::Unavailable(reason) => (Some(reason.clone()), None),
                };
                index.push(listed(version.to_string(), reason, note));
            }
        }
        index
    }
}

/// A version as requests write it: `07` is none.
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|number: &u64| number.to_string() == version)
}
