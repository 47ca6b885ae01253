//! A trial that does not end is ended: nobody would wait for it in vain.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use millgate_shared::engine::Ender;

/// Ends a session's run after a time, unless it is dropped before.
pub(in crate::engines) struct Guard {
    _ended: Option<SyncSender<()>>,
}

impl Guard {
    /// `ender`: that of the session; `None` where its runs cannot be ended.
    pub(in crate::engines) fn start(ender: Option<Arc<dyn Ender>>, limit: Duration) -> Self {
        let Some(ender) = ender else { return Self { _ended: None } };
        let (ended, is_over) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new().name("trial-watch".to_owned());
        let started = thread.spawn(move || {
            if is_over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                ender.end(format!("its first runs took more than {} s", limit.as_secs_f64()));
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "nobody looks after a trial");
        }
        Self { _ended: Some(ended) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says when it is ended.
    #[derive(Debug)]
    struct Told(SyncSender<String>);

    impl Ender for Told {
        fn end(&self, why: String) {
            self.0.send(why).unwrap();
        }
    }

    #[test]
    fn what_goes_on_is_ended_and_what_is_over_is_not() {
        let (told, heard) = sync_channel(2);
        drop(Guard::start(Some(Arc::new(Told(told.clone()))), Duration::from_secs(3600)));
        let guard = Guard::start(Some(Arc::new(Told(told))), Duration::from_millis(1));
        assert_eq!(heard.recv().unwrap(), "its first runs took more than 0.001 s");
        drop(guard);
        // The first one's thread is over as well, and has said nothing.
        assert!(heard.recv().is_err());
    }
}
