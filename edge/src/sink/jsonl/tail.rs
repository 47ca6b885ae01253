//! Finds the records in the files that are about to be delivered again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::{JsonlConfig, numbered};
use crate::sink::Key;
use crate::sink::told::{Collecting, key_of};

/// Searched at most, from the end of the youngest file backwards, bytes. What is in the outbox was written a moment before
/// the kill, unless another sink has held it up since.
const SEARCHED: u64 = 64 << 20;
/// Read at a time.
const BLOCK: u64 = 1 << 20;

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
            Ok(file) if file.metadata()?.is_file() => {
                backwards(&file, &mut budget, |_, line| {
                    // What is no record of ours is no reason to stop.
                    if let Some((id, version)) = key_of(line) {
                        let key = Key { id, version };
                        if undelivered.contains(&key) {
                            found.insert(key);
                        }
                    }
                    found.len() < undelivered.len()
                })?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Hands over the whole lines of all of the sink's files, up to so many bytes from the end of the youngest.
pub(super) fn collect(config: &JsonlConfig, mut budget: u64, to: &mut Collecting<'_>) -> io::Result<()> {
    let rotated = (1..=config.keep).map(|at| numbered(&config.path, at));
    for path in std::iter::once(config.path.clone()).chain(rotated) {
        if budget == 0 {
            break;
        }
        match File::open(&path) {
            Ok(file) if file.metadata()?.is_file() => {
                to.file(&path);
                backwards(&file, &mut budget, |at, line| {
                    to.line(at, line);
                    true
                })?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hands over lines with their offsets and line feeds, block by block from the end, for as long as `each` wants more. What lies
/// behind the last line feed is none.
fn backwards(file: &File, budget: &mut u64, mut each: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut file = file;
    let mut start = file.metadata()?.len();
    // The beginning of a line whose end was in the block behind.
    let mut rest = Vec::new();
    while start > 0 && *budget > 0 {
        let len = BLOCK.min(start);
        start -= len;
        *budget = budget.saturating_sub(len);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::with_capacity(len as usize + rest.len());
        file.take(len).read_to_end(&mut block)?;
        block.append(&mut rest);
        let whole = match (start, block.iter().position(|byte| *byte == b'\n')) {
            (0, _) => 0,
            (_, Some(at)) => at + 1,
            (_, None) => block.len(),
        };
        let mut at = start + whole as u64;
        for line in block[whole..].split_inclusive(|byte| *byte == b'\n') {
            if line.ends_with(b"\n") && line.len() > 1 && !each(at, line) {
                return Ok(());
            }
            at += line.len() as u64;
        }
        block.truncate(whole);
        rest = block;
    }
    Ok(())
}
