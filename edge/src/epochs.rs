//! The agent changes bundles while it runs: to another one, back, and to what the configuration names now.
//!
//! ```text
//! command (bundle switch, rollback) -> admin port ─┐
//! SIGHUP ──────────────────────────────────────────┴> Epochs: open, digests -> copy in state_dir -> models, golden samples
//!                                                        -> the record on disk -> the agent's epoch
//! ```
//!
//! One switch at a time. Whatever fails before the record is written changes nothing; from the record on nothing can fail,
//! and a start finds what the record says. Decisions keep the epoch that they began with, and what the spool keeps of earlier
//! bundles is amended by their manifests, which are kept as long as there are entries of them.
//!
//! * `start`: which bundle a start decides with. `report`: what is told of it. `counts`: what `/metrics` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::bundle::store::{self, Record, Store, StoreError};
use millgate_shared::bundle::{Bundle, BundleDigest};
use millgate_shared::digest::hex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::agent::{Agent, Epoch, Rules, StartError};
use crate::backoff::Backoff;
use crate::input::Naming;
use crate::spool::Spool;
pub(crate) use counts::Counts;
use counts::Outcome;
pub(crate) use report::{Named, Refusal, Report, State};
pub(crate) use start::{Kept, start};

mod counts;
mod report;
mod start;

/// Pauses between tries at a configured bundle that could not be used.
const CATCH_UP: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));
/// Rules of earlier bundles that are held in memory; others are read again.
const MOST_RULES: usize = 8;

/// Why the bundle was not changed. The agent goes on with the one it had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    #[error("a switch is under way")]
    UnderWay,
    #[error("bundles cannot be switched here: {0}")]
    NoStore(String),
    #[error("there is no bundle to go back to")]
    NothingBefore,
    /// The bundle fails its checks, or is not one that the configuration can be used with.
    #[error(transparent)]
    Refused(#[from] StartError),
    #[error(
        "bundle {}: its modalities are {found}, those in use {used}, and the sources find files by them; \
         name it in the configuration and start the agent anew", path.display()
    )]
    Modalities { path: PathBuf, found: String, used: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the switch panicked; the log says more")]
    Panicked,
}

impl SwitchError {
    /// The bundle that was given is at fault, not the machine or the moment.
    pub(crate) fn is_bad_input(&self) -> bool {
        match self {
            Self::Refused(error) => !error.is_of_machine(),
            Self::Modalities { .. } => true,
            Self::UnderWay | Self::NoStore(_) | Self::NothingBefore | Self::Store(_) | Self::Panicked => {
                false
            }
        }
    }
}

/// What a change of the bundle does about another one that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

/// Handle to the agent's bundles. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Epochs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agent: Agent,
    /// How the sources name files, from the start on; `None`: there are no sources.
    naming: Option<Naming>,
    /// `None`: nothing is ever amended.
    spool: Option<Spool>,
    state_dir: PathBuf,
    /// Where the configuration's bundle lies.
    configured: Mutex<PathBuf>,
    /// Locked for as long as a switch takes. An error says why nothing can be kept.
    store: Mutex<Result<Store, String>>,
    /// Room for one look at the configured bundle, and for one that waits.
    following: Semaphore,
    /// What the record says, for whoever asks during a switch.
    known: Mutex<Known>,
    rules: Mutex<BTreeMap<BundleDigest, Arc<Rules>>>,
    /// The start could not use the configured bundle.
    is_behind: bool,
    counts: Counts,
}

#[derive(Debug, Clone, Default)]
struct Known {
    record: Option<Record>,
    previous: Option<Named>,
}

impl Epochs {
    /// `naming` is how the sources name files; `None`: there are no sources.
    pub(crate) fn new(
        agent: &Agent,
        naming: Option<Naming>,
        spool: Option<Spool>,
        kept: Kept,
        counts: Counts,
    ) -> Self {
        let Kept { state_dir, configured, store, is_behind } = kept;
        if let Err(reason) = &store {
            tracing::warn!(reason, "the bundle cannot be switched while this agent runs");
        }
        let known = store.as_ref().map(known).unwrap_or_default();
        let this = Self(Arc::new(Inner {
            agent: agent.clone(),
            naming,
            spool,
            state_dir,
            configured: Mutex::new(configured),
            store: Mutex::new(store),
            following: Semaphore::new(2),
            known: Mutex::new(known),
            rules: Mutex::default(),
            is_behind,
            counts,
        }));
        this.show();
        this
    }

    /// Switches to the bundle at a path. Returns when decisions are made with it, or when it is refused.
    pub(crate) async fn switch(&self, path: PathBuf) -> Result<Report, SwitchError> {
        self.alone(Waits::No, move |this, store| {
            let bundle = StartError::open(&path)?;
            let next = this.record(store)?.switched(bundle.digest());
            this.take(store, next, &path, &bundle)
        })
        .await
    }

