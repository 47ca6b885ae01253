//! Which bundle a start decides with: the configured one, unless another one was switched to since it was configured.
//!
//! | at the configured path lies | the start decides with |
//! | --- | --- |
//! | a bundle that is not the one that was followed last | that one; if it fails its checks, the one that was active, and the log says so |
//! | the one that was followed last | the one that is active by the record, from the copy in the state directory |
//! | nothing that can be read | likewise |
//!
//! Without a record, because the agent never started here, it is the configured one.
//!
//! Where a start goes on with the bundle before, the configured one is tried again from time to time: it may be half copied.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millgate_shared::bundle::store::{self, Record, Store, StoreError};
use millgate_shared::bundle::{Bundle, BundleError};
use millgate_shared::shutdown::Tasks;

use crate::agent::{Agent, AgentConfig, StartError};

/// How long an agent that was stopped a moment ago may have the store.
const LEFTOVER: Duration = Duration::from_secs(2);
/// How often what the machine does not let be read is tried, and the pause between.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// What a start knows of bundles.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) state_dir: PathBuf,
    /// Where the configuration's bundle lies.
    pub(super) configured: PathBuf,
    /// An error says why nothing can be kept.
    pub(super) store: Result<Store, String>,
    /// The configured bundle could not be used, and is to be tried again.
    pub(super) is_behind: bool,
}

/// Starts the agent with the bundle that is due. Blocks while models load.
pub(crate) fn start(
    config: AgentConfig,
    state_dir: &Path,
    tasks: &Tasks,
) -> Result<(Agent, Kept), StartError> {
    let configured = config.bundle.clone();
    let kept = |store: Result<Store, StoreError>| Kept {
        state_dir: state_dir.to_path_buf(),
        configured: configured.clone(),
        store: store.map_err(|error| error.to_string()),
        is_behind: false,
    };
    let mut is_behind = false;
    let mut store = match open(state_dir) {
        Ok(store) => store,
        // Which bundle is active may be read all the same.
        Err(error) => {
            let agent = match looked_up(state_dir, &configured) {
                Some(bundle) => Agent::start_with(&bundle, config, tasks)?,
                None => Agent::start(config, tasks)?,
            };
            return Ok((agent, kept(Err(error))));
        }
    };
    let Some(record) = store.record() else {
        let bundle = StartError::open(&config.bundle)?;
        let agent = Agent::start_with(&bundle, config, tasks)?;
        keep(&mut store, &bundle, Record::first(bundle.digest()));
        return Ok((agent, kept(Ok(store))));
    };
    let agent = match Bundle::digest_at(&configured) {
        Ok(found) if record.follow(found) != record => {
            let tried = followed(&mut store, record, &config, tasks);
            match tried {
                Err(error) if error.is_of_bundle() => {
                    tracing::error!(%error, "the configured bundle cannot be used; deciding with the one before");
                    is_behind = true;
                    active(&store, record, config, tasks).map_err(|_| error)?
                }
                tried => tried?,
            }
        }
        Ok(_) => match patiently(|| active(&store, record, config.clone(), tasks)) {
            // The record stays: it is right again once the machine is.
            Err(error) if error.is_of_machine() => {
                tracing::error!(%error, "the bundle that is active cannot be read; deciding with the configured one until the next start");
                Agent::start_with(&StartError::open(&configured)?, config, tasks)?
            }
            Err(error) if error.is_of_bundle() => {
                tracing::error!(%error, "the bundle that was active cannot be used; deciding with the configured one");
                let bundle = StartError::open(&configured)?;
                let agent = Agent::start_with(&bundle, config, tasks)?;
                keep(&mut store, &bundle, record.switched(bundle.digest()));
                agent
            }
            started => started?,
        },
        Err(error) => {
            tracing::error!(%error, "the configured bundle cannot be read; deciding with the one before");
            let lacks = |source: BundleError| StartError::Bundle {
                path: configured.clone(),
                source: Box::new(source),
            };
            is_behind = true;
            active(&store, record, config, tasks).map_err(|_| lacks(error))?
        }
    };
    Ok((agent, Kept { is_behind, ..kept(Ok(store)) }))
}

fn open(state_dir: &Path) -> Result<Store, StoreError> {
    let until = Instant::now() + LEFTOVER;
    loop {
        match Store::open(state_dir) {
            Err(StoreError::Busy { .. }) if Instant::now() < until => std::thread::sleep(LEFTOVER / 20),
            opened => return opened,
        }
    }
}

/// The active bundle of a store that cannot be held, if it is another one than the configured.
fn looked_up(state_dir: &Path, configured: &Path) -> Option<Bundle> {
    let record = store::look(state_dir).ok().flatten()?;
    let found = Bundle::digest_at(configured).ok();
    let is_followed = found.is_none_or(|found| record.follow(found) == record);
    let is_other = found != Some(record.active);
    (is_followed && is_other).then(|| store::bundle_in(state_dir, record.active).ok()).flatten()
}

/// Tries again for a while what only the machine is in the way of.
fn patiently<T>(mut start: impl FnMut() -> Result<T, StartError>) -> Result<T, StartError> {
    for _ in 1..TRIES {
        match start() {
            Err(error) if error.is_of_machine() => {
                tracing::warn!(%error, "trying again");
                std::thread::sleep(PAUSE);
            }
            started => return started,
        }
    }
    start()
}

/// With the configured bundle, which is another one by now.
fn followed(
    store: &mut Store,
    record: Record,
    config: &AgentConfig,
    tasks: &Tasks,
) -> Result<Agent, StartError> {
    let bundle = StartError::open(&config.bundle)?;
    let agent = Agent::start_with(&bundle, config.clone(), tasks)?;
    keep(store, &bundle, record.follow(bundle.digest()));
    Ok(agent)
}

/// With the copy of the bundle that is active by the record.
fn active(store: &Store, record: Record, config: AgentConfig, tasks: &Tasks) -> Result<Agent, StartError> {
    let opened = store.bundle(record.active);
    let refuse = |source| StartError::Bundle {
        path: PathBuf::from(record.active.to_string()),
        source: Box::new(source),
    };
    Agent::start_with(&opened.map_err(refuse)?, config, tasks)
}

/// Takes a copy of the bundle in use and writes the record; where that does not work, a switch tries it again.
fn keep(store: &mut Store, bundle: &Bundle, record: Record) {
    if let Err(error) = store.take(bundle).and_then(|_| store.commit(record)) {
        tracing::error!(%error, "no copy of the bundle can be kept; there is no going back to it until one can");
    }
}
