//! Whether this pool wants work: yes from the start (a pool that is not proved does not get this far), no from the
//! moment it drains. Load never changes it.

use tokio_util::sync::CancellationToken;

/// Whether new work is wanted. Clones are cheap, and agree.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    draining: CancellationToken,
}

impl Readiness {
    pub fn is_ready(&self) -> bool {
        !self.draining.is_cancelled()
    }

    /// Says, for good, that no new work is wanted.
    pub fn withdraw(&self) {
        self.draining.cancel();
    }

    /// Returns once it is withdrawn.
    pub async fn withdrawn(self) {
        self.draining.cancelled_owned().await;
    }
}
