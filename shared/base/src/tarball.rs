//! Tar archives from elsewhere, member by member, within bounds on everything that an archive says of itself.
//!
//! A member's long name is stored as a member before it, which a reader commonly takes into memory whole: an archive of
//! some kilobytes can so ask for gigabytes. Here names have a bound, and all that is read, passed over or unpacked counts
//! against one sum.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, PaxExtensions};

/// Most bytes of a member's name: no longer path can be opened.
const LONGEST_NAME: u64 = 4096;
/// Most bytes of what an archive adds to a member's header.
const LONGEST_EXTENSION: u64 = 64 << 10;
/// Bytes that an archive may unpack to, whatever it is packed in.
const FREE: u64 = 64 << 20;
/// Most bytes that one packed byte may unpack to, beyond [`FREE`]. Weights pack to half of their size at best, libraries
/// to a fifth.
const MOST_RATIO: u64 = 200;

/// Bounds on one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most headers; those that hold only a name count.
    pub members: usize,
    /// Most bytes of all members together, those that are passed over too.
    pub bytes: u64,
}

impl Bounds {
    /// Tightens the sum to what an archive of `packed` bytes may unpack to.
    #[must_use]
    pub fn of_packed(self, packed: u64) -> Self {
        Self { bytes: self.bytes.min(FREE.max(packed.saturating_mul(MOST_RATIO))), ..self }
    }
}

/// What is known of a member before its content is read.
#[derive(Debug)]
pub struct Member {
    pub path: PathBuf,
    pub kind: EntryType,
    /// Bytes of its content.
    pub size: u64,
}

/// Calls `visit` for each member with its content, until it breaks. Content that is not read is passed over. An error of
/// the archive is of the kind [`ErrorKind::InvalidData`], unless reading it fails otherwise.
pub fn each(
    archive: impl Read,
    bounds: Bounds,
    mut visit: impl FnMut(&Member, &mut dyn Read) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    let mut left = bounds.bytes;
    let mut name = None;
    let mut is_extended = false;
    for (at, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry.map_err(|error| bad(format!("is truncated or no tar archive: {error}")))?;
        if at >= bounds.members {
            return Err(bad(format!("has more than {} members", bounds.members)));
        }
        let (kind, size) = (entry.header().entry_type(), entry.header().entry_size()?);
        // Before anything passes over it, which unpacks it.
        left = left.checked_sub(size).ok_or_else(|| {
            bad(format!("unpacks to more than the {} bytes that are unpacked of it", bounds.bytes))
        })?;
        if kind.is_gnu_longname() {
            let mut bytes = small(&mut entry, size, LONGEST_NAME + 1, "a name")?;
            while bytes.pop_if(|byte| *byte == 0).is_some() {}
            name = Some(bytes);
            is_extended = true;
        } else if kind.is_pax_local_extensions() {
            let bytes = small(&mut entry, size, LONGEST_EXTENSION, "an extended header")?;
            name = pax_name(&bytes)?.or(name);
            is_extended = true;
        } else if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            small(&mut entry, size, LONGEST_EXTENSION, "an extended header")?;
        } else if kind.is_gnu_sparse() {
            return Err(bad("holds a file that is stored sparse; pack it without --sparse".to_owned()));
        } else {
            let bytes = name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
            is_extended = false;
            if bytes.len() as u64 > LONGEST_NAME {
                return Err(bad(format!("has a member whose name is over {LONGEST_NAME} bytes")));
            }
            let member = Member { path: Path::new(OsStr::from_bytes(&bytes)).to_path_buf(), kind, size };
            if visit(&member, &mut entry)?.is_break() {
                return Ok(());
            }
        }
    }
    if is_extended {
        return Err(bad("ends with a name that belongs to no member".to_owned()));
    }
    Ok(())
}

/// Reads what an archive says of a member beside its header.
fn small(entry: &mut impl Read, size: u64, most: u64, what: &str) -> io::Result<Vec<u8>> {
    if size > most {
        return Err(bad(format!("has {what} of {size} bytes, more than {most}")));
    }
    let mut bytes = Vec::new();
    entry.take(most).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(bad(format!("is truncated in {what}")));
    }
    Ok(bytes)
}

