//! A bundle as one file: a tar archive, compressed with zstd.
//!
//! Packing is reproducible: files in order, no times, no owners. Unpacking trusts nothing: only plain files and folders
//! with plain names, within bounds on count and size, into a fresh directory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use super::{Bundle, BundleError, MANIFEST_LIMIT, SIGNATURE, manifest};

/// Bounds on what an archive may unpack to.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 8 << 30;
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
    let refuse = |message: String| BundleError::Archive { file: archive.display().to_string(), message };
    let io = |source: io::Error| refuse(source.to_string());
    let dir = tempfile::Builder::new().prefix("millgate-bundle-").tempdir().map_err(io)?;
    let file = File::open(archive).map_err(io)?;
    let decoder = zstd::Decoder::new(BufReader::new(file)).map_err(io)?;
    let mut tar = tar::Archive::new(decoder);
    let mut files = 0;
    let mut bytes = 0;
    for entry in tar.entries().map_err(io)? {
        let mut entry =
            entry.map_err(|error| refuse(format!("is truncated or no tar.zst archive: {error}")))?;
        let path = entry.path().map_err(io)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let name = path.display().to_string();
        if !kind.is_file() || !is_plain(&path) {
            return Err(refuse(format!("`{name}` is not a plain file inside the bundle")));
        }
        files += 1;
        bytes += entry.header().size().map_err(io)?;
        if files > MAX_FILES || bytes > MAX_BYTES {
            return Err(refuse(format!("holds over {MAX_FILES} files or {MAX_BYTES} bytes")));
        }
        let target: PathBuf = dir.path().join(&path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let mut out = File::create_new(&target).map_err(|error| refuse(format!("`{name}`: {error}")))?;
        let expected = entry.header().size().map_err(io)?;
        let written = io::copy(&mut (&mut entry).take(expected), &mut out).map_err(io)?;
        if written != expected {
            return Err(refuse(format!("`{name}` is truncated")));
        }
    }
    Ok(dir)
}

/// The manifest's bytes; of an archive that [`pack`] has made it comes first, and no more is read.
pub(super) fn manifest_bytes(archive: &Path) -> Result<Vec<u8>, BundleError> {
    let refuse = |message: String| BundleError::Archive { file: archive.display().to_string(), message };
    let io = |source: io::Error| refuse(source.to_string());
    let decoder = zstd::Decoder::new(BufReader::new(File::open(archive).map_err(io)?)).map_err(io)?;
    let mut tar = tar::Archive::new(decoder.take(MAX_BYTES));
    for entry in tar.entries().map_err(io)? {
        let entry = entry.map_err(|error| refuse(format!("is truncated or no tar.zst archive: {error}")))?;
        if entry.path().map_err(io)?.as_os_str() == manifest::FILE_NAME {
            let mut bytes = Vec::new();
            entry.take(MANIFEST_LIMIT).read_to_end(&mut bytes).map_err(io)?;
            return Ok(bytes);
        }
    }
    Err(refuse(format!("holds no {}", manifest::FILE_NAME)))
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}
