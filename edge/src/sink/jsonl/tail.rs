//! Finds the records in the files that are about to be delivered again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use serde::Deserialize;

use super::{JsonlConfig, numbered};
use crate::sink::Key;

/// Searched at most, from the end of the youngest file backwards, bytes. What is in the outbox was written a moment before
/// the kill, unless another sink has held it up since.
const SEARCHED: u64 = 64 << 20;
/// Read at a time.
const BLOCK: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    /// Errors have none.
    version: Option<u32>,
}

/// Reads nothing if nothing is to be delivered again.
pub(super) fn search(config: &JsonlConfig, undelivered: &HashSet<Key>) -> io::Result<HashSet<Key>> {
    let mut found = HashSet::new();
    let mut budget = SEARCHED;
    let rotated = (1..=config.keep).map(|at| numbered(&config.path, at));
    for path in std::iter::once(config.path.clone()).chain(rotated) {
        if found.len() == undelivered.len() || budget == 0 {
            break;
        }
        match File::open(&path) {
            Ok(file) if file.metadata()?.is_file() => backwards(file, undelivered, &mut found, &mut budget)?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whole lines, block by block from the end.
fn backwards(
    mut file: File,
    undelivered: &HashSet<Key>,
    found: &mut HashSet<Key>,
    budget: &mut u64,
) -> io::Result<()> {
    let mut start = file.metadata()?.len();
    // The beginning of a line whose end was in the block behind.
    let mut rest = Vec::new();
    while start > 0 && *budget > 0 && found.len() < undelivered.len() {
        let len = BLOCK.min(start);
        start -= len;
        *budget = budget.saturating_sub(len);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::with_capacity(len as usize + rest.len());
        (&file).take(len).read_to_end(&mut block)?;
        block.append(&mut rest);
        let whole = match (start, block.iter().position(|byte| *byte == b'\n')) {
            (0, _) => 0,
            (_, Some(at)) => at + 1,
            (_, None) => block.len(),
        };
        for line in block[whole..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // What is no record of ours is no reason to stop.
            if let Ok(Line { id: Some(id), version }) = serde_json::from_slice(line) {
                let key = Key { id, version: version.unwrap_or(0) };
                if undelivered.contains(&key) {
                    found.insert(key);
                }
            }
        }
        block.truncate(whole);
        rest = block;
    }
    Ok(())
}
