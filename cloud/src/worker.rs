//! The worker's side of a guest: a process that serves one socket and nothing else. It has no async runtime, opens no
//! model's path, and ends with its pool.
//!
//! * `limits`: what it forbids itself before it reads anything. `lane`: one thread, one line. `meter`: memory of a run.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use millgate_shared::telemetry::{self, LogFormat};

use crate::guests::channel::Channel;
use crate::guests::message::Order;
use crate::guests::{ARGUMENT, MEMORY};
use lane::{Lane, Models};

mod lane;
mod limits;
mod meter;

/// The program of this process, as it was started, whatever has become of its file since.
pub const THIS_PROGRAM: &str = "/proc/self/exe";
/// Exit code of a worker that was not started by a pool.
const NO_POOL: u8 = 2;

/// Looks whether this process was started as a worker; if so, it works until its pool is gone, and gives the exit code. To
/// be called by a program that hands itself to [`crate::guests::Guests::new`], before it does anything else.
pub fn asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == ARGUMENT).then(|| match memory(arguments) {
        Some(memory) => work(memory),
        None => refuse("a worker is started by a pool, not by hand"),
    })
}

fn memory(mut arguments: impl Iterator<Item = OsString>) -> Option<u64> {
    (arguments.next()? == MEMORY).then(|| arguments.next()?.to_str()?.parse().ok())?
}

fn refuse(why: &str) -> ExitCode {
    telemetry::tell(&format!("millgate worker: {why}"));
    telemetry::flush();
    ExitCode::from(NO_POOL)
}

fn work(memory: u64) -> ExitCode {
    if let Err(error) = limits::set(memory) {
        return refuse(&format!("its limits cannot be set: {error}"));
    }
    telemetry::init("warn", LogFormat::Text);
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return refuse("there is no pool");
    };
    let mut control = Channel::new(UnixStream::from(control));
    let models = Arc::new(Models::default());
    // Its pool is gone once this fails: nothing that still runs may hold up the end.
    while let Ok((Order::Lane, Some(socket))) = control.receive::<Order>() {
        let lane = Lane::new(Channel::new(UnixStream::from(socket)), Arc::clone(&models));
        if let Err(error) = std::thread::Builder::new().name("lane".to_owned()).spawn(move || lane.serve()) {
            // The pool sees that this line is closed.
            tracing::error!(%error, "a lane could not be served");
        }
    }
    limits::end()
}
