//! One worker process: started, listened to, ended, waited for.
//!
//! Each has an attendant, a thread that starts it and lives as long as it does: the kernel ends a worker with the thread
//! that started it, so that none outlives its pool, and what it says on standard error is read by somebody.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use millgate_shared::engine::{Cause, Doing, Ending, EngineError};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::channel::{Channel, ChannelError};
use super::config::Limits;
use super::message::Order;
use super::said::Said;

/// First argument by which a program is asked to be a worker.
pub(crate) const ARGUMENT: &str = "worker";
/// Argument that says how many bytes it may take.
pub(crate) const MEMORY: &str = "--memory";

/// What a worker is told of its surroundings. Everything else stays with the pool: model code needs no secrets.
const ENVIRONMENT: [&str; 7] =
    ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "MILLGATE_LOG", "TZ"];
/// Beginnings of names by which engines and their accelerators are set.
const ENGINES: [&str; 4] = ["CUDA_", "NVIDIA_", "ORT_", "OMP_"];

/// The stack of an attendant.
const STACK: usize = 256 << 10;
/// The end of a process is known so much later than its line is closed, at most; one that lives on has closed it itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// A worker process. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Process {
    /// By which processes are told apart; every start has another.
    pub(super) number: u64,
    control: Mutex<Channel>,
    life: Arc<Life>,
}

/// What is known of a process by those who hold it and by its attendant.
#[derive(Debug)]
struct Life {
    started: Instant,
    memory: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// Why it was ended from here.
    reason: Option<Cause>,
    /// Number of the model for whose run it was ended.
    culprit: Option<u64>,
    /// Runs that are inside, by their models' numbers.
    inside: BTreeMap<u64, usize>,
    end: Option<End>,
}

/// A run that is inside a process, until this is dropped.
#[derive(Debug)]
pub(super) struct Inside {
    life: Arc<Life>,
    model: u64,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = self.life.lock();
        if let Some(runs) = state.inside.get_mut(&self.model) {
            *runs -= 1;
            if *runs == 0 {
                state.inside.remove(&self.model);
            }
        }
    }
}

/// How it ended.
#[derive(Debug, Clone)]
struct End {
    at: Instant,
    cause: Cause,
    said: String,
    /// The model that is to blame, if that is known: it was ended for one of its runs, or no others were inside.
    culprit: Option<u64>,
}

/// What it takes to start one.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    /// Whose process it is, for the log.
    pub(super) name: &'a str,
    pub(super) number: u64,
    pub(super) limits: Limits,
}

