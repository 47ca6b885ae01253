//! What a machine runs short of: descriptors of a process that runs, and places at the pool's door.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, getrlimit};

/// A process that can open nothing more, until this is dropped.
#[derive(Debug)]
pub struct Starved {
    pid: Pid,
    /// What it may open otherwise.
    most: u64,
}

impl Starved {
    /// Takes all descriptors that it has not opened yet; `None` where it has just ended, or where its limit cannot be set.
    pub fn of(pid: Pid) -> io::Result<Option<Self>> {
        let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) else {
            return Ok(None);
        };
        let open = open.count() as u64;
        // What a process that we started may have at most is what we may.
        let Some(most) = getrlimit(Resource::Nofile).maximum else { return Ok(None) };
        Ok(limit(pid, open).then_some(Self { pid, most }))
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        let _ended = limit(self.pid, self.most);
    }
}

/// Sets how many files a process may open. It is done as the process's own user: not every root may do it to others.
fn limit(pid: Pid, files: u64) -> bool {
    let pid = pid.as_raw_nonzero();
    let Ok(owner) = std::fs::metadata(format!("/proc/{pid}")) else { return false };
    let mut command = Command::new("prlimit");
    command.args([format!("--pid={pid}"), format!("--nofile={files}:")]);
    if rustix::process::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Connections at once; more than a door leaves to one address, and few enough for this process.
const AT_ONCE: usize = 300;
/// Pause between two: 500 a second.
const PAUSE: Duration = Duration::from_millis(2);
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// Connections that say nothing, ever new ones, until this is dropped.
#[derive(Debug)]
pub struct Silent {
    is_over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Silent {
    pub fn at(pool: SocketAddr) -> Self {
        let (is_over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (Arc::clone(&is_over), Arc::clone(&made));
        let thread = std::thread::spawn(move || {
            let mut held = VecDeque::with_capacity(AT_ONCE);
            while !stop.load(Ordering::SeqCst) {
                // A pool that is down or full refuses; that is no matter.
                if let Ok(connection) = TcpStream::connect_timeout(&pool, CONNECT_WITHIN) {
                    count.fetch_add(1, Ordering::SeqCst);
                    if held.len() == AT_ONCE {
                        held.pop_front();
                    }
                    held.push_back(connection);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { is_over, made, thread: Some(thread) }
    }

    /// Ends it, and gives how many there were.
    pub fn end(mut self) -> usize {
        self.stop();
        self.made.load(Ordering::SeqCst)
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err();
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.stop();
    }
}
