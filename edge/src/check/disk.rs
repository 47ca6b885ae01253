//! Directories that are written to: there, writable, fast enough, with room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Item;
use crate::config::{EdgeConfig, SinkConfig};
use crate::sink::probe_dir;
use crate::source::journal::{Journal, JournalError};

/// Below this the agent will soon stand still.
const LITTLE_BYTES: u64 = 64 << 20;
const FEW_BYTES: u64 = 1 << 30;
/// A write that takes longer holds the line up.
const SLOW: Duration = Duration::from_millis(100);
/// Writes that are timed; the median counts.
const WRITES: usize = 5;

/// Gives also whether an agent with this state directory is running.
pub(super) fn check(config: &EdgeConfig) -> (bool, Vec<Item>) {
    let mut items = vec![writable("state_dir", &config.state_dir)];
    for (at, sink) in config.sinks.iter().enumerate() {
        if let SinkConfig::Jsonl(jsonl) = sink {
            items.push(writable(&format!("sinks[{at}].path"), probe_dir(&jsonl.path)));
        }
    }
    items.extend(spool(config));
    let mut is_running = false;
    // Nothing is made: the agent may run as another user.
    match Journal::existing(&config.state_dir) {
        Ok(_) => {}
        Err(JournalError::InUse { .. }) => {
            is_running = true;
            items.push(Item::ok("journal", "in use by a running agent"));
        }
        Err(error) => {
            let advice =
                "if the disk is sound, move the file away: files in the folders will be decided once more";
            items.push(Item::failed("journal", error.to_string(), advice));
        }
    }
    (is_running, items)
}

/// Can it ever hold what it may?
fn spool(config: &EdgeConfig) -> Option<Item> {
    if !config.spool.enabled || config.offload.cloud.is_empty() {
        return None;
    }
    let unknown = |error: io::Error| {
        let message = format!(
            "up to {} MiB; whether there is room is not known: {error}",
            config.spool.max_bytes >> 20
        );
        Some(Item::warning("spool.max_bytes", message, "look at `state_dir`, as the agent's user"))
    };
    let stat = match rustix::fs::statvfs(&config.state_dir) {
        Ok(stat) => stat,
        Err(error) => return unknown(error.into()),
    };
    let (free, most) = (stat.f_bavail * stat.f_frsize, config.spool.max_bytes);
    let held = match held(&crate::spool::dir(&config.state_dir)) {
        Ok(held) => held,
        Err(error) => return unknown(error),
    };
    let message =
        format!("up to {} MiB, of them {} MiB held, {} MiB free", most >> 20, held >> 20, free >> 20);
    Some(match free.saturating_add(held) > most {
        true => Item::ok("spool.max_bytes", message),
        false => Item::warning("spool.max_bytes", message, "lower it: a full disk makes the folders wait"),
    })
}

/// By the files of one directory; one that is not there holds nothing.
fn held(dir: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    // A file may go while it is looked at.
    let lengths = entries.flatten().filter_map(|entry| entry.metadata().ok());
    Ok(lengths.filter(fs::Metadata::is_file).map(|file| file.len()).sum())
}

fn writable(key: &str, dir: &Path) -> Item {
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
