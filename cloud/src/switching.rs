//! The pool changes bundles while it runs: to another one, back, and to what the configuration names now.
//!
//! ```text
//! command (bundle switch, rollback) -> control ─┐
//! SIGHUP ───────────────────────────────────────┴> Switcher: open, digests -> copy in state_dir -> load, golden samples
//!                                                     -> the record on disk -> active
//! ```
//!
//! One switch at a time. Whatever fails before the record is written changes nothing; from the record on nothing can
//! fail, and a start finds what the record says. Calls keep the bundle that they began with (`crate::hosted::held`).
//!
//! * `kept`: what a start serves. `report`: what is told of it. `control`: where commands come in. `counts`: how often.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use millgate_shared::bundle::store::{Record, Store, StoreError};
use millgate_shared::bundle::{Bundle, BundleDigest, BundleError};

use crate::hosted::{Hosted, HostedError};
use crate::pool::{Given, Pool};
use counts::{Counts, Outcome};
use kept::Kept;
use loader::Loader;
use report::{Before, Named, Report, State};

pub(crate) mod control;
pub(crate) mod counts;
pub(crate) mod kept;
mod loader;
pub(crate) mod report;
#[cfg(test)]
mod tests;

/// Why the active bundle was not changed. It goes on as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    #[error("a switch is under way")]
    UnderWay,
    #[error("this pool was started without a bundle, so there is none to switch")]
    NoBundle,
    /// No bundle can be kept in the state directory.
    #[error("bundles cannot be switched here: {0}")]
    NoStore(String),
    #[error("there is no bundle to go back to")]
    NothingBefore,
    #[error("bundle {}: {source}", path.display())]
    Bundle { path: PathBuf, source: Box<HostedError> },
    #[error("bundle {}: `{name}` is a plain model of this pool; unload that first", path.display())]
    Name { path: PathBuf, name: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SwitchError {
    /// What was given is at fault, not the machine or the moment.
    pub(crate) fn is_bad_input(&self) -> bool {
        match self {
            Self::Bundle { source, .. } => {
                !matches!(&**source, HostedError::Bundle(error) if error.is_of_machine())
            }
            Self::Name { .. } => true,
            Self::UnderWay | Self::NoBundle | Self::NoStore(_) | Self::NothingBefore | Self::Store(_) => {
                false
            }
        }
    }

    fn bundle(path: &Path, source: impl Into<HostedError>) -> Self {
        Self::Bundle { path: path.to_owned(), source: Box::new(source.into()) }
    }
}

/// Changes a pool's active bundle.
#[derive(Debug)]
pub(crate) struct Switcher {
    pool: Arc<Pool>,
    /// The configured bundle's path; `None`: the pool was started without one.
    configured: Option<PathBuf>,
    /// Locked for as long as a switch takes. An error says why nothing can be kept.
    store: Mutex<Result<Store, String>>,
    /// What the store's record says, for whoever asks during a switch.
    known: Mutex<Known>,
    loader: Loader,
    /// The start could not serve the configured bundle.
    is_behind: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Known {
    record: Option<Record>,
    previous: Option<Named>,
}

impl Switcher {
    /// `given`: the bundle that the pool was opened with. Keeps a copy of it, and writes down that it is the active one,
    /// where that is not known yet. Blocks.
    pub(crate) fn new(pool: Arc<Pool>, configured: Option<&Path>, given: Option<&Given>, kept: Kept) -> Self {
        let mut store = kept.into_store();
        if let (Ok(open), Some(given), Some(configured)) = (&mut store, given, configured)
            && let Err(error) = begin(open, given, configured)
        {
            store = Err(error.to_string());
        }
        if let Err(reason) = &store {
            tracing::warn!(reason, "the bundle cannot be switched while this pool runs");
        }
        let known = Mutex::new(store.as_ref().map(known).unwrap_or_default());
        let is_behind = match (&store, given, configured) {
            (Ok(store), Some(given), Some(configured)) => is_behind(store, given, configured),
            _ => false,
        };
        let configured = configured.map(Path::to_owned);
        Self {
            pool,
            configured,
            store: Mutex::new(store),
            known,
            loader: Loader::start(),
            is_behind,
            counts: Counts::default(),
        }
    }

    /// The start could not serve the configured bundle, which may have been half copied: it is to be tried again.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// This process has the store, and nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).is_ok()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Switches to the bundle at a path. Blocks for as long as it takes to copy, load and prove it.
    pub(crate) fn switch(&self, path: &Path) -> Result<Report, SwitchError> {
        self.counted(|store, record| {
            let bundle = Bundle::open(path).map_err(|error| SwitchError::bundle(path, error))?;
            self.take(store, record.switched(bundle.digest()), path, &bundle)
        })
    }

    /// Switches back to the bundle before; a second time, forth again. Blocks for as long as it takes to load it, if it
    /// was let go meanwhile.
    pub(crate) fn roll_back(&self) -> Result<Report, SwitchError> {
        self.counted(|store, record| {
            let next = record.rolled_back().ok_or(SwitchError::NothingBefore)?;
            let path = store_path(next.active);
            let hosted = match self.answered(next.active) {
                Some(hosted) => hosted,
                None => {
                    let own = store.bundle(next.active).map_err(|error| SwitchError::bundle(&path, error))?;
                    self.load(&path, own)?
                }
            };
            self.activate(store, next, &path, hosted)
        })
    }

    /// Switches to the bundle that lies now where the configuration says, if it is another one than when that was last
    /// looked at; `None`: it is not. Blocks.
    pub(crate) fn follow(&self) -> Result<Option<Report>, SwitchError> {
        let path = self.configured.as_deref().ok_or(SwitchError::NoBundle)?;
        let refuse = |error: BundleError| SwitchError::bundle(path, error);
        let report = self.counted(|store, record| {
            let next = record.follow(Bundle::digest_at(path).map_err(refuse)?);
            if next == record {
                return Ok(self.report(false));
            }
            let bundle = Bundle::open(path).map_err(refuse)?;
            self.take(store, record.follow(bundle.digest()), path, &bundle)
        })?;
        Ok(report.changed.then_some(report))
    }

    /// What is active, before and configured.
    pub(crate) fn state(&self) -> State {
        let is_under_way = matches!(self.store.try_lock(), Err(TryLockError::WouldBlock));
        let known = self.known();
        let before = self.pool.before();
        let previous = known.previous.clone().map(|named| {
            let answered =
                before.as_ref().filter(|before| before.hosted.digest().to_string() == named.digest);
            Before { named, idle_seconds: answered.map(|before| before.idle.as_secs()) }
        });
        State {
            active: self.pool.hosted().map(|hosted| named(&hosted)),
            previous,
            configured: self.configured.clone(),
            configured_digest: known.record.map(|record| record.configured.to_string()),
            is_under_way,
            is_running: true,
        }
    }

    /// Lets the bundle before go, if nobody has asked for it for `patience`. Blocks while its memory is freed.
    pub(crate) fn let_go(&self, patience: Duration) {
        let Some(gone) = self.pool.let_go(patience) else { return };
        let Named { name, version, digest } = named(&gone);
        tracing::info!(name, version, digest, "the bundle before is let go: nobody asks for it any more");
        drop(gone);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change of the active bundle, alone, and counts what came of it.
    fn counted(
        &self,
        change: impl FnOnce(&mut Store, Record) -> Result<Report, SwitchError>,
    ) -> Result<Report, SwitchError> {
        let done = self.alone(change);
        self.counts.count(match &done {
            Ok(report) if report.changed => Outcome::Switched,
            Ok(_) => Outcome::Unchanged,
            Err(error) if error.is_bad_input() => Outcome::Refused,
            Err(_) => Outcome::Failed,
        });
        done
    }

    fn alone(
        &self,
        change: impl FnOnce(&mut Store, Record) -> Result<Report, SwitchError>,
    ) -> Result<Report, SwitchError> {
        let mut locked = match self.store.try_lock() {
            Ok(locked) => locked,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SwitchError::UnderWay),
        };
        let active = self.pool.hosted().ok_or(SwitchError::NoBundle)?;
        let store = locked.as_mut().map_err(|reason| SwitchError::NoStore(reason.clone()))?;
        let record = store.record().unwrap_or(Record::first(active.digest()));
        let done = change(store, record);
        *self.known() = known(store);
        // Copies that no record names: of what was refused, and of what was before the bundle before.
        store.tidy(&BTreeSet::new());
        done
    }

    /// Keeps a copy of a bundle, proves that, and makes it what `next` says.
    fn take(
        &self,
        store: &mut Store,
        next: Record,
        path: &Path,
        bundle: &Bundle,
    ) -> Result<Report, SwitchError> {
        let own = store.take(bundle)?;
        let hosted = match self.answered(next.active) {
            Some(hosted) => hosted,
            None => self.load(path, own)?,
        };
        self.activate(store, next, path, hosted)
    }

    fn load(&self, path: &Path, bundle: Bundle) -> Result<Arc<Hosted>, SwitchError> {
        self.loader.load(&self.pool, bundle).map_err(|error| SwitchError::bundle(path, error))
    }

    /// The bundle with this digest, if it is loaded.
    fn answered(&self, digest: BundleDigest) -> Option<Arc<Hosted>> {
        let before = self.pool.before().map(|before| before.hosted);
        self.pool.hosted().into_iter().chain(before).find(|hosted| hosted.digest() == digest)
    }

    /// Writes down what is to be, then makes it so.
    fn activate(
        &self,
        store: &mut Store,
        next: Record,
        path: &Path,
        hosted: Arc<Hosted>,
    ) -> Result<Report, SwitchError> {
        let is_active = self.pool.hosted().is_some_and(|active| active.digest() == hosted.digest());
        if !is_active && let Some(name) = self.pool.taken_name(&hosted) {
            return Err(SwitchError::Name { path: path.to_owned(), name });
        }
        store.commit(next)?;
        if !is_active {
            drop(self.pool.activate(hosted));
        }
        *self.known() = known(store);
        let report = self.report(!is_active);
        if report.changed {
            let Named { name, version, digest } = &report.active;
            tracing::info!(name, version, digest, "the bundle was switched");
        }
        Ok(report)
    }

    fn report(&self, changed: bool) -> Report {
        let active = self.pool.hosted().map(|hosted| named(&hosted)).unwrap_or_default();
        Report { changed, active, previous: self.known().previous.clone() }
    }
}

/// Has the next start serve the bundle before: for a pool that does not run. Blocks.
pub(crate) fn roll_back_stopped(state_dir: &Path) -> Result<Report, SwitchError> {
    let mut store = Store::existing(state_dir)?.ok_or(SwitchError::NothingBefore)?;
    let next = store.record().and_then(Record::rolled_back).ok_or(SwitchError::NothingBefore)?;
    let bundle = store.bundle(next.active);
    bundle.map_err(|error| SwitchError::bundle(&store_path(next.active), error))?;
    store.commit(next)?;
    let active = Named::kept(store.manifest(next.active)?.as_ref(), next.active);
    Ok(Report { changed: true, active, previous: known(&store).previous })
}

/// Keeps a copy of the bundle that was opened, and writes down that it is the active one.
fn begin(store: &mut Store, given: &Given, configured: &Path) -> Result<(), StoreError> {
    let active = store.take(&given.bundle)?.digest();
    let record = match store.record() {
        None => Record::first(active),
        Some(record) => {
            // Where nothing can be read, nothing new is configured.
            let followed = Bundle::digest_at(configured).map(|found| record.follow(found));
            // Another bundle is served where the one that is meant could not be opened.
            followed.ok().filter(|next| next.active == active).unwrap_or_else(|| record.switched(active))
        }
    };
    store.commit(record)?;
    store.tidy(&BTreeSet::new());
    Ok(())
}

fn is_behind(store: &Store, given: &Given, configured: &Path) -> bool {
    let follows = |found: BundleDigest| store.record().is_some_and(|record| record.follow(found) == record);
    given.path != configured && !Bundle::digest_at(configured).is_ok_and(follows)
}

fn known(store: &Store) -> Known {
    let record = store.record();
    let previous = record
        .and_then(|record| record.previous)
        .map(|digest| Named::kept(store.manifest(digest).ok().flatten().as_ref(), digest));
    Known { record, previous }
}

fn named(hosted: &Hosted) -> Named {
    Named::new(hosted.manifest(), hosted.digest())
}

/// How a message names a copy in the store.
fn store_path(digest: BundleDigest) -> PathBuf {
    PathBuf::from(digest.to_string())
}