    /// Switches back to the bundle before; a second time, forth again.
    pub(crate) async fn roll_back(&self) -> Result<Report, SwitchError> {
        self.alone(Waits::No, |this, store| {
            let next = this.record(store)?.rolled_back().ok_or(SwitchError::NothingBefore)?;
            let path = this.own_path(next.active);
            let refuse = |source| StartError::Bundle { path: path.clone(), source: Box::new(source) };
            let own = store.bundle(next.active).map_err(refuse)?;
            this.take(store, next, &path, &own)
        })
        .await
    }

    /// Switches to the bundle that lies now at the configured path, if it is another one than when that was last followed.
    /// `configured` is that path. Waits for a switch that is under way; where another call waits already, that one will do.
    pub(crate) async fn follow(&self, configured: PathBuf) -> Result<Report, SwitchError> {
        *self.0.configured.lock().unwrap_or_else(PoisonError::into_inner) = configured;
        let Ok(_place) = self.0.following.try_acquire() else { return Ok(self.report(false)) };
        self.alone(Waits::Yes, |this, store| {
            let configured = this.0.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let refuse = |source| StartError::Bundle { path: configured.clone(), source: Box::new(source) };
            let record = this.record(store)?;
            let found = Bundle::digest_at(&configured).map_err(refuse)?;
            if record.follow(found) == record {
                return Ok(this.report(false));
            }
            let bundle = StartError::open(&configured)?;
            this.take(store, record.follow(bundle.digest()), &configured, &bundle)
        })
        .await
    }

    /// Where the start could not use the configured bundle: tries that again, later each time, until it can or another one is
    /// followed. Whoever copies a bundle need not tell the agent when it is whole.
    pub(crate) async fn catch_up(self) {
        if !self.0.is_behind {
            return;
        }
        let mut pause = Duration::ZERO;
        loop {
            pause = CATCH_UP.after(pause);
            tokio::time::sleep(pause).await;
            let configured = self.0.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if self.follow(configured).await.is_ok() {
                return;
            }
        }
    }

