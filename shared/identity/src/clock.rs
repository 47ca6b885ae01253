//! The time that certificates are judged by: the system's clock, but never earlier than what is certainly past.
//!
//! A device without a battery-backed clock starts in 1970 and would find every certificate not valid yet. What is
//! certainly past: the day this program was built, the beginning of the device's own certificate, the beginning of any
//! certificate that a trusted authority has signed, and the time that has gone by since any of them was learnt. That is
//! kept on disk. The system's clock is never kept, not even while handshakes succeed by it: one that once stood months
//! ahead would otherwise spoil every handshake after it was set right.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millgate_base::{bounded, files};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// Least progress of the floor that is worth a write.
const STEP: Duration = Duration::from_secs(3600);

/// Clock that is never behind a floor: a time that has certainly passed. Shared between threads.
#[derive(Debug)]
pub struct Floor {
    system: fn() -> SystemTime,
    path: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Time that had certainly passed at that instant. It has gone on since, whatever the system's clock does.
    floor: SystemTime,
    at: Instant,
    /// Floor that the file holds; `None` if nothing is kept or the file could not be read.
    kept: Option<SystemTime>,
}

impl Known {
    fn by_now(&self) -> SystemTime {
        self.floor + self.at.elapsed()
    }
}

impl Floor {
    /// Makes a clock whose floor is the day of the build; nothing is kept.
    pub fn unkept() -> Self {
        Self::with_system(None, SystemTime::now)
    }

    /// Makes a clock whose floor is kept in a file. A file that cannot be read counts as absent.
    pub fn kept(path: &Path) -> Self {
        Self::with_system(Some(path), SystemTime::now)
    }

    /// Makes a clock that takes `system` for the system's: a device whose clock is wrong.
    pub fn with_system(path: Option<&Path>, system: fn() -> SystemTime) -> Self {
        let kept = path.and_then(|path| {
            let text = bounded::read_to_string(path, bounded::RECORD).ok()?;
            let seconds = text.trim().parse().ok();
            if seconds.is_none() {
                tracing::warn!(path = %path.display(), "the last known time is unreadable, and is left out");
            }
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds?))
        });
        let floor = kept.map_or(built(), |kept| kept.max(built()));
        Self {
            system,
            path: path.map(Path::to_owned),
            known: Mutex::new(Known { floor, at: Instant::now(), kept }),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> SystemTime {
        (self.system)().max(self.floor())
    }

    /// Time that has certainly passed.
    pub fn floor(&self) -> SystemTime {
        self.known().by_now()
    }

    /// Time by which the system's clock is behind the floor; `None` if it is not.
    pub fn behind(&self) -> Option<Duration> {
        self.floor().duration_since((self.system)()).ok().filter(|behind| !behind.is_zero())
    }

    /// Raises the clock's floor to `time`, which has certainly passed. The floor never falls.
    pub fn raise(&self, time: SystemTime) {
        let mut known = self.known();
        if time > known.by_now() {
            (known.floor, known.at) = (time, Instant::now());
        }
    }

    /// Writes the floor to its file if it has risen by enough to be worth it. Blocks.
    pub fn keep(&self) -> std::io::Result<()> {
        let (Some(path), floor, kept) = (&self.path, self.floor(), self.known().kept) else { return Ok(()) };
        if kept.is_some_and(|kept| floor < kept + STEP) {
            return Ok(());
        }
        let seconds = floor.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        files::replace(path, format!("{seconds}\n").as_bytes(), files::PUBLIC)?;
        self.known().kept = Some(floor);
        Ok(())
    }
}

impl TimeProvider for Floor {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.now().duration_since(UNIX_EPOCH).ok()?))
    }
}

/// Time at which this program was built.
pub fn built() -> SystemTime {
    let seconds = env!("MILLGATE_BUILT").parse().unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_device_that_wakes_up_in_1970_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let in_1970 = || Floor::with_system(Some(&path), || UNIX_EPOCH + DAY);
        let clock = in_1970();
        assert!(clock.now() >= built() && clock.behind().is_some());
        let later = built() + 400 * DAY;
        clock.raise(later);
        clock.raise(built());
        // Time goes on.
        let about = |clock: &Floor, time: SystemTime| clock.now() >= time && clock.now() < time + STEP / 4;
        assert!(about(&clock, later));
        clock.keep().unwrap();
        assert!(about(&in_1970(), later));
        // Little progress is not worth a write, much is.
        clock.raise(later + STEP / 2);
        clock.keep().unwrap();
        assert!(about(&in_1970(), later));
        clock.raise(later + 2 * STEP);
        clock.keep().unwrap();
        assert!(about(&in_1970(), later + 2 * STEP));
        std::fs::write(&path, "\0\0\0").unwrap();
        assert!(about(&in_1970(), built()));
    }

    #[test]
    fn the_floor_never_sinks_whoever_raises_it() {
        let clock = Floor::with_system(None, || UNIX_EPOCH);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let clock = &clock;
                scope.spawn(move || {
                    for step in 0..2000u32 {
                        let time = built() + DAY * (step * 4 + thread);
                        clock.raise(time);
                        assert!(clock.floor() >= time);
                    }
                });
            }
        });
    }

    #[test]
    fn a_clock_that_is_right_counts() {
        let clock = Floor::unkept();
        assert!(clock.behind().is_none());
        assert!(clock.now() + DAY > SystemTime::now());
        clock.keep().unwrap();
    }
}
