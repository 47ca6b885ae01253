//! One thread that loads every bundle: allocators keep what was freed for the thread that had it, so that bundles loaded by
//! ever other threads would each leave their memory behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use millgate_shared::bundle::Bundle;

use crate::failure::Failure;
use crate::hosted::{Hosted, HostedError};
use crate::pool::Pool;

type Loaded = Result<Arc<Hosted>, HostedError>;

struct Job {
    pool: Arc<Pool>,
    bundle: Bundle,
    reply: SyncSender<Loaded>,
}

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Loader {
    /// `None`: the thread could not be started, and whoever asks loads for itself.
    jobs: Option<SyncSender<Job>>,
}

impl Loader {
    pub(super) fn start() -> Self {
        let (jobs, waiting) = sync_channel::<Job>(1);
        let load = move || {
            for Job { pool, bundle, reply } in waiting {
                let loaded = catch_unwind(AssertUnwindSafe(|| pool.load_bundle(&bundle)));
                drop((pool, bundle));
                // Whoever asked may have gone.
                reply.send(loaded.unwrap_or_else(|_| Err(broken()))).ok();
            }
        };
        let started = std::thread::Builder::new().name("bundle-loader".to_owned()).spawn(load);
        let jobs = started.map(|_| jobs).map_err(|error| {
            tracing::warn!(%error, "the thread that loads bundles could not be started");
        });
        Self { jobs: jobs.ok() }
    }

    /// Loads and proves a bundle. Blocks for as long as that takes.
    pub(super) fn load(&self, pool: &Arc<Pool>, bundle: Bundle) -> Loaded {
        let Some(jobs) = &self.jobs else { return pool.load_bundle(&bundle) };
        let (reply, loaded) = sync_channel(1);
        let sent = jobs.send(Job { pool: Arc::clone(pool), bundle, reply });
        sent.map_err(|_| broken())?;
        loaded.recv().unwrap_or_else(|_| Err(broken()))
    }
}

fn broken() -> HostedError {
    HostedError::Serve(Failure::Model("loading the bundle panicked".to_owned()))
}
