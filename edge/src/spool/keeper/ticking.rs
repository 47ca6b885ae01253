//! The clocks of this device, and the file that keeps what is known of them over a restart.

use std::path::{Path, PathBuf};

use millgate_shared::{bounded, files};
use rustix::time::{ClockId, clock_gettime};

use super::{Millis, wall};
use crate::spool::age::Clock;

/// The file's name in the state directory.
const FILE_NAME: &str = "spool_clock.json";
/// Where Linux keeps the name of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Larger than the file ever is, in bytes.
const MOST_BYTES: u64 = 4096;

/// What is known of the time.
#[derive(Debug)]
pub(in crate::spool) struct Ticking {
    clock: Clock,
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    /// The file could not be written; said once.
    is_failing: bool,
}

impl Ticking {
    /// Goes on with what is kept in the state directory.
    pub(in crate::spool) fn kept(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE_NAME);
        let mut this = Self::begin(read(&path), Some(path));
        this.write();
        this
    }

    /// Begins anew, and keeps nothing.
    #[cfg(test)]
    pub(in crate::spool) fn unkept() -> Self {
        Self::begin(None, None)
    }

    fn begin(left: Option<Clock>, path: Option<PathBuf>) -> Self {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self { clock: Clock::begin(left, boot.trim(), uptime(), wall()), path, is_failing: false }
    }

    /// Looks at the clocks.
    pub(super) fn look(&mut self) {
        if self.clock.look(uptime(), wall()) {
            self.write();
        }
    }

    /// The time, if it is to be believed: milliseconds since 1970.
    pub(super) fn now(&self) -> Option<Millis> {
        self.clock.now(uptime())
    }

    fn write(&mut self) {
        let Some(path) = &self.path else { return };
        let written = serde_json::to_vec(&self.clock)
            .map_err(std::io::Error::from)
            .and_then(|text| files::replace(path, &text, files::PRIVATE));
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) if !std::mem::replace(&mut self.is_failing, true) => {
                tracing::warn!(path = %path.display(), %error, "what is known of the clock cannot be kept");
            }
            Err(_) => {}
        }
    }
}

/// What is left of an earlier run; one that cannot be read counts as absent, which only delays.
fn read(path: &Path) -> Option<Clock> {
    serde_json::from_slice(&bounded::read(path, MOST_BYTES).ok()?).ok()
}

/// Milliseconds since the boot, suspend included.
fn uptime() -> Millis {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec.saturating_mul(1000).saturating_add(since.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_kept_and_what_is_no_such_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ticking::kept(dir.path());
        assert!(first.now().is_none(), "nobody has shown anything yet");
        let path = dir.path().join(FILE_NAME);
        assert_eq!(read(&path), Some(first.clock));
        for bytes in [&b""[..], b"{}", &[b' '; 9000]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path), None);
        }
        assert!(Ticking::kept(dir.path()).now().is_none());
    }
}
