//! The log alone, for `edge/benches/spool.rs`: entries in, entries out, nothing round it.

use std::io;
use std::path::Path;

use super::disk::Dir;
use super::log::{Log, Sync};

/// A log that is being written.
pub struct Written(Log<Dir>);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Written").field(&self.0.counts).finish()
    }
}

impl Written {
    /// Gives also how many entries it held.
    pub fn open(dir: &Path, sync: Sync, segment_bytes: u64) -> io::Result<(Self, usize)> {
        let mut found = 0;
        let log = Log::open(
            Dir::open(dir.to_path_buf()),
            sync,
            segment_bytes,
            || 1,
            |_| Some(()),
            |_| {
                found += 1;
                true
            },
        )?;
        Ok((Self(log), found))
    }

    /// One group, as far as its `sync` goes.
    pub fn append(&mut self, group: &[&[u8]]) -> io::Result<()> {
        self.0.append(group).map(drop)
    }
}
