//! How the process that runs a model ended, in words that its owner can act on.

use std::fmt;
use std::time::Duration;

/// The end of a process, and what it did when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub cause: Cause,
    pub doing: Doing,
    /// The last that it said on standard error; empty if it said nothing.
    pub said: String,
    /// Number of the process among those of its pool; 0 where none was started.
    pub process: u64,
    /// Runs of other models were inside too, or it was ended for one of these: nobody knows, or somebody else is to blame.
    pub is_anothers: bool,
}

impl Ending {
    /// The end of a process of this number.
    pub fn new(cause: Cause, doing: Doing, process: u64) -> Self {
        Self { cause, doing, said: String::new(), process, is_anothers: false }
    }

    /// Whether what this model did has ended the process.
    pub fn is_its_own(&self) -> bool {
        self.cause.is_its_own() && !self.is_anothers
    }
}

/// What a process did when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Starting,
    Loading,
    Running,
}

impl Doing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Running => "running",
        }
    }
}

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel ended it by this signal.
    Signal(i32),
    /// Memory ran out: more was asked for than this limit, in bytes, leaves.
    Memory(u64),
    /// Somebody ended it from outside, for this reason: "it took more than 60 s".
    Ended(String),
    /// The process ended itself, with this exit code.
    Exit(i32),
    /// What it said made no sense, and it was ended for that.
    Nonsense(String),
    /// No process could be started.
    NotStarted(String),
    /// Too many ended in a row, and none is started for this long.
    Resting(Duration),
}

impl Cause {
    /// Whether what the model did has ended it. What kills from outside, or takes memory that others want, is not held
    /// against a model.
    pub fn is_its_own(&self) -> bool {
        match self {
            Self::Signal(signal) => !FROM_OUTSIDE.contains(signal),
            Self::Memory(_) | Self::Ended(_) | Self::Exit(_) | Self::Nonsense(_) => true,
            Self::NotStarted(_) | Self::Resting(_) => false,
        }
    }

    /// Name of the kind in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Signal(_) => "signal",
            Self::Memory(_) => "memory",
            Self::Ended(_) => "ended",
            Self::Exit(_) => "exit",
            Self::Nonsense(_) => "nonsense",
            Self::NotStarted(_) => "not_started",
            Self::Resting(_) => "resting",
        }
    }

    /// Every name that [`Cause::name`] gives to a process that has run.
    pub const NAMES: [&'static str; 5] = ["signal", "memory", "ended", "exit", "nonsense"];
}

/// Signals that end a process, by number and name; the numbers are those of Linux.
const SIGNALS: [(i32, &str); 12] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];
/// Signals by which others end a process: SIGHUP, SIGINT, SIGKILL, SIGTERM.
const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];
/// The signal by which the kernel makes room where memory runs out.
const KILL: i32 = 9;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => {
                let name = SIGNALS.iter().find(|(known, _)| known == number).map(|(_, name)| *name);
                write!(f, "was ended by signal {number}")?;
                match name {
                    Some(name) if *number == KILL => {
                        write!(f, " ({name}), as the kernel does where memory runs out")
                    }
                    Some(name) => write!(f, " ({name})"),
                    None => Ok(()),
                }
            }
            Self::Memory(limit) => write!(f, "needed more than {} MiB of memory", limit >> 20),
            Self::Ended(why) => write!(f, "was ended: {why}"),
            Self::Exit(code) => write!(f, "ended itself with exit code {code}"),
            Self::Nonsense(what) => write!(f, "was ended, since it {what}"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::Resting(pause) => {
                write!(f, "ended again and again, and is started again in {} s", pause.as_secs() + 1)
            }
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model's process {}", self.cause)?;
        match self.cause {
            Cause::NotStarted(_) | Cause::Resting(_) | Cause::Ended(_) => {}
            _ => write!(f, " while {} it", self.doing.as_str())?,
        }
        match self.said.as_str() {
            "" => Ok(()),
            said => write!(f, "; it said: {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_says_what_ended_it_and_when() {
        let ending = |cause, doing, said: &str| {
            Ending { said: said.to_owned(), ..Ending::new(cause, doing, 1) }.to_string()
        };
        assert_eq!(
            ending(Cause::Signal(8), Doing::Loading, ""),
            "the model's process was ended by signal 8 (SIGFPE) while loading it"
        );
        assert_eq!(
            ending(Cause::Memory(2 << 30), Doing::Running, "no memory"),
            "the model's process needed more than 2048 MiB of memory while running it; it said: no memory"
        );
        assert_eq!(
            ending(Cause::Ended("it took more than 60 s".to_owned()), Doing::Running, ""),
            "the model's process was ended: it took more than 60 s"
        );
        assert!(ending(Cause::Signal(9), Doing::Running, "").contains("where memory runs out"));
        assert!(ending(Cause::Signal(40), Doing::Running, "").contains("signal 40 while"));
        assert_eq!(
            ending(Cause::Resting(Duration::from_millis(1500)), Doing::Starting, ""),
            "the model's process ended again and again, and is started again in 2 s"
        );
    }
}
