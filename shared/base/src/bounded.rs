//! Files are read whole only within a bound that the caller states: a sparse file of terabytes costs its writer nothing,
//! and so does one that grows while it is read.
//!
//! The size is looked at before, so that nothing is read of what is too large, and again while reading, since the size of
//! a pipe or of a file that someone writes to says nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Bound, in bytes, for what holds one record, key or state of ours.
pub const RECORD: u64 = 1 << 20;
/// Bound, in bytes, for text that people write, as settings and certificates.
pub const TEXT: u64 = 16 << 20;
/// Bound, in bytes, for a table of ours with a row for each device or sample.
pub const TABLE: u64 = 256 << 20;

/// Refusal of a file that is larger than what is read of such a file. It stands inside an [`io::Error`] of the kind
/// [`ErrorKind::FileTooLarge`]. Both numbers are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error("is {size} bytes, more than the {most} that are read of such a file")]
    Known { size: u64, most: u64 },
    #[error("is more than the {most} bytes that are read of such a file")]
    Endless { most: u64 },
}

impl From<TooLarge> for io::Error {
    fn from(error: TooLarge) -> Self {
        Self::new(ErrorKind::FileTooLarge, error)
    }
}

/// Reads a file whole, if it has no more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = size_of(&file, most)?;
    rest(&file, size, most)
}

/// Reads a file as [`read`] does, as UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Reads what is left of an open file, if that is no more than `most` bytes.
pub fn read_open(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let size = size_of(file, most)?;
    rest(file, size, most)
}

/// Looks at the size of an open file without reading it: an error if it is more than `most` bytes.
pub fn size_of(file: &File, most: u64) -> io::Result<u64> {
    match file.metadata()?.len() {
        size if size > most => Err(TooLarge::Known { size, most }.into()),
        size => Ok(size),
    }
}

fn rest(from: impl Read, expected: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(expected).unwrap_or(0))?;
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(TooLarge::Endless { most }.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_up_to_its_bound_and_not_a_byte_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read_to_string(&path, 6).unwrap(), "12345");
        let error = read(&path, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "is 5 bytes, more than the 4 that are read of such a file");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_to_string(&path, 4).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(&dir.path().join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_sparse_file_is_refused_by_its_size_and_an_endless_one_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read(&path, RECORD).unwrap_err();
        assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
        let error = read(Path::new("/dev/zero"), RECORD).unwrap_err();
        assert_eq!(error.to_string(), "is more than the 1048576 bytes that are read of such a file");
    }

    #[test]
    fn what_grows_while_it_is_read_is_refused() {
        assert_eq!(rest(&b"1234"[..], 2, 4).unwrap(), b"1234");
        assert_eq!(rest(io::repeat(7), 2, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