impl Process {
    /// Starts a process. `ended` is called once it has ended, on its attendant's thread, with the cause.
    pub(super) fn start(
        start: &Start<'_>,
        ended: impl FnOnce(&Cause) + Send + 'static,
    ) -> Result<Self, EngineError> {
        let refuse =
            |why: String| EngineError::Ended(Ending::new(Cause::NotStarted(why), Doing::Starting, 0));
        let (ours, theirs) = UnixStream::pair().map_err(|error| refuse(error.to_string()))?;
        let mut command = command(start, theirs.into());
        let life = Arc::new(Life {
            started: Instant::now(),
            memory: start.limits.memory,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let (begun, has_begun) = mpsc::sync_channel(1);
        let (name, theirs) = (start.name.to_owned(), Arc::clone(&life));
        let thread = std::thread::Builder::new().name("guest".to_owned()).stack_size(STACK);
        let attendant = thread.spawn(move || {
            let spawned = command.spawn();
            // It holds our copy of the worker's end.
            drop(command);
            match spawned {
                Ok(child) => {
                    // Whoever waits for this is still there.
                    let _was_heard = begun.send(Ok(())).is_ok();
                    ended(&attend(child, &name, &theirs));
                }
                Err(error) => {
                    let _was_heard = begun.send(Err(error.to_string())).is_ok();
                }
            }
        });
        attendant.map_err(|error| refuse(error.to_string()))?;
        let began = has_begun.recv().unwrap_or_else(|_| Err("its attendant is gone".to_owned()));
        began.map_err(refuse)?;
        Ok(Self { number: start.number, control: Mutex::new(Channel::new(ours)), life })
    }

    /// Opens one more line to it; each is served by a thread of its own there.
    pub(super) fn lane(&self) -> Result<Channel, ChannelError> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.send(&Order::Lane, Some(theirs.as_fd()))?;
        Ok(Channel::new(ours))
    }

    /// Notes a run of a model that is inside, until what this gives is dropped.
    pub(super) fn enter(&self, model: u64) -> Inside {
        *self.life.lock().inside.entry(model).or_default() += 1;
        Inside { life: Arc::clone(&self.life), model }
    }

    /// Ends it now, for this reason, unless it has ended or there is a reason already.
    pub(super) fn end(&self, reason: Cause) {
        self.life.end(reason, None);
    }

    /// Ends it as [`Self::end`] does, for a run of this model.
    pub(super) fn end_for(&self, model: u64, reason: Cause) {
        self.life.end(reason, Some(model));
    }

    /// Ends it for an answer that makes no sense, and says so.
    pub(super) fn nonsense(&self, what: String, doing: Doing) -> EngineError {
        self.end(Cause::Nonsense(what));
        EngineError::Ended(self.ending(&ChannelError::Closed, doing))
    }

    /// Whether the end of the process is another model's doing, or nobody knows whose.
    pub(super) fn is_anothers(&self, model: u64) -> bool {
        self.life.lock().end.as_ref().is_some_and(|end| end.culprit != Some(model))
    }

    /// When it ended and how long it lived, once it has.
    pub(super) fn has_ended(&self) -> Option<(Instant, Duration)> {
        let at = self.life.lock().end.as_ref()?.at;
        Some((at, at.saturating_duration_since(self.life.started)))
    }

    /// Waits until it has ended, and says how. `error`: what was seen of it, for which it is ended if it has not.
    pub(super) fn ending(&self, error: &ChannelError, doing: Doing) -> Ending {
        if !matches!(error, ChannelError::Closed) {
            self.end(Cause::Nonsense(error.to_string()));
        }
        let End { cause, said, .. } = self.life.wait();
        Ending { said, ..Ending::new(cause, doing, self.number) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.life.end(Cause::Ended("nobody needs it any more".to_owned()), None);
    }
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, reason: Cause, culprit: Option<u64>) {
        let mut state = self.lock();
        if state.end.is_none() && state.reason.is_none() {
            (state.reason, state.culprit) = (Some(reason), culprit);
        }
        // Its attendant takes the child away only when it has ended, under this lock.
        if let Some(child) = &mut state.child
            && let Err(error) = child.kill()
        {
            tracing::warn!(%error, "a model's process could not be ended");
        }
    }

    /// Takes the child in, and ends it at once where somebody has said so before it was there.
    fn take_in(&self, mut child: Child) {
        let mut state = self.lock();
        if state.reason.is_some()
            && let Err(error) = child.kill()
        {
            tracing::warn!(%error, "a model's process could not be ended");
        }
        state.child = Some(child);
    }

    fn wait(&self) -> End {
        let mut state = self.lock();
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = &state.end {
                return end.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.end(Cause::Nonsense(ChannelError::Closed.to_string()), None);
                deadline = Instant::now() + PATIENCE;
                state = self.lock();
                continue;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn command(start: &Start<'_>, control: OwnedFd) -> Command {
    let mut command = Command::new(start.program);
    command.arg(ARGUMENT).arg(MEMORY).arg(start.limits.memory.to_string());
    // The only descriptors that it gets; all others of this process close when another program begins.
    command.stdin(Stdio::from(control)).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env_clear();
    let is_wanted = |name: &OsString| {
        let name = name.to_string_lossy();
        ENVIRONMENT.contains(&&*name) || ENGINES.iter().any(|beginning| name.starts_with(beginning))
    };
    command.envs(std::env::vars_os().filter(|(name, _)| is_wanted(name)));
    command
}

/// Reads what a worker says until it has ended, and notes how.
fn attend(mut child: Child, name: &str, life: &Life) -> Cause {
    let pid = child.id();
    tracing::debug!(guest = name, pid, "a model's process was started");
    let errors = child.stderr.take();
    life.take_in(child);
    let said = errors.map(|errors| Said::listen(errors, name)).unwrap_or_default();
    // It is looked at before it is taken away: until then nobody else has its number, and it can be ended by it.
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(number) = number {
        let ended = || waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while ended().is_err_and(|error| error == rustix::io::Errno::INTR) {}
    }
    let mut state = life.lock();
    let status = state.child.take().map(|mut child| child.wait());
    let of_status = match status {
        Some(Ok(status)) => cause(status, &said, life.memory),
        Some(Err(error)) => Cause::Nonsense(format!("cannot be waited for: {error}")),
        None => Cause::Nonsense("is not there".to_owned()),
    };
    let cause = state.reason.clone().unwrap_or(of_status);
    let alone = || state.inside.keys().next().copied().filter(|_| state.inside.len() == 1);
    let culprit = state.culprit.or_else(alone);
    state.end = Some(End { at: Instant::now(), cause: cause.clone(), said: said.last, culprit });
    drop(state);
    life.changed.notify_all();
    tracing::debug!(guest = name, pid, %cause, "a model's process has ended");
    cause
}

/// Text by which Rust's and C++'s allocators say that they got no memory, before they abort.
const OUT_OF_MEMORY: [&str; 2] = ["memory allocation of ", "std::bad_alloc"];

fn cause(status: ExitStatus, said: &Said, memory: u64) -> Cause {
    match (status.signal(), status.code()) {
        (Some(_), _) if OUT_OF_MEMORY.iter().any(|text| said.last.contains(text)) => Cause::Memory(memory),
        (Some(signal), _) => Cause::Signal(signal),
        (None, code) => Cause::Exit(code.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that is no worker: it is given the socket as its standard input all the same.
    fn start(script: &str) -> (Process, mpsc::Receiver<Cause>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let limits = super::super::config::GuestsConfig::default().limits();
        let (told, ended) = mpsc::sync_channel(1);
        let start = Start { program: &program, name: "test", number: 1, limits };
        let process = Process::start(&start, move |cause| told.send(cause.clone()).unwrap()).unwrap();
        (process, ended, dir)
    }

    #[test]
    fn the_end_of_a_process_is_known_with_its_reason() {
        let (process, ended, _dir) = start("echo 'not my day' >&2; kill -SEGV $$");
        assert_eq!(ended.recv().unwrap(), Cause::Signal(11));
        let ending = process.ending(&ChannelError::Closed, Doing::Loading);
        assert_eq!((ending.cause, ending.said.as_str()), (Cause::Signal(11), "not my day"));
        assert!(process.has_ended().is_some());
        let (_process, ended, _dir) = start("exit 7");
        assert_eq!(ended.recv().unwrap(), Cause::Exit(7));
        let (_process, ended, _dir) = start("echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$");
        assert!(matches!(ended.recv().unwrap(), Cause::Memory(_)));
    }

    #[test]
    fn it_is_ended_from_outside_with_the_first_reason_and_with_its_handle() {
        let (process, ended, _dir) = start("exec sleep 1000");
        process.end(Cause::Ended("too slow".to_owned()));
        process.end(Cause::Ended("another reason".to_owned()));
        assert_eq!(ended.recv().unwrap(), Cause::Ended("too slow".to_owned()));
        let ending = process.ending(&ChannelError::Closed, Doing::Running);
        assert_eq!(ending.cause, Cause::Ended("too slow".to_owned()));
        let (process, ended, _dir) = start("exec sleep 1000");
        drop(process);
        assert_eq!(ended.recv().unwrap(), Cause::Ended("nobody needs it any more".to_owned()));
    }

    #[test]
    fn whoever_is_alone_inside_or_is_ended_for_itself_is_to_blame() {
        let (process, ended, _dir) = start("exec sleep 1000");
        let (_one, _two) = (process.enter(1), process.enter(1));
        process.end(Cause::Signal(11));
        ended.recv().unwrap();
        assert!(!process.is_anothers(1) && process.is_anothers(2));
        let (process, ended, _dir) = start("exec sleep 1000");
        let (_one, two) = (process.enter(1), process.enter(2));
        drop(two);
        let _two = process.enter(2);
        process.end(Cause::Signal(11));
        ended.recv().unwrap();
        assert!(process.is_anothers(1) && process.is_anothers(2), "nobody knows which it was");
        let (process, ended, _dir) = start("exec sleep 1000");
        let (_one, _two) = (process.enter(1), process.enter(2));
        process.end_for(2, Cause::Ended("too slow".to_owned()));
        ended.recv().unwrap();
        assert!(process.is_anothers(1) && !process.is_anothers(2));
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        let limits = super::super::config::GuestsConfig::default().limits();
        let start = Start { program: Path::new("/nowhere/at/all"), name: "test", number: 1, limits };
        let error = Process::start(&start, |_| ()).unwrap_err().to_string();
        assert!(error.contains("could not be started: No such file"), "{error}");
    }
}
