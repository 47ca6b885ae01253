//! The camera: writes numbered pictures into the watched folder at a steady pace.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Recorded, naming};

/// Writes until it is stopped.
#[derive(Debug)]
pub struct Feed {
    written: Arc<Mutex<Vec<String>>>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Feed {
    pub fn start(folder: &Path, pictures: Vec<Recorded>, pause: Duration) -> Self {
        let (written, is_stopped) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (names, stop, folder) = (Arc::clone(&written), Arc::clone(&is_stopped), folder.to_path_buf());
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            for (number, picture) in (0_u32..).zip(pictures.iter().cycle()) {
                let due = begun + pause * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("part_{number:06}.png");
                put(picture, &folder, &name)?;
                names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            }
            Ok(())
        });
        Self { written, is_stopped, thread: Some(thread) }
    }

    /// The names of all that were written so far.
    pub fn written(&self) -> Vec<String> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
fn put(picture: &Recorded, folder: &Path, name: &str) -> io::Result<()> {
    let target = folder.join(name);
    for ((_, from), (_, to)) in naming().beside(&picture.path).into_iter().zip(naming().beside(&target)) {
        if from.exists() {
            whole(&from, &to)?;
        }
    }
    whole(&picture.path, &target)
}

fn whole(from: &Path, to: &PathBuf) -> io::Result<()> {
    let half = to.with_extension("half");
    std::fs::copy(from, &half)?;
    std::fs::rename(half, to)
}
