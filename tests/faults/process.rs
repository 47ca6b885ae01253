//! A real process that is started, killed, stopped, and started again when it ends by itself, as systemd would.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// `RestartSec` of the shipped unit, about.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// A stop that takes longer is a kill.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// How it is started anew each time.
type Make = Box<dyn Fn() -> Command + Send>;

pub struct Process {
    name: &'static str,
    make: Make,
    log: PathBuf,
    child: Option<Child>,
    is_wanted: bool,
    stopping_until: Option<Instant>,
    restart_at: Option<Instant>,
    pub counts: Counts,
}

#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub started: usize,
    pub killed: usize,
    pub stopped: usize,
    /// Ended by itself: exit codes.
    pub ended: Vec<Option<i32>>,
    /// Did not stop in time.
    pub overran: usize,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Process {
    pub fn new(name: &'static str, log: &Path, make: impl Fn() -> Command + Send + 'static) -> Self {
        Self {
            name,
            make: Box::new(make),
            log: log.to_path_buf(),
            child: None,
            is_wanted: false,
            stopping_until: None,
            restart_at: None,
            counts: Counts::default(),
        }
    }

    pub fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(Pid::from_child)
    }

    /// Starts it, unless it runs; one that is still stopping is waited for.
    pub fn start(&mut self) -> io::Result<()> {
        while self.stopping_until.is_some() {
            self.look()?;
            std::thread::sleep(LOOK);
        }
        self.is_wanted = true;
        if self.child.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = (self.make)();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        self.restart_at = None;
        self.counts.started += 1;
        Ok(())
    }

    /// Lets the process end at any time from now on; it is not started again before [`Process::start`].
    pub fn let_go(&mut self) {
        self.is_wanted = false;
        self.restart_at = None;
    }

    /// kill -9.
    pub fn kill(&mut self) -> io::Result<()> {
        self.let_go();
        self.stopping_until = None;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
            self.counts.killed += 1;
        }
        Ok(())
    }

    /// SIGTERM; does not wait.
    pub fn stop(&mut self) -> io::Result<()> {
        self.let_go();
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::TERM)?;
            self.stopping_until = Some(Instant::now() + STOP_WITHIN);
            self.counts.stopped += 1;
        }
        Ok(())
    }

    /// To be called often: reaps, kills what overruns its stop, starts again what ended by itself.
    pub fn look(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            if self.stopping_until.take().is_none() && self.is_wanted {
                self.counts.ended.push(status.code());
                self.restart_at = Some(Instant::now() + RESTART_AFTER);
            }
        }
        if self.stopping_until.is_some_and(|until| Instant::now() > until) {
            self.counts.overran += 1;
            self.kill()?;
        }
        if self.restart_at.is_some_and(|at| Instant::now() >= at) {
            self.start()?;
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.kill().is_err();
    }
}
