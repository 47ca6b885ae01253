//! The threads that run models, behind one bounded queue.
//!
//! Async code hands work over and awaits its result. A full queue is refused at once; work whose caller has gone is
//! dropped before it costs anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::runner::{Models, RunError, Runner};

type Job = Box<dyn FnOnce(&mut Runner) + Send>;

/// Handle to the model threads. Cheap to clone; the threads end when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Workers {
    models: Arc<Models>,
    jobs: Sender<Job>,
    threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    #[error("the queue of {capacity} is full")]
    Full { capacity: usize },
    #[error("the workers have stopped")]
    Stopped,
    #[error("the work panicked; the log says more")]
    Panicked,
}

/// Facts that a piece of work knows of itself when it starts.
#[derive(Debug, Clone, Copy)]
pub struct Ticket<'a> {
    /// Time spent in the queue.
    pub queued: Duration,
    caller: &'a dyn Caller,
}

trait Caller: std::fmt::Debug {
    fn is_gone(&self) -> bool;
}

impl<T: std::fmt::Debug> Caller for oneshot::Sender<T> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

impl Ticket<'_> {
    /// True if nobody waits for the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.caller.is_gone()
    }
}

impl Workers {
    /// Starts `threads` threads, each with a runner of its own, behind a queue of `queue` jobs.
    pub fn start(models: &Arc<Models>, threads: usize, queue: usize) -> Result<Self, RunError> {
        let (jobs, receiver) = bounded::<Job>(queue.max(1));
        let threads = threads.max(1);
        for _ in 0..threads {
            let runner = models.runner()?;
            let receiver = receiver.clone();
            std::thread::spawn(move || work(runner, &receiver));
        }
        Ok(Self { models: Arc::clone(models), jobs, threads })
    }

    pub fn models(&self) -> &Arc<Models> {
        &self.models
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Number of jobs that wait.
    pub fn queued(&self) -> usize {
        self.jobs.len()
    }

    /// Runs `work` on a model thread. Dropping the future cancels it if it has not begun; once it has, it can ask its
    /// [`Ticket`].
    pub async fn run<T, F>(&self, work: F) -> Result<T, WorkError>
    where
        T: Send + std::fmt::Debug + 'static,
        F: FnOnce(&mut Runner, Ticket<'_>) -> T + Send + 'static,
    {
        let (reply, result) = oneshot::channel::<T>();
        let queued = Instant::now();
        let has_begun = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_begun);
        let job: Job = Box::new(move |runner| {
            if reply.is_closed() {
                return;
            }
            begun.store(true, Ordering::Relaxed);
            let ticket = Ticket { queued: queued.elapsed(), caller: &reply };
            let value = work(runner, ticket);
            // The caller may have gone meanwhile.
            let _gone = reply.send(value).is_err();
        });
        // What has begun and gives nothing has not been stopped: threads end between two jobs.
        let lost = |_| match has_begun.load(Ordering::Relaxed) {
            true => WorkError::Panicked,
            false => WorkError::Stopped,
        };
        match self.jobs.try_send(job) {
            Ok(()) => result.await.map_err(lost),
            Err(TrySendError::Full(_)) => {
                Err(WorkError::Full { capacity: self.jobs.capacity().unwrap_or_default() })
            }
            Err(TrySendError::Disconnected(_)) => Err(WorkError::Stopped),
        }
    }
}

fn work(mut runner: Runner, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut runner)));
        if ran.is_err() {
            tracing::error!("a job panicked; its caller gets an error, the worker goes on");
        }
    }
}
