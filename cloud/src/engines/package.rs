//! What `engine install` is given: a wheel, a release's archive, the library itself, or a folder with one of these. Only
//! the library and those of its execution providers are taken, by their plain names, whatever paths an archive has.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use millgate_shared::bounded;
use millgate_shared::digest::hex;
use millgate_shared::tarball::{self, Bounds};
use sha2::{Digest, Sha256};

use super::installed::{Version, is_library};

/// The largest size, in bytes, of one file unpacked and of all together. The largest of those with CUDA are below one GiB.
const LARGEST: u64 = 2 << 30;
const MOST_FILES: usize = 32;
/// Members of an archive that are looked through.
const MOST_MEMBERS: usize = 100_000;
/// Where a library lies in a folder: itself, a release's, an installed package's.
const PLACES: [&str; 4] = ["", "lib", "capi", "onnxruntime/capi"];

/// Why it cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
}

/// What was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) version: Version,
    /// The library's own name.
    pub(crate) library: String,
    pub(crate) library_sha256: String,
    /// The file that it was taken from, or the folder, and SHA-256 of the file.
    pub(crate) source: PathBuf,
    pub(crate) source_sha256: Option<String>,
}

/// A file that was written.
struct Written {
    name: String,
    sha256: String,
}

/// Writes the files of a package into a folder that is empty.
pub(crate) fn take(given: &Path, into: &Path) -> Result<Taken, PackageError> {
    let source = resolve(given)?;
    let refuse = |reason: String| PackageError::Content { path: source.clone(), reason };
    let failed = |error: io::Error| PackageError::Io { path: source.clone(), source: error };
    let (mut written, source_sha256) = if source.is_dir() {
        (folder(&source, into).map_err(failed)?, None)
    } else {
        let written = archive(&source, into).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => refuse(error.to_string()),
            _ => failed(error),
        })?;
        (written, Some(digest(&source).map_err(failed)?))
    };
    let mut libraries: Vec<usize> = (0..written.len()).filter(|at| is_library(&written[*at].name)).collect();
    let at = match (libraries.pop(), libraries.is_empty()) {
        (Some(at), true) => at,
        (None, _) => {
            let what = "holds no libonnxruntime.so: a wheel for macOS or Windows, or another package?";
            return Err(refuse(what.to_owned()));
        }
        (Some(_), false) => return Err(refuse("holds more than one libonnxruntime.so".to_owned())),
    };
    let Written { name: library, sha256: library_sha256 } = written.swap_remove(at);
    let path = into.join(&library);
    check_kind(&path).map_err(refuse)?;
    let version = match Version::of_library(&path) {
        Some(version) => version,
        None => version_inside(&path)
            .map_err(failed)?
            .ok_or_else(|| refuse("its version is not known".to_owned()))?,
    };
    Ok(Taken { version, library, library_sha256, source, source_sha256 })
}

/// The archive in a folder that holds nothing else of use; else what was given.
fn resolve(given: &Path) -> Result<PathBuf, PackageError> {
    let failed = |source| PackageError::Io { path: given.to_path_buf(), source };
    if !std::fs::metadata(given).map_err(failed)?.is_dir() {
        return Ok(given.to_path_buf());
    }
    if let Some(place) =
        PLACES.iter().map(|place| given.join(place)).find(|place| !libraries_in(place).is_empty())
    {
        return Ok(place);
    }
    let entries = std::fs::read_dir(given).map_err(failed)?.filter_map(Result::ok);
    let is_wheel = |name: &str| name.starts_with("onnxruntime") && name.ends_with(".whl");
    let wheels = entries.filter(|entry| is_wheel(&entry.file_name().to_string_lossy()));
    let mut wheels: Vec<PathBuf> = wheels.map(|entry| entry.path()).collect();
    match (wheels.pop(), wheels.is_empty()) {
        (Some(wheel), true) => Ok(wheel),
        (found, _) => {
            let reason = match found {
                None => "holds neither libonnxruntime.so nor a wheel onnxruntime-*.whl",
                Some(_) => "holds several wheels; name one",
            };
            Err(PackageError::Content { path: given.to_path_buf(), reason: reason.to_owned() })
        }
    }
}

/// The library or one of its execution providers: a plain name, so that it leads nowhere.
fn is_wanted(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_provider = name.starts_with("libonnxruntime_providers_") && name.ends_with(".so");
    (is_library(name) || is_provider) && name.len() < 128 && name.bytes().all(is_plain)
}

/// Files, not links: those lead to files that are here too.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let wanted = entries.filter(|entry| is_wanted(&entry.file_name().to_string_lossy()));
    wanted
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .collect()
}

fn folder(source: &Path, into: &Path) -> io::Result<Vec<Written>> {
    let mut taking = Taking::new(into);
    for path in libraries_in(source) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        taking.take(&name, &mut File::open(&path)?)?;
    }
    Ok(taking.written)
}

fn archive(source: &Path, into: &Path) -> io::Result<Vec<Written>> {
    let file = File::open(source)?;
    let packed = bounded::size_of(&file, LARGEST)?;
    let mut file = BufReader::new(file);
    let mut magic = [0; 4];
    let read = file.by_ref().take(4).read(&mut magic)?;
    file.rewind()?;
    // What is passed over is unpacked too, on the way to the next member.
    let bounds = Bounds { members: MOST_MEMBERS, bytes: 2 * LARGEST }.of_packed(packed);
    let mut taking = Taking { left: LARGEST.min(bounds.bytes), ..Taking::new(into) };
    match &magic[..read] {
        b"PK\x03\x04" => from_zip(file, &mut taking)?,
        [0x1f, 0x8b, ..] => from_tar(GzDecoder::new(file), bounds, &mut taking)?,
        b"\x7fELF" => {
            let name = source.file_name().unwrap_or_default().to_string_lossy();
            let name = if is_wanted(&name) { &name } else { "libonnxruntime.so" };
            taking.take(name, &mut file)?;
        }
        _ => return Err(wrong("is no wheel, no .tgz of a release and no library".to_owned())),
    }
    Ok(taking.written)
}

