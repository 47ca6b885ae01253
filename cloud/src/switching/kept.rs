//! Which bundle a start serves: the configured one, unless another one was switched to since it was configured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::bundle::store::{self, Record, Store};
use millgate_shared::bundle::{Bundle, BundleError};

use crate::pool::{Given, PoolError};

/// How often what the machine does not let be read is tried, and the pause between.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// What a state directory knows of bundles, before a pool starts.
#[derive(Debug)]
pub(crate) struct Kept {
    state_dir: PathBuf,
    record: Option<Record>,
    /// An error says why nothing can be kept there.
    store: Result<Store, String>,
}

/// Nothing is known, and nothing can be kept.
impl Default for Kept {
    fn default() -> Self {
        Self { state_dir: PathBuf::new(), record: None, store: Err("no state directory is used".to_owned()) }
    }
}

impl Kept {
    /// Opens the store of a state directory, for this process alone. Where that does not work the pool can start all the
    /// same, and cannot switch. Blocks.
    pub(crate) fn open(state_dir: &Path) -> Self {
        match Store::open(state_dir) {
            Ok(store) => Self { state_dir: state_dir.to_owned(), record: store.record(), store: Ok(store) },
            Err(error) => Self { store: Err(error.to_string()), ..Self::look(state_dir) },
        }
    }

    /// Reads what a state directory knows, and takes nothing. Blocks.
    pub(crate) fn look(state_dir: &Path) -> Self {
        let record = store::look(state_dir).unwrap_or_else(|error| {
            tracing::error!(%error, "which bundle was switched to cannot be read");
            None
        });
        let store = Err("the state directory was only looked at".to_owned());
        Self { state_dir: state_dir.to_owned(), record, store }
    }

    pub(super) fn into_store(self) -> Result<Store, String> {
        self.store
    }

    /// Opens the bundle that is to be served. Blocks.
    pub(crate) fn choose(&self, configured: &Path) -> Result<Given, PoolError> {
        let Some(record) = self.record else { return Given::open(configured) };
        let switched_to = || {
            let bundle = patiently(|| store::bundle_in(&self.state_dir, record.active))?;
            Ok(Given { path: bundle.dir().to_owned(), bundle })
        };
        match Bundle::digest_at(configured) {
            Ok(found) if record.follow(found).active == found => match Given::open(configured) {
                Ok(given) => Ok(given),
                Err(error) => instead(switched_to, error),
            },
            Ok(_) => switched_to().or_else(|error| {
                tracing::error!(%error, "the bundle that was switched to cannot be opened; the configured one is served");
                Given::open(configured)
            }),
            Err(_) => Given::open(configured).or_else(|error| instead(switched_to, error)),
        }
    }
}

impl Kept {
    /// Opens the bundle that was served before, where another one was opened and cannot be served.
    pub(crate) fn before(&self, refused: &Given) -> Option<Given> {
        let active = self.record?.active;
        if active == refused.bundle.digest() {
            return None;
        }
        let bundle = store::bundle_in(&self.state_dir, active).ok()?;
        Some(Given { path: bundle.dir().to_owned(), bundle })
    }
}

/// Tries again for a while what only the machine is in the way of: another bundle must not be served for that.
fn patiently(open: impl Fn() -> Result<Bundle, BundleError>) -> Result<Bundle, BundleError> {
    for _ in 1..TRIES {
        match open() {
            Err(error) if error.is_of_machine() => {
                tracing::warn!(%error, "trying again");
                std::thread::sleep(PAUSE);
            }
            opened => return opened,
        }
    }
    open()
}

/// What was served before, where the configured bundle cannot be opened.
fn instead(
    served: impl FnOnce() -> Result<Given, BundleError>,
    error: PoolError,
) -> Result<Given, PoolError> {
    let Ok(given) = served() else { return Err(error) };
    tracing::error!(%error, "the configured bundle cannot be opened; the one that was served before is");
    Ok(given)
}
