//! What a worker forbids itself.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{
    Resource, Rlimit, Signal, getpid, kill_process, set_parent_process_death_signal, setpriority_process,
    setrlimit,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// How much rather than others the kernel takes it where memory runs out; from -1000 to 1000.
const OOM_SCORE: &str = "500";
/// Its niceness, on the scale from -20 to 19: threads that talk go before threads that compute.
const NICENESS: i32 = 5;

/// Sets limits: `memory` bytes, no core files, an end with the pool.
pub(super) fn set(memory: u64) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let to = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Core, to(0))?;
    // Not the address space: engines reserve much of it that they never use.
    setrlimit(Resource::Data, to(memory))?;
    // What stops the pool may reach its workers too, from a terminal or a service manager; they work until it has drained.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    // Both are a help and no more.
    let _is_nice = setpriority_process(None, NICENESS).is_ok();
    let _goes_first = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE).is_ok();
    Ok(())
}

/// Ends this process at once: an engine's own end may wait for a run that has none.
pub(super) fn end() -> ExitCode {
    let ended = kill_process(getpid(), Signal::KILL);
    ExitCode::from(u8::from(ended.is_err()))
}
