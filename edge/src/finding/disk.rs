//! A directory that is written to: there, writable, fast enough, with room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Item;

/// Below this the agent will soon stand still.
const LITTLE_BYTES: u64 = 64 << 20;
const FEW_BYTES: u64 = 1 << 30;
/// A write that takes longer holds the line up.
const SLOW: Duration = Duration::from_millis(100);
/// Writes that are timed; the median counts.
const WRITES: usize = 5;

/// Looks at a directory that is written to: is it there, writable, fast enough, with room? `key` names it.
pub(crate) fn writable(key: &str, dir: &Path) -> Item {
    let path = dir.display();
    let took = match probe(dir) {
        Ok(took) => took,
        Err(error) => {
            let message = format!("{path}: {error}");
            return Item::failed(
                key,
                message,
                format!("make it writable for the agent's user, or change `{key}`"),
            );
        }
    };
    let took_text = format!("a write reaches the disk in {:.1} ms", took.as_secs_f64() * 1e3);
    let free = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat.f_bavail * stat.f_frsize,
        Err(error) => {
            return Item::warning(key, format!("{path}: free space unknown: {error}"), "look at the disk");
        }
    };
    let free_text = format!("{} MiB free", free >> 20);
    let message = format!("{path}: writable, {took_text}, {free_text}");
    if free < LITTLE_BYTES {
        return Item::failed(key, message, "free some space: a full disk makes the folders wait");
    }
    if free < FEW_BYTES {
        return Item::warning(key, message, "there is little space");
    }
    if took > SLOW {
        return Item::warning(key, message, "a slow disk bounds how many files a second are decided");
    }
    Item::ok(key, message)
}

/// Writes and syncs a small file; the median time.
fn probe(dir: &Path) -> io::Result<Duration> {
    fs::create_dir_all(dir)?;
    let path = dir.join(format!(".millgate-check-{}", std::process::id()));
    let write = || -> io::Result<Duration> {
        let mut file = File::create(&path)?;
        let mut times = Vec::with_capacity(WRITES);
        for _ in 0..WRITES {
            let started = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(started.elapsed());
        }
        times.sort();
        Ok(times[WRITES / 2])
    };
    let written = write();
    // One that could not be made cannot be removed.
    let _removed = fs::remove_file(&path).is_ok();
    written
}
