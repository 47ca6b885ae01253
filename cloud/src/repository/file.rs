//! Reads files that others may be writing, within bounds and within the repository.

use std::fs::{DirEntry, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use millgate_shared::bounded;
use sha2::{Digest, Sha256};

use super::RepositoryError;

/// A plain file that lies within the repository, wherever links lead; as it was at one moment.
pub(super) fn bounded(root: &Path, path: &Path, most: u64) -> Result<Vec<u8>, RepositoryError> {
    let refuse = |source| RepositoryError::Io { path: path.to_path_buf(), source };
    let (real, within) = (path.canonicalize().map_err(refuse)?, root.canonicalize().map_err(refuse)?);
    if !real.starts_with(within) {
        return Err(RepositoryError::Outside(path.to_path_buf()));
    }
    // Opening what is no file may wait for ever.
    if !std::fs::metadata(&real).map_err(refuse)?.is_file() {
        return Err(RepositoryError::NoFile(path.to_path_buf()));
    }
    let file = File::open(&real).map_err(refuse)?;
    let before = file.metadata().map_err(refuse)?;
    if before.len() > most {
        return Err(RepositoryError::TooLarge { path: path.to_path_buf(), most });
    }
    let bytes = bounded::read_open(&file, most).map_err(refuse)?;
    let after = file.metadata().map_err(refuse)?;
    if bytes.len() as u64 != before.len() || !is_same(&before, &after) {
        return Err(RepositoryError::Changed(path.to_path_buf()));
    }
    Ok(bytes)
}

/// Whether a file was not written to between the two looks.
fn is_same(before: &Metadata, after: &Metadata) -> bool {
    let changed = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec());
    before.len() == after.len()
        && before.modified().ok() == after.modified().ok()
        && changed(before) == changed(after)
}

/// Digest of files, one after the other; where one ends and the next begins counts.
pub(super) fn digest<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut all = Sha256::new();
    for file in files {
        all.update(Sha256::digest(file));
    }
    all.finalize().into()
}

pub(super) fn entries(dir: &Path) -> Result<Vec<DirEntry>, RepositoryError> {
    let refuse = |source| RepositoryError::Io { path: dir.to_path_buf(), source };
    std::fs::read_dir(dir).map_err(refuse)?.collect::<Result<_, _>>().map_err(refuse)
}

/// Something stands there, be it a link that leads nowhere: whoever reads it is told.
pub(super) fn stands(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A name of one part that no shell and no path trips over.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
