//! The forwarder: for each direction a thread that reads packets into the line's queue and one that writes them out when
//! they have arrived.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tun_rs::SyncDevice;

use super::nat::{Nat, Rebind};
use super::packet::ends;
use super::pcap::Capture;
use super::way::{Counts, Way, Weather};

/// Longer than any packet of a TUN device.
const BUFFER: usize = 65_536;
/// A reader whose device has no address or is down tries again after this.
const PAUSE: Duration = Duration::from_millis(5);

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Both directions at work.
#[derive(Debug)]
pub(super) struct Forwarder {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    up: Half,
    down: Half,
    nat: Mutex<Nat>,
    capture: Mutex<Option<Capture>>,
    is_stopped: AtomicBool,
}

#[derive(Debug)]
struct Half {
    way: Mutex<Way<Vec<u8>>>,
    /// Something was pushed, or the weather has changed.
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    pub(super) fn start(
        agent: SyncDevice,
        pool: SyncDevice,
        nat: Nat,
        weather: Weather,
        seed: u64,
    ) -> io::Result<Self> {
        let half = |seed| Half { way: Mutex::new(Way::new(weather, seed)), changed: Condvar::new() };
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            up: half(seed),
            down: half(seed.wrapping_add(1)),
            nat: Mutex::new(nat),
            capture: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        });
        let (agent, pool) = (Arc::new(agent), Arc::new(pool));
        let mut threads = Vec::new();
        for (direction, from, to) in [(Direction::Up, &agent, &pool), (Direction::Down, &pool, &agent)] {
            let (reader, writer) = (Arc::clone(&shared), Arc::clone(&shared));
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            let named = |name: &str| std::thread::Builder::new().name(format!("line {name}"));
            threads.push(named("read").spawn(move || reader.read(&from, direction))?);
            threads.push(named("write").spawn(move || writer.write(&to, direction))?);
        }
        Ok(Self { shared, threads })
    }

    pub(super) fn change(&self, direction: Direction, change: impl FnOnce(&mut Weather)) {
        let half = self.shared.half(direction);
        let mut way = lock(&half.way);
        let mut weather = way.weather();
        change(&mut weather);
        way.set(self.shared.begun.elapsed(), weather);
        drop(way);
        half.changed.notify_all();
    }

    pub(super) fn weather(&self, direction: Direction) -> Weather {
        lock(&self.shared.half(direction).way).weather()
    }

    pub(super) fn counts(&self, direction: Direction) -> Counts {
        lock(&self.shared.half(direction).way).counts()
    }

    pub(super) fn rebind(&self, what: Rebind) {
        lock(&self.shared.nat).rebind(what);
    }

    pub(super) fn capture(&self, path: &Path) -> io::Result<()> {
        *lock(&self.shared.capture) = Some(Capture::create(path)?);
        Ok(())
    }

    pub(super) fn end_capture(&self) -> io::Result<()> {
        lock(&self.shared.capture).take().map_or(Ok(()), Capture::finish)
    }

    /// The threads end when their devices are gone, which the caller sees to between these two.
    pub(super) fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        self.shared.up.changed.notify_all();
        self.shared.down.changed.notify_all();
    }

    pub(super) fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _panicked = thread.join().is_err();
        }
    }
}

impl Shared {
    fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn read(&self, from: &SyncDevice, direction: Direction) {
        let mut buffer = vec![0; BUFFER];
        while !self.is_stopped() {
            match from.recv(&mut buffer) {
                Ok(len) => self.take(&buffer[..len], direction),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// A packet comes to the line. It is translated at once; a router would do it later, but no test can tell.
    fn take(&self, packet: &[u8], direction: Direction) {
        let mut packet = packet.to_vec();
        let mut nat = lock(&self.nat);
        let passes = match direction {
            Direction::Up => nat.outwards(&mut packet),
            Direction::Down => nat.inwards(&mut packet),
        };
        drop(nat);
        let Some(ends) = ends(&packet).filter(|_| passes) else { return };
        if let Some(capture) = &mut *lock(&self.capture) {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // A disk that is full ends the capture, not the line.
            let _full = capture.write(at, &packet).is_err();
        }
        let half = self.half(direction);
        let len = packet.len();
        lock(&half.way).push(self.begun.elapsed(), packet, len, ends.kind());
        half.changed.notify_all();
    }

    fn write(&self, to: &SyncDevice, direction: Direction) {
        let half = self.half(direction);
        let mut way = lock(&half.way);
        while !self.is_stopped() {
            let now = self.begun.elapsed();
            if let Some(packet) = way.pop(now) {
                drop(way);
                // A device that is down or gone takes nothing: the packet is lost, as on any line.
                let _lost = to.send(&packet).is_err();
                way = lock(&half.way);
                continue;
            }
            way = match way.next() {
                Some(at) => {
                    let wait = at.saturating_sub(now);
                    half.changed.wait_timeout(way, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => half.changed.wait(way).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
