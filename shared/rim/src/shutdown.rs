//! Tasks that drain: spawned through [`Tasks`], told to stop by one token, waited for within a grace time. And what tells
//! a process to: its signals.

use std::future::Future;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
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

    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Token that is cancelled when it is time to stop.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tells the tasks to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Tells the tasks to stop and waits for them at most `grace`. Gives the number of those that had not ended by
    /// then.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.stop();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

/// Request of the system to the process, made by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM, SIGINT or SIGQUIT: drain and end.
    Stop(&'static str),
    /// SIGHUP: read again what can be read again.
    Reload,
    /// A signal that would end a process that does not know it, and that says nothing here.
    Nothing(&'static str),
}

/// Listener for the signals that would otherwise end the process in the middle of its work. From [`Signals::listen`]
/// on none of them does; SIGPIPE is ignored by every Rust program.
#[derive(Debug)]
pub struct Signals {
    heard: Vec<(Signal, Asked)>,
}

impl Signals {
    /// Starts to listen. Must be called within a tokio runtime; an error says which the system refuses.
    pub fn listen() -> io::Result<Self> {
        let kinds = [
            (SignalKind::terminate(), Asked::Stop("SIGTERM")),
            (SignalKind::interrupt(), Asked::Stop("SIGINT")),
            (SignalKind::quit(), Asked::Stop("SIGQUIT")),
            (SignalKind::hangup(), Asked::Reload),
            (SignalKind::user_defined1(), Asked::Nothing("SIGUSR1")),
            (SignalKind::user_defined2(), Asked::Nothing("SIGUSR2")),
            (SignalKind::alarm(), Asked::Nothing("SIGALRM")),
            (SignalKind::io(), Asked::Nothing("SIGIO")),
            // A file that would grow over its limit: the write then fails as on a full disk, and is tried again as there.
            (SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()), Asked::Nothing("SIGXFSZ")),
        ];
        let heard = kinds.into_iter().map(|(kind, asked)| Ok((signal(kind)?, asked)));
        Ok(Self { heard: heard.collect::<io::Result<_>>()? })
    }

    /// Waits for the next signal. Cancel-safe.
    pub async fn next(&mut self) -> Asked {
        std::future::poll_fn(|cx| {
            for (signal, asked) in &mut self.heard {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(*asked);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for a signal to stop, and gives its name. A signal that means nothing here is logged, and so is a reload
    /// that nobody waits for. Cancel-safe.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Asked::Stop(signal) => return signal,
                Asked::Reload => {
                    tracing::info!(
                        signal = "SIGHUP",
                        "a reload is ignored: nothing is read again at the moment"
                    )
                }
                Asked::Nothing(signal) => ignored(signal),
            }
        }
    }
}

/// Logs that a signal was ignored.
pub fn ignored(signal: &str) {
    tracing::info!(signal, "means nothing here; ignored");
}

/// Waits for SIGTERM, SIGINT, SIGQUIT or SIGHUP: for a program that is worth nothing without its terminal.
pub async fn signal_or_hang_up() -> io::Result<()> {
    let mut signals = Signals::listen()?;
    loop {
        match signals.next().await {
            Asked::Stop(_) | Asked::Reload => return Ok(()),
            Asked::Nothing(signal) => ignored(signal),
        }
    }
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
    /// One test for all of them: signals are the whole process's.
    #[tokio::test]
    async fn no_signal_ends_the_process_and_each_is_told_apart() {
        use rustix::process::{Signal, getpid, kill_process};
        let mut signals = Signals::listen().unwrap();
        for (sent, asked) in [
            (Signal::HUP, Asked::Reload),
            (Signal::USR1, Asked::Nothing("SIGUSR1")),
            (Signal::USR2, Asked::Nothing("SIGUSR2")),
            (Signal::ALARM, Asked::Nothing("SIGALRM")),
            (Signal::IO, Asked::Nothing("SIGIO")),
            (Signal::XFSZ, Asked::Nothing("SIGXFSZ")),
            (Signal::QUIT, Asked::Stop("SIGQUIT")),
            (Signal::TERM, Asked::Stop("SIGTERM")),
            (Signal::INT, Asked::Stop("SIGINT")),
        ] {
            kill_process(getpid(), sent).unwrap();
            assert_eq!(signals.next().await, asked);
        }
        // One to stop is heard behind those that say nothing.
        kill_process(getpid(), Signal::USR1).unwrap();
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(signals.stop().await, "SIGINT");
    }
}
