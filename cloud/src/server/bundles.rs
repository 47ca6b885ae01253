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
/// Pauses between tries at a configured bundle that could not be served: the first, each twice as long, the longest.
const FIRST_TRY: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

pub(super) fn tend(switcher: &Arc<Switcher>, config: &CloudConfig, tasks: &Tasks) {
    if switcher.is_alone()
        && let Err(error) = control::listen(&config.state_dir, Arc::clone(switcher), tasks)
    {
        tracing::warn!(%error, "commands cannot switch the bundle of this pool");
    }
    if switcher.is_behind() {
        catch_up(switcher, tasks);
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

/// Tries a configured bundle that the start could not serve until it can be: whoever copies it need not tell when it is whole.
fn catch_up(switcher: &Arc<Switcher>, tasks: &Tasks) {
    let (switcher, stop) = (Arc::clone(switcher), tasks.token().clone());
    tasks.spawn(async move {
        let mut pause = FIRST_TRY;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = (pause * 2).min(LONGEST_PAUSE);
            let switcher = Arc::clone(&switcher);
            match spawn_blocking(move || switcher.follow()).await {
                Ok(Ok(report)) => {
                    if let Some(report) = report {
                        tracing::info!(%report, "the configured bundle can be served now");
                    }
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the configured bundle cannot be served yet"),
                Err(error) => tracing::error!(%error, "the configured bundle was not looked at"),
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
