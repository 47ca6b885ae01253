//! Damage to files of the agent's journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::plan::{Book, Damage};

/// Bytes of what a disk loses at once.
const PAGE: u64 = 4096;

/// The file's name in the agent's state.
pub fn name(book: Book) -> &'static str {
    match book {
        Book::Base => "decided.redb",
        Book::Log => "decided.wal",
    }
}

/// Damages a file; false if there was nothing to damage.
pub fn damage(path: &Path, how: Damage, chance: &mut fastrand::Rng) -> io::Result<bool> {
    let length = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(false);
    }
    let at = chance.u64(..length);
    // In place: to write the file anew could find the disk full.
    let file = || File::options().read(true).write(true).open(path);
    match how {
        Damage::FlipBit => {
            let (file, mut byte) = (file()?, [0]);
            file.read_exact_at(&mut byte, at)?;
            byte[0] ^= 1 << chance.u8(..8);
            file.write_all_at(&byte, at)?;
        }
        Damage::ZeroPage => {
            let begin = at / PAGE * PAGE;
            let zeros = vec![0; usize::try_from(PAGE.min(length - begin)).unwrap_or(0)];
            file()?.write_all_at(&zeros, begin)?;
        }
        Damage::CutShort => file()?.set_len(at)?,
        Damage::Delete => std::fs::remove_file(path)?,
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_damage_is_one_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("book");
        let mut chance = fastrand::Rng::with_seed(1);
        let whole = vec![7_u8; 10_000];
        let mut after = |how: Damage| {
            std::fs::write(&path, &whole).unwrap();
            assert!(damage(&path, how, &mut chance).unwrap());
            std::fs::read(&path).unwrap_or_default()
        };
        let flipped = after(Damage::FlipBit);
        assert_eq!(flipped.iter().filter(|byte| **byte != 7).count(), 1);
        let zeroed = after(Damage::ZeroPage);
        assert!((1..=4096).contains(&zeroed.iter().filter(|byte| **byte == 0).count()));
        assert!(after(Damage::CutShort).len() < whole.len());
        assert!(after(Damage::Delete).is_empty() && !path.exists());
        assert!(!damage(&path, Damage::FlipBit, &mut chance).unwrap());
    }
}
