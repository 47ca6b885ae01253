//! What is on the device's disk: the state directory, what sinks need of it, the spool and the journal.

use std::fs;
use std::io;
use std::path::Path;

use crate::config::EdgeConfig;
use crate::finding::Item;
use crate::finding::disk::writable;
use crate::journal::{Journal, JournalError};

/// Gives also whether an agent with this state directory is running.
pub(super) fn check(config: &EdgeConfig) -> (bool, Vec<Item>) {
    let mut items = vec![writable("state_dir", &config.state_dir)];
    for (at, sink) in config.sinks.iter().enumerate() {
        items.extend(sink.settings().look_here(&format!("sinks[{at}]")));
    }
    items.extend(spool(config));
    let mut is_running = false;
    // Nothing is made: the agent may run as another user.
    match Journal::existing(&config.state_dir) {
        Ok(journal) => {
            if let Some(why) = journal.as_ref().and_then(Journal::trouble) {
                let advice = "nothing: the next start sets it aside and makes it anew from its log; the agent's log says what could not be known";
                items.push(Item::warning("journal", why, advice));
            }
        }
        Err(JournalError::InUse { .. }) => {
            is_running = true;
            items.push(Item::ok("journal", "in use by a running agent"));
        }
        Err(error @ JournalError::Unusable { .. }) => {
            let advice = "look at the disk: the agent decides without it, and cannot remember";
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