/// The member's path, where an extended header gives one. Readers disagree on what a second size means, so there is none.
fn pax_name(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut path = None;
    for extension in PaxExtensions::new(bytes) {
        let extension = extension.map_err(|error| bad(error.to_string()))?;
        match extension.key_bytes() {
            b"path" => path = Some(extension.value_bytes().to_vec()),
            b"size" => return Err(bad("has a member whose size is given beside its header".to_owned())),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(bad("holds a file that is stored sparse; pack it without --sparse".to_owned()));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn bad(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { members: 100, bytes: 1 << 20 };

    fn header(kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_path("short").unwrap();
        header.set_cksum();
        header
    }

    fn archive(parts: &[(EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, content) in parts {
            builder.append(&header(*kind, content.len() as u64), *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn names(archive: impl Read, bounds: Bounds) -> Result<Vec<(String, String)>, String> {
        let mut found = Vec::new();
        let visited = each(archive, bounds, |member, content| {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            assert_eq!(text.len() as u64, member.size);
            found.push((member.path.display().to_string(), text));
            Ok(ControlFlow::Continue(()))
        });
        visited.map(|()| found).map_err(|error| error.to_string())
    }

    #[test]
    fn long_names_of_both_kinds_are_read() {
        let long = "folder/".repeat(40) + "file";
        let record = format!(" path={long}\n");
        // The length counts itself: three digits.
        let pax = format!("{}{record}", record.len() + 3);
        let gnu = format!("{long}\0");
        let content = archive(&[
            (EntryType::GNULongName, gnu.as_bytes()),
            (EntryType::Regular, b"one"),
            (EntryType::XGlobalHeader, b"12 comment=\n"),
            (EntryType::XHeader, pax.as_bytes()),
            (EntryType::Regular, b"two"),
            (EntryType::Regular, b"three"),
        ]);
        let found = names(&*content, BOUNDS).unwrap();
        let expected = [(&*long, "one"), (&*long, "two"), ("short", "three")];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_name_of_gigabytes_is_refused_by_its_header() {
        for kind in
            [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
        {
            let size = 2 << 30;
            let header = header(kind, size);
            let content = header.as_bytes().chain(io::repeat(b'a'));
            let wide = Bounds { bytes: 8 << 30, ..BOUNDS };
            let error = names(content, wide).unwrap_err();
            assert!(error.contains("of 2147483648 bytes, more than"), "{kind:?}: {error}");
        }
    }

    #[test]
    fn members_and_their_sum_have_bounds_even_where_nobody_reads_them() {
        let many = archive(&[(EntryType::Regular, &b""[..]); 101]);
        assert!(names(&*many, BOUNDS).unwrap_err().contains("more than 100 members"));
        let large = header(EntryType::Regular, 1 << 40);
        let passed =
            each(large.as_bytes().chain(io::repeat(0)), BOUNDS, |_, _| Ok(ControlFlow::Continue(())));
        assert!(passed.unwrap_err().to_string().contains("more than the 1048576 bytes"));
    }

    #[test]
    fn an_archive_may_not_unpack_to_far_more_than_it_is() {
        let bounds = Bounds { members: 10, bytes: 8 << 30 };
        assert_eq!(bounds.of_packed(1000).bytes, FREE);
        assert_eq!(bounds.of_packed(10 << 20).bytes, 2000 << 20);
        assert_eq!(bounds.of_packed(1 << 40), bounds);
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        type Parts<'a> = &'a [(EntryType, &'a [u8])];
        let cases: [(Parts<'_>, &str); 5] = [
            (&[(EntryType::XHeader, b"13 size=1234\n"), (EntryType::Regular, b"x")], "beside its header"),
            (&[(EntryType::XHeader, b"24 GNU.sparse.major=1.0\n"), (EntryType::Regular, b"x")], "sparse"),
            (&[(EntryType::GNUSparse, b"x")], "sparse"),
            (&[(EntryType::XHeader, b"nonsense\n"), (EntryType::Regular, b"x")], "malformed"),
            (&[(EntryType::GNULongName, b"name\0")], "belongs to no member"),
        ];
        for (parts, words) in cases {
            let error = names(&*archive(parts), BOUNDS).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let cut = &archive(&[(EntryType::GNULongName, &[b'a'; 700])])[..900];
        assert!(names(cut, BOUNDS).unwrap_err().contains("truncated"));
    }
}
