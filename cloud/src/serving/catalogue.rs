//! The models by name: which versions there are, which of them answer, and why the others do not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::run::Deployed;
use crate::failure::Failure;
use crate::strikes::SET_ASIDE;

/// The reason of what was taken out.
const UNLOADED: &str = "unloaded";

/// What is known of a model, by version.
pub(crate) type Versions = BTreeMap<u64, Slot>;

#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Ready(Arc<Deployed>),
    /// Taken out; it may be loaded again.
    Unloaded,
    /// Why it cannot be served as its files stand.
    Unavailable(String),
}

impl Slot {
    fn ready(&self) -> Option<&Arc<Deployed>> {
        match self {
            Self::Ready(served) => Some(served),
            Self::Unloaded | Self::Unavailable(_) => None,
        }
    }

    /// Why it cannot be asked, if it cannot.
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Ready(_) => None,
            Self::Unloaded => Some(UNLOADED),
            Self::Unavailable(reason) => Some(reason),
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
    /// The model has ended its workers too often.
    pub(crate) is_set_aside: bool,
}

#[derive(Debug, Default)]
struct Model {
    versions: Versions,
    /// Why there is no version at all.
    reason: String,
}

impl Model {
    fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<Deployed>> {
        self.versions.values().filter_map(Slot::ready)
    }

    /// The reason of the highest version that could be loaded again, else of the highest.
    fn why_not(&self, name: &str) -> Failure {
        let unloaded = self.versions.iter().rfind(|(_, slot)| matches!(slot, Slot::Unloaded));
        match unloaded.or_else(|| self.versions.iter().next_back()) {
            Some((version, slot)) => refusal(name, *version, slot),
            None => Failure::Unservable { model: name.to_owned(), reason: self.reason.clone() },
        }
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

    /// Puts the models of a bundle in place of those that belong to one now, all at once. Gives those that were there.
    pub(super) fn exchange(&self, models: &[Arc<Deployed>]) -> Vec<Arc<Deployed>> {
        let mut all = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let is_fixed = |_: &String, model: &mut Model| model.ready().any(|ready| ready.traits.is_fixed);
        let gone: Vec<Model> = all.extract_if(.., is_fixed).map(|(_, model)| model).collect();
        for deployed in models {
            let versions = Versions::from([(deployed.version, Slot::Ready(Arc::clone(deployed)))]);
            all.insert(deployed.name.clone(), Model { versions, reason: String::new() });
        }
        drop(all);
        gone.iter().flat_map(Model::ready).cloned().collect()
    }

    /// The version, if it is ready; an empty text means the highest that is.
    pub(super) fn find(&self, name: &str, version: &str) -> Result<Arc<Deployed>, Failure> {
        let found = self.found(name, version)?;
        found.set_aside().map_or(Ok(found), Err)
    }

    fn found(&self, name: &str, version: &str) -> Result<Arc<Deployed>, Failure> {
        let models = self.read();
        let model = models.get(name).ok_or_else(|| Failure::UnknownModel(name.to_owned()))?;
        if version.is_empty() {
            let highest = model.ready().next_back();
            return highest.cloned().ok_or_else(|| model.why_not(name));
        }
        let slot = number(version).and_then(|number| Some((number, model.versions.get(&number)?)));
        match slot {
            Some((_, Slot::Ready(served))) => Ok(Arc::clone(served)),
            Some((number, slot)) => Err(refusal(name, number, slot)),
            None if model.versions.is_empty() => Err(model.why_not(name)),
            None => Err(Failure::UnknownVersion { model: name.to_owned(), version: version.to_owned() }),
        }
    }

    /// Every version that is ready, lowest first; none of a name that is not here.
    pub(super) fn versions(&self, name: &str) -> Vec<Arc<Deployed>> {
        self.read().get(name).map(|model| model.ready().cloned().collect()).unwrap_or_default()
    }

    /// All that is known of a name, and nothing of one that is not here.
    pub(super) fn slots(&self, name: &str) -> Option<Versions> {
        self.read().get(name).map(|model| model.versions.clone())
    }

    /// All that are ready, by name and version.
    pub(super) fn all(&self) -> Vec<Arc<Deployed>> {
        self.read().values().flat_map(Model::ready).cloned().collect()
    }

    pub(super) fn index(&self) -> Vec<Listed> {
        let mut index = Vec::new();
        for (name, model) in self.read().iter() {
            let listed = |version: String, reason: Option<String>, note: Option<String>| Listed {
                name: name.clone(),
                version,
                is_set_aside: reason.as_ref().is_some_and(|reason| reason.starts_with(SET_ASIDE)),
                reason,
                note,
            };
            if model.versions.is_empty() {
                index.push(listed(String::new(), Some(model.reason.clone()), None));
            }
            for (version, slot) in &model.versions {
                let (reason, note) = match slot {
                    Slot::Ready(served) => match served.record.aside() {
                        Some(reason) => (Some(reason.to_owned()), None),
                        None => (None, served.note()),
                    },
                    slot => (slot.reason().map(str::to_owned), None),
                };
                index.push(listed(version.to_string(), reason, note));
            }
        }
        index
    }
}

/// What is not ready, as whoever asks for it is told.
fn refusal(name: &str, version: u64, slot: &Slot) -> Failure {
    let (model, reason) = (name.to_owned(), slot.reason().unwrap_or_default());
    let reason = format!("version {version}: {reason}");
    match slot {
        Slot::Ready(_) | Slot::Unloaded => Failure::NotReady { model, reason },
        Slot::Unavailable(_) => Failure::Unservable { model, reason },
    }
}

/// A version as requests write it: `07` is none.
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|number: &u64| number.to_string() == version)
}