fn from_zip(file: impl Read + Seek, taking: &mut Taking<'_>) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(file).map_err(io::Error::from)?;
    if archive.len() > MOST_MEMBERS {
        return Err(wrong(format!("has more than {MOST_MEMBERS} members")));
    }
    for at in 0..archive.len() {
        let name = archive.name_for_index(at).and_then(Result::ok).unwrap_or_default();
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        if !is_wanted(&name) {
            continue;
        }
        let mut member = archive.by_index(at).map_err(io::Error::from)?;
        if member.is_file() {
            taking.take(&name, &mut member)?;
        }
    }
    Ok(())
}

fn from_tar(unpacked: impl Read, bounds: Bounds, taking: &mut Taking<'_>) -> io::Result<()> {
    tarball::each(unpacked, bounds, |member, mut content| {
        let name = member.path.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some(name) = name.filter(|name| is_wanted(name))
            && member.kind.is_file()
        {
            taking.take(&name, &mut content)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn wrong(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Files on their way into a folder, and what they may still take.
struct Taking<'a> {
    into: &'a Path,
    left: u64,
    written: Vec<Written>,
}

impl<'a> Taking<'a> {
    fn new(into: &'a Path) -> Self {
        Self { into, left: LARGEST, written: Vec::new() }
    }

    /// Whatever a header says of its size: no more is written than may be.
    fn take(&mut self, name: &str, from: &mut impl Read) -> io::Result<()> {
        if self.written.len() >= MOST_FILES {
            return Err(wrong(format!("holds more than {MOST_FILES} libraries")));
        }
        if self.written.iter().any(|written| written.name == name) {
            return Err(wrong(format!("holds {name} twice")));
        }
        let path = self.into.join(name);
        let mut out = Hashing { out: BufWriter::new(File::create_new(&path)?), hash: Sha256::new() };
        let copied = io::copy(&mut from.take(self.left + 1), &mut out)?;
        if copied > self.left {
            return Err(wrong(format!(
                "{name} is more than the {} bytes that may still be unpacked of it",
                self.left
            )));
        }
        self.left -= copied;
        out.flush()?;
        out.out.get_ref().sync_all()?;
        self.written.push(Written { name: name.to_owned(), sha256: hex(&out.hash.finalize()) });
        Ok(())
    }
}

/// A file, and the digest of what is written to it.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// SHA-256 of a file, in hex.
fn digest(path: &Path) -> io::Result<String> {
    let mut hashing = Hashing { out: io::sink(), hash: Sha256::new() };
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hex(&hashing.hash.finalize()))
}

/// A library of ELF for 64 bits and this kind of machine.
fn check_kind(library: &Path) -> Result<(), String> {
    let mut head = [0; 20];
    let read = File::open(library).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF") {
        return Err("its libonnxruntime.so is no ELF library".to_owned());
    }
    let machine = match (head[4], u16::from_le_bytes([head[18], head[19]])) {
        (2, 62) => "x86_64",
        (2, 183) => "aarch64",
        _ => "another kind of machine",
    };
    match std::env::consts::ARCH {
        ours if ours == machine => Ok(()),
        ours => Err(format!("its libonnxruntime.so is for {machine}, this machine is {ours}")),
    }
}

/// The version that the library's symbols say, as `VERS_1.32.0`; `None` if they say none.
fn version_inside(library: &Path) -> io::Result<Option<Version>> {
    version_in(&mut File::open(library)?)
}

/// Looks through it piece by piece: libraries can be as large as memory.
fn version_in(library: &mut impl Read) -> io::Result<Option<Version>> {
    const MARK: &[u8] = b"VERS_";
    const LONGEST: usize = 16;
    const PIECE: u64 = 1 << 20;
    let mut piece = Vec::new();
    loop {
        let read = library.by_ref().take(PIECE).read_to_end(&mut piece)?;
        let is_end = read == 0;
        // A mark whose version may not be here whole is found with the next piece.
        let until = if is_end { piece.len() } else { piece.len().saturating_sub(MARK.len() + LONGEST) };
        let marks =
            piece.windows(MARK.len()).enumerate().filter(|(at, window)| *at < until && *window == MARK);
        let version = |(at, _): (usize, &[u8])| {
            let text = piece[at + MARK.len()..].iter().take(LONGEST).take_while(|byte| **byte != 0);
            String::from_utf8(text.copied().collect()).ok()?.parse().ok()
        };
        let found = marks.filter_map(version).next();
        if found.is_some() || is_end {
            return Ok(found);
        }
        piece.drain(..until);
    }
}

/// The head of a library for this machine, with this text in it, which nothing can load.
#[cfg(test)]
pub(super) fn elf_head(text: &str) -> Vec<u8> {
    let machine: u16 = if std::env::consts::ARCH == "aarch64" { 183 } else { 62 };
    let mut head = vec![0; 64];
    head[..5].copy_from_slice(b"\x7fELF\x02");
    head[18..20].copy_from_slice(&machine.to_le_bytes());
    head.extend_from_slice(text.as_bytes());
    head.push(0);
    head
}

#[cfg(test)]
mod tests;
