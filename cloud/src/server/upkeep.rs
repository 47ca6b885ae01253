//! While a pool runs: certificates, devices and tokens whose files have changed are read again, and the pool's own
//! certificate is renewed.

use std::sync::Arc;
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::access::Access;
use crate::holding::Holding;
use crate::identity::material::Material;
use crate::metrics::Metrics;

/// A token that is revoked is refused after so long.
const LOOK: Duration = Duration::from_secs(1);
/// Looks from one thought of renewal to the next.
const TEND: u32 = 600;

#[derive(Debug)]
pub(super) struct Upkeep {
    asked: Arc<Notify>,
}

impl Upkeep {
    pub(super) fn start(
        (access, holding): (Arc<Access>, Arc<Holding>),
        material: Option<Arc<Material>>,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Self {
        let asked = Arc::new(Notify::new());
        let (asks, stop) = (Arc::clone(&asked), tasks.token().clone());
        tasks.spawn(async move {
            let mut looks = 0u32;
            let mut tending: Option<JoinHandle<()>> = None;
            let mut noting: Option<JoinHandle<()>> = None;
            loop {
                let is_asked = tokio::select! {
                    () = stop.cancelled() => break,
                    () = asks.notified() => true,
                    () = tokio::time::sleep(LOOK) => false,
                };
                holding.tend();
                // Devices are noted under a lock that other programs take, too: no look waits for it.
                if noting.as_ref().is_none_or(JoinHandle::is_finished) {
                    let access = Arc::clone(&access);
                    noting = Some(spawn_blocking(move || access.tend()));
                }
                let (access, material) = (Arc::clone(&access), material.clone());
                let is_time = looks.is_multiple_of(TEND);
                looks = looks.wrapping_add(1);
                // It may have to wait for others, and no look waits for it.
                if is_time && tending.as_ref().is_none_or(JoinHandle::is_finished) {
                    tending = material.clone().map(|material| spawn_blocking(move || material.tend()));
                }
                let look = move || {
                    access.reload(is_asked);
                    let material = material?;
                    material.reload(is_asked);
                    material.not_after()
                };
                match spawn_blocking(look).await {
                    Ok(end) => end.into_iter().for_each(|end| metrics.certificate_ends(end)),
                    Err(error) => tracing::error!(%error, "a look at certificates and tokens has failed"),
                }
            }
            // A drain waits for them, within its grace.
            for begun in [tending, noting].into_iter().flatten() {
                if let Err(error) = begun.await {
                    tracing::error!(%error, "certificates or devices were not looked after");
                }
            }
        });
        Self { asked }
    }

    pub(super) fn reload(&self) {
        self.asked.notify_one();
    }
}
