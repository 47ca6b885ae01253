//! A bundle as one file: a tar archive, compressed with zstd.
//!
//! Packing is reproducible: files in order, no times, no owners. Unpacking trusts nothing: only plain files and folders
//! with plain names, within bounds on count and size, into a fresh directory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use millgate_base::bounded::{self, TooLarge};
use millgate_base::tarball::{self, Bounds, Member};

use super::{Bundle, BundleError, MANIFEST_LIMIT, MAX_BYTES, MAX_FILES, SIGNATURE, manifest};

/// Most headers of an archive: a name may have one of its own, and so may a folder.
const MAX_MEMBERS: usize = 3 * MAX_FILES;
/// Bytes of all headers together, each rounded up to blocks of 512 as its content is.
const HEADERS: u64 = 2 * 512 * MAX_MEMBERS as u64;
const LEVEL: i32 = 19;

/// Packs an opened (so: checked) bundle; `out` is written whole or not at all.
pub fn pack(bundle: &Bundle, out: &Path) -> Result<u64, BundleError> {
    let io = |source| BundleError::Io { path: out.to_path_buf(), source };
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut partial = tempfile::NamedTempFile::new_in(dir).map_err(io)?;
    {
        let mut encoder = zstd::Encoder::new(BufWriter::new(partial.as_file_mut()), LEVEL).map_err(io)?;
        let mut tar = tar::Builder::new(&mut encoder);
        append(&mut tar, bundle.dir(), manifest::FILE_NAME).map_err(io)?;
        if bundle.is_signed() {
            append(&mut tar, bundle.dir(), SIGNATURE).map_err(io)?;
        }
        for file in bundle.files() {
            append(&mut tar, bundle.dir(), file).map_err(io)?;
        }
        tar.finish().map_err(io)?;
        drop(tar);
        encoder.finish().and_then(|mut writer| writer.flush()).map_err(io)?;
    }
    partial.as_file().sync_all().map_err(io)?;
    let size = partial.as_file().metadata().map_err(io)?.len();
    partial.persist(out).map_err(|error| io(error.error))?;
    Ok(size)
}

fn append(tar: &mut tar::Builder<impl Write>, dir: &Path, file: &str) -> io::Result<()> {
    let mut source = File::open(dir.join(file))?;
    let mut header = tar::Header::new_gnu();
    header.set_size(source.metadata()?.len());
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    tar.append_data(&mut header, file, &mut source)
}

