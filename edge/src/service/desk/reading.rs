//! Reading a file: its bytes, what it is known by, and whether it looks as if it were still being written.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};

use crate::input::{Input, InputError};
use crate::journal::{Content, Stat};
use crate::source::{Outcome, Taken};

/// So many zeros at the end of a file that nobody was seen closing are taken for bytes that are still to come: no format
/// but an uncompressed one ends so, and that one only where the picture is black there.
const TAIL: usize = 512;
/// Blocks of zeros in the middle of such a file, likewise.
const BLOCK: usize = 4096;

/// A file's bytes, of the version that was taken.
pub(super) struct Read {
    pub(super) input: Result<Input, InputError>,
    pub(super) content: Content,
    pub(super) stat: Stat,
    /// Parts of it were never written, by the look of it.
    pub(super) is_unwritten: bool,
}

pub(super) async fn read(taken: &Taken) -> Result<Read, Outcome> {
    let (path, source, version) = (taken.path.clone(), Arc::clone(&taken.source), taken.version);
    let is_closed = taken.is_closed;
    let work = move || {
        let mut before: Option<Content> = None;
        loop {
            let began = Stat::of(&path).map_err(|_| Outcome::Changed)?;
            let input = Input::from_file(&path, None, Some(&source));
            // The picture, and then its template.
            let images = input.as_ref().map_or(&[][..], |input| &input.images);
            let content = images.first().map_or(Content::UNREAD, |image| Content::of(&image.bytes));
            let is_gap = !is_closed && images.iter().any(|image| has_gap(&image.bytes));
            let is_unwritten = is_gap || has_hole(&path, version.size);
            let stat = Stat::of(&path).map_err(|_| Outcome::Changed)?;
            // Changed under the reading, or gone.
            if stat.version != version || began.version != version {
                return Err(Outcome::Changed);
            }
            // Somebody may only have set its permissions.
            if stat.changed == began.changed || before == Some(content) {
                return Ok(Read { input, content, stat, is_unwritten });
            }
            if before.replace(content).is_some() {
                return Err(Outcome::Changed);
            }
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Outcome::Changed)?
}

/// Bytes that are zero where no whole picture has them.
fn has_gap(bytes: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    bytes.len() >= TAIL && is_zero(&bytes[bytes.len() - TAIL..]) || bytes.chunks_exact(BLOCK).any(is_zero)
}

/// The file system knows of bytes that were never written.
fn has_hole(path: &Path, size: u64) -> bool {
    let hole = |file: File| Ok(seek(&file, SeekFrom::Hole(0))?);
    File::open(path).and_then(hole).is_ok_and(|hole| hole < size)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_was_never_written_is_seen() {
        assert!(!has_gap(&[0; TAIL - 1]) && has_gap(&[0; TAIL]));
        let mut bytes = vec![7; 3 * BLOCK];
        assert!(!has_gap(&bytes));
        bytes[BLOCK..2 * BLOCK].fill(0);
        assert!(has_gap(&bytes));
        // Some black pixels at the end are no gap.
        let mut bytes = vec![7; 3 * BLOCK];
        let end = bytes.len() - 100;
        bytes[end..].fill(0);
        assert!(!has_gap(&bytes));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bmp");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(has_hole(&path, 1 << 20));
        file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        assert!(!has_hole(&path, 1 << 20), "written zeros are no hole");
    }
}
