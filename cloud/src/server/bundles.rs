//! While a pool runs: commands that switch its bundle are listened to, and the bundle before is let go when nobody asks
//! for it any more.

use std::sync::Arc;
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use tokio::task::spawn_blocking;

use crate::config::CloudConfig;
use crate::switching::{Switcher, control};

/// How often it is looked whether the bundle before is still asked for.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn tend(switcher: &Arc<Switcher>, config: &CloudConfig, tasks: &Tasks) {
    if switcher.is_alone()
        && let Err(error) = control::listen(&config.state_dir, Arc::clone(switcher), tasks)
    {
        tracing::warn!(%error, "commands cannot switch the bundle of this pool");
    }
    let (patience, stop) = (config.previous_bundle_idle(), tasks.token().clone());
    let switcher = Arc::clone(switcher);
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let switcher = Arc::clone(&switcher);
            if let Err(error) = spawn_blocking(move || switcher.let_go(patience)).await {
                tracing::error!(%error, "the bundle before was not looked after");
            }
        }
    });
}

/// Follows what the configuration names now; off the async threads.
pub(super) fn follow(switcher: &Arc<Switcher>) {
    let switcher = Arc::clone(switcher);
    drop(spawn_blocking(move || match switcher.follow() {
        Ok(None) => tracing::debug!("the configured bundle is the one that it was"),
        Ok(Some(report)) => tracing::info!(%report, "the configured bundle is another one"),
        Err(error) => {
            tracing::error!(%error, "the configured bundle is not switched to; nothing has changed")
        }
    }));
}