/// Unpacks into a fresh temporary directory.
pub fn unpack(archive: &Path) -> Result<tempfile::TempDir, BundleError> {
    let io = |source| BundleError::Archive { file: archive.display().to_string(), source };
    let dir = tempfile::Builder::new().prefix("millgate-bundle-").tempdir().map_err(io)?;
    let (unpacked, bounds) = open(archive).map_err(io)?;
    tarball::each(unpacked, bounds, |member, content| {
        if !member.kind.is_dir() {
            put(dir.path(), member, content)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(io)?;
    Ok(dir)
}

/// The archive's content, unpacked, and what it may unpack to.
fn open(archive: &Path) -> io::Result<(impl Read, Bounds)> {
    let file = File::open(archive)?;
    let packed = bounded::size_of(&file, MAX_BYTES)?;
    let bounds = Bounds { members: MAX_MEMBERS, bytes: MAX_BYTES }.of_packed(packed);
    let decoder = zstd::Decoder::new(BufReader::new(file.take(packed)))?;
    // Headers are beside the sum.
    Ok((decoder.take(bounds.bytes.saturating_add(HEADERS)), bounds))
}

fn put(dir: &Path, member: &Member, content: &mut dyn Read) -> io::Result<()> {
    let name = member.path.display();
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` {what}"));
    if !member.kind.is_file() || !is_plain(&member.path) {
        return Err(wrong("is not a plain file inside the bundle"));
    }
    let target: PathBuf = dir.join(&member.path);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut out = File::create_new(&target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => wrong("is there twice"),
        _ => error,
    })?;
    match io::copy(&mut content.take(member.size), &mut out)? {
        written if written == member.size => Ok(()),
        _ => Err(wrong("is truncated")),
    }
}

/// The manifest's bytes; of an archive that [`pack`] has made it comes first, and no more is read.
pub(super) fn manifest_bytes(archive: &Path) -> Result<Vec<u8>, BundleError> {
    let io = |source| BundleError::Archive { file: archive.display().to_string(), source };
    let (unpacked, bounds) = open(archive).map_err(io)?;
    let mut found = None;
    tarball::each(unpacked, bounds, |member, content| {
        if member.path.as_os_str() != manifest::FILE_NAME {
            return Ok(ControlFlow::Continue(()));
        }
        if member.size > MANIFEST_LIMIT {
            return Err(TooLarge::Known { size: member.size, most: MANIFEST_LIMIT }.into());
        }
        let mut bytes = Vec::new();
        content.take(MANIFEST_LIMIT).read_to_end(&mut bytes)?;
        found = Some(bytes);
        Ok(ControlFlow::Break(()))
    })
    .map_err(io)?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("holds no {}", manifest::FILE_NAME));
    found.ok_or_else(|| io(missing()))
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(dir: &Path, fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> PathBuf {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        let path = dir.join("bundle.tar.zst");
        let packed = zstd::encode_all(&*builder.into_inner().unwrap(), 1).unwrap();
        std::fs::write(&path, packed).unwrap();
        path
    }

    fn header(kind: tar::EntryType, path: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_path(path).unwrap();
        header.set_cksum();
        header
    }

    fn refused(path: &Path) -> String {
        let unpacked = unpack(path).unwrap_err().to_string();
        let read = manifest_bytes(path).unwrap_err().to_string();
        assert!(unpacked.contains("bundle.tar.zst") && read.contains("bundle.tar.zst"), "{unpacked}; {read}");
        unpacked
    }

    #[test]
    fn a_small_archive_of_a_gigabyte_s_name_or_file_is_refused_before_it_is_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let size = 1 << 30;
        for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader, tar::EntryType::Regular] {
            let path = archive(dir.path(), |builder| {
                let content = io::repeat(b'a').take(1 << 20);
                // Only the header's word counts; the content behind it need not be there.
                builder.append(&header(kind, "experts/big.onnx", size), content).unwrap();
            });
            assert!(path.metadata().unwrap().len() < 10_000);
            let error = refused(&path);
            assert!(error.contains("1073741824") || error.contains("67108864"), "{kind:?}: {error}");
            assert!(Bundle::open(&path).is_err() && Bundle::digest_at(&path).is_err());
        }
    }

    #[test]
    fn what_is_no_plain_file_inside_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let link = archive(dir.path(), |builder| {
            let mut link = header(tar::EntryType::Symlink, "link", 0);
            builder.append_link(&mut link, "link", "/etc/passwd").unwrap();
        });
        assert!(refused(&link).contains("`link` is not a plain file"));
        let twice = archive(dir.path(), |builder| {
            for _ in 0..2 {
                builder.append(&header(tar::EntryType::Regular, "a/b", 1), &b"x"[..]).unwrap();
            }
        });
        assert!(refused(&twice).contains("`a/b`"));
    }

    #[test]
    fn an_archive_of_too_many_headers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), |builder| {
            for _ in 0..=MAX_MEMBERS {
                builder.append(&header(tar::EntryType::Directory, "a", 0), io::empty()).unwrap();
            }
        });
        assert!(refused(&path).contains("more than 30000 members"));
    }

    #[test]
    fn a_manifest_over_its_bound_is_refused_by_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), |builder| {
            let size = MANIFEST_LIMIT + 1;
            let header = header(tar::EntryType::Regular, manifest::FILE_NAME, size);
            builder.append(&header, io::repeat(b' ').take(size)).unwrap();
        });
        let error = manifest_bytes(&path).unwrap_err().to_string();
        assert!(error.contains("is 4194305 bytes, more than the 4194304"), "{error}");
        assert!(Bundle::open(&path).unwrap_err().to_string().contains("is 4194305 bytes"));
    }
}
