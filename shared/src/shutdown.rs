//! Tasks that drain: spawned through [`Tasks`], told to stop by one token, waited for within a grace time.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of a process or of one of its parts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Tasks that stop with these, or alone; [`Tasks::drain`] of the parent waits for them too.
    pub fn child(&self) -> Self {
        Self { tracker: self.tracker.clone(), token: self.token.child_token() }
    }

    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Cancelled when it is time to stop.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tells the tasks to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Tells the tasks to stop and waits for them; gives the number that had not ended when `grace` had passed.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.stop();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

/// Returns on SIGTERM or SIGINT.
pub async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_that_stop() {
        let tasks = Tasks::new();
        let token = tasks.token().clone();
        let ended = tasks.spawn(async move { token.cancelled().await });
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
        assert!(ended.is_finished());
    }

    #[tokio::test]
    async fn drain_reports_what_it_left_behind() {
        let tasks = Tasks::new();
        let _stuck = tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_millis(1)).await, 1);
    }
}