    /// What is active, before and configured.
    pub(crate) fn state(&self) -> State {
        let is_under_way = matches!(self.0.store.try_lock(), Err(TryLockError::WouldBlock));
        let known = self.known().clone();
        State {
            active: Some(named(&self.0.agent.epoch())),
            previous: known.previous,
            configured: Some(self.0.configured.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            configured_digest: known.record.map(|record| record.configured.to_string()),
            is_under_way,
            is_running: true,
        }
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// Lets the store go, so that another process can have it, unless a switch is under way.
    pub(crate) fn close(&self) {
        if let Ok(mut store) = self.0.store.try_lock() {
            *store = Err("the agent stops".to_owned());
        }
    }

    /// What an entry of a bundle is amended by; the error says why that is not to be had. Reads a file, the first time that
    /// it is asked for an earlier bundle.
    pub(crate) async fn rules(&self, digest: BundleDigest) -> Result<Arc<Rules>, String> {
        let epoch = self.0.agent.epoch();
        if epoch.digest() == digest {
            return Ok(Arc::new(epoch.rules().clone()));
        }
        if let Some(rules) = self.kept_rules().get(&digest) {
            return Ok(Arc::clone(rules));
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let manifest =
                store::manifest_in(&this.0.state_dir, digest).map_err(|error| error.to_string())?;
            let manifest = manifest.ok_or_else(|| format!("nothing is kept here of the bundle {digest}"))?;
            let rules = this.0.agent.rules(digest, Arc::new(manifest)).map_err(|error| error.to_string())?;
            Ok(Arc::new(rules))
        });
        let rules = read.await.unwrap_or_else(|_| Err("reading its bundle panicked".to_owned()))?;
        let mut kept = self.kept_rules();
        if kept.len() >= MOST_RULES {
            kept.pop_first();
        }
        kept.insert(digest, Arc::clone(&rules));
        Ok(rules)
    }

    /// Runs a change of the bundle, with no other beside it, and says what came of it.
    async fn alone(
        &self,
        waits: Waits,
        change: impl FnOnce(&Self, &mut Store) -> Result<Report, SwitchError> + Send + 'static,
    ) -> Result<Report, SwitchError> {
        let (this, handle) = (self.clone(), Handle::current());
        // Also where its caller has gone meanwhile it is done to the end, counted and logged.
        let work = move || {
            let done = this.change(waits, change, &handle);
            this.0.counts.count(match &done {
                Ok(report) if report.changed => Outcome::Switched,
                Ok(_) => Outcome::Unchanged,
                Err(error) if error.is_bad_input() => Outcome::Refused,
                Err(_) => Outcome::Failed,
            });
            if let Err(error) = &done {
                tracing::error!(%error, "the bundle was not switched; deciding with the one before");
            }
            done
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(SwitchError::Panicked))
    }

    fn change(
        &self,
        waits: Waits,
        change: impl FnOnce(&Self, &mut Store) -> Result<Report, SwitchError>,
        handle: &Handle,
    ) -> Result<Report, SwitchError> {
        let mut locked = match self.0.store.try_lock() {
            Ok(locked) => locked,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if waits == Waits::No => return Err(SwitchError::UnderWay),
            Err(TryLockError::WouldBlock) => self.0.store.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let store = locked.as_mut().map_err(|reason| SwitchError::NoStore(reason.clone()))?;
        let done = change(self, store);
        self.tidy(store, handle);
        done
    }

    /// Removes what an earlier run has left of bundles that nobody needs any more.
    pub(crate) async fn begin(&self) {
        let (this, handle) = (self.clone(), Handle::current());
        let work = move || {
            if let Ok(mut locked) = this.0.store.try_lock()
                && let Ok(store) = &mut *locked
            {
                this.tidy(store, &handle);
            }
        };
        if tokio::task::spawn_blocking(work).await.is_err() {
            tracing::error!("the bundles of earlier runs cannot be tidied");
        }
    }

    fn tidy(&self, store: &mut Store, handle: &Handle) {
        // Whoever has just ended a decision of an earlier bundle has put its entry before; so in this order.
        let mut needed = self.0.agent.digests();
        let spooled = match &self.0.spool {
            Some(spool) => handle.block_on(spool.bundles()),
            None => Some(BTreeSet::new()),
        };
        if let Some(spooled) = spooled {
            needed.extend(spooled);
            store.tidy(&needed);
        }
    }

    /// What the store's record says; where it has none yet, the active bundle is the first.
    fn record(&self, store: &mut Store) -> Result<Record, SwitchError> {
        if let Some(record) = store.record() {
            return Ok(record);
        }
        let active = self.0.agent.epoch().digest();
        let configured = self.0.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A disk that was full at the start may have room now; where the bundle has gone meanwhile there is no way back to it.
        match Bundle::open(&configured) {
            Ok(bundle) if bundle.digest() == active => {
                store.take(&bundle)?;
                store.commit(Record::first(active))?;
            }
            _ => {
                tracing::warn!(%active, "nothing is kept of the bundle in use: there will be no going back to it")
            }
        }
        Ok(Record::first(active))
    }

    /// Keeps a copy of a bundle, proves that, writes down that it is active, and makes it so.
    fn take(
        &self,
        store: &mut Store,
        next: Record,
        path: &Path,
        bundle: &Bundle,
    ) -> Result<Report, SwitchError> {
        let used = self.0.agent.epoch();
        let is_active = used.digest() == next.active;
        if self.0.naming.as_ref().is_some_and(|naming| *naming != Naming::of(bundle.manifest())) {
            let names = |manifest: &Manifest| {
                let names: Vec<&str> = manifest.modalities.iter().map(|modality| &*modality.name).collect();
                names.join(", ")
            };
            let (found, used) = (names(bundle.manifest()), names(used.manifest()));
            return Err(SwitchError::Modalities { path: path.to_path_buf(), found, used });
        }
        drop(used);
        let own = store.take(bundle)?;
        let epoch = match is_active {
            true => None,
            false => Some(self.0.agent.prepare(&own, path)?),
        };
        let known_before = next.previous.is_none_or(|previous| store.bundle(previous).is_ok());
        store.commit(if known_before { next } else { Record { previous: None, ..next } })?;
        if let Some(epoch) = epoch {
            let Named { name, version, digest } = named(&epoch);
            self.0.agent.enter(epoch);
            tracing::info!(name, version, digest, "the bundle was switched");
        }
        *self.known() = known(store);
        self.show();
        Ok(self.report(!is_active))
    }

    fn report(&self, changed: bool) -> Report {
        let active = named(&self.0.agent.epoch());
        Report { changed, active, previous: self.known().previous.clone() }
    }

    fn show(&self) {
        let previous = self.known().previous.clone();
        self.0.counts.show(&named(&self.0.agent.epoch()), previous.as_ref());
    }

    fn own_path(&self, digest: BundleDigest) -> PathBuf {
        self.0.state_dir.join(store::DIR_NAME).join(hex(digest.as_bytes()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_rules(&self) -> MutexGuard<'_, BTreeMap<BundleDigest, Arc<Rules>>> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down that the bundle before is the active one from the next start on: for an agent that does not run, perhaps
/// because it cannot with the active one.
pub(crate) fn roll_back_stopped(store: &mut Store) -> Result<Report, SwitchError> {
    let next = store.record().and_then(Record::rolled_back).ok_or(SwitchError::NothingBefore)?;
    let path = PathBuf::from(next.active.to_string());
    let refuse = |source| StartError::Bundle { path, source: Box::new(source) };
    let active = Named::new(store.bundle(next.active).map_err(refuse)?.manifest(), next.active);
    store.commit(next)?;
    Ok(Report { changed: true, active, previous: known(store).previous })
}

fn named(epoch: &Epoch) -> Named {
    Named::new(epoch.manifest(), epoch.digest())
}

fn known(store: &Store) -> Known {
    let record = store.record();
    let previous = record.and_then(|record| record.previous);
    Known {
        record,
        previous: previous.map(|digest| Named::kept(store.manifest(digest).ok().flatten().as_ref(), digest)),
    }
}
