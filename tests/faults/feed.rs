//! The camera: writes numbered pictures into the watched folder at a steady pace, every third into a folder below it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Recorded, naming};

/// The folder below the watched one.
pub const BELOW: &str = "line2";

/// Permission bits of a file that nobody but root may read, and of one that everybody may.
const NOBODY: u32 = 0;
const EVERYBODY: u32 = 0o644;

/// Where the next picture goes. Whoever holds it keeps the camera waiting, so that nothing moves under it.
#[derive(Debug, Default)]
pub struct Places {
    /// The folder below is away.
    pub is_away: bool,
    /// Files get their rights later.
    pub hides: bool,
    hidden: Vec<PathBuf>,
}

impl Places {
    /// Gives all that was hidden so far its rights.
    pub fn show(&mut self) -> io::Result<()> {
        self.hides = false;
        for path in self.hidden.drain(..) {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(EVERYBODY))?;
        }
        Ok(())
    }
}

/// Writes until it is stopped.
#[derive(Debug)]
pub struct Feed {
    written: Arc<Mutex<Vec<String>>>,
    places: Arc<Mutex<Places>>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Feed {
    pub fn start(folder: &Path, pictures: Vec<Recorded>, pause: Duration) -> Self {
        let (written, is_stopped) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (names, stop, folder) = (Arc::clone(&written), Arc::clone(&is_stopped), folder.to_path_buf());
        let places = Arc::<Mutex<Places>>::default();
        let where_to = Arc::clone(&places);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            for (number, picture) in (0_u32..).zip(pictures.iter().cycle()) {
                let due = begun + pause * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("part_{number:06}.png");
                {
                    let mut places = where_to.lock().unwrap_or_else(PoisonError::into_inner);
                    let into =
                        if number % 3 == 2 && !places.is_away { folder.join(BELOW) } else { folder.clone() };
                    put(picture, &into, &name, if places.hides { NOBODY } else { EVERYBODY })?;
                    if places.hides {
                        places.hidden.push(into.join(&name));
                    }
                }
                names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            }
            Ok(())
        });
        Self { written, places, is_stopped, thread: Some(thread) }
    }

    /// The names of all that were written so far.
    pub fn written(&self) -> Vec<String> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the camera waiting while something changes.
    pub fn hold(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the feed and gives what was written in the end.
    pub fn stop(mut self) -> io::Result<Vec<String>> {
        self.is_stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| io::Error::other("the feed panicked"))??;
        }
        Ok(self.written())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }
}

/// The template first, then the picture; each under another name until it is whole.
fn put(picture: &Recorded, folder: &Path, name: &str, mode: u32) -> io::Result<()> {
    let target = folder.join(name);
    for ((_, from), (_, to)) in naming().beside(&picture.path).into_iter().zip(naming().beside(&target)) {
        if from.exists() {
            whole(&from, &to, EVERYBODY)?;
        }
    }
    whole(&picture.path, &target, mode)
}

fn whole(from: &Path, to: &PathBuf, mode: u32) -> io::Result<()> {
    let half = to.with_extension("half");
    std::fs::copy(from, &half)?;
    std::fs::set_permissions(&half, PermissionsExt::from_mode(mode))?;
    std::fs::rename(half, to)
}
