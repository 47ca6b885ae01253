//! Pictures that are there twice, by the hash of their bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{DataError, Item};

/// Puts samples of the very same bytes into one group; an error if they are labelled differently. All parts count: two
/// crops may be the same and differ in what they are compared with.
pub(super) fn group_same(items: &mut [Item]) -> Result<(), DataError> {
    let mut files: HashMap<&Path, [u8; 32]> = HashMap::new();
    let mut first: HashMap<[u8; 32], usize> = HashMap::new();
    let mut same = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let whole = of_parts(item, |path| match files.get(path) {
            Some(digest) => Ok(*digest),
            None => digest(path).inspect(|digest| _ = files.insert(path, *digest)),
        })?;
        let earlier = *first.entry(whole).or_insert(at);
        if earlier == at {
            continue;
        }
        if items[earlier].label != item.label {
            return Err(DataError::TwoLabels {
                first: items[earlier].name.clone(),
                first_label: items[earlier].label.clone(),
                second: item.name.clone(),
                second_label: item.label.clone(),
            });
        }
        same.push((earlier, at));
    }
    for (earlier, at) in same {
        let (kept, merged) = (items[earlier].group.clone(), items[at].group.clone());
        if kept != merged {
            let of_merged = items.iter_mut().filter(|item| item.group == merged);
            of_merged.for_each(|item| item.group.clone_from(&kept));
        }
    }
    Ok(())
}

impl Item {
    /// Digest of the bytes of all its files.
    pub(crate) fn digest(&self) -> Result<[u8; 32], DataError> {
        of_parts(self, digest)
    }
}

/// Digest of a sample, given that of each of its files.
fn of_parts<'a>(
    item: &'a Item,
    mut of: impl FnMut(&'a Path) -> Result<[u8; 32], DataError>,
) -> Result<[u8; 32], DataError> {
    let mut whole = Sha256::new();
    for (modality, path) in &item.parts {
        whole.update(modality.as_bytes());
        whole.update([0]);
        whole.update(of(path)?);
    }
    Ok(whole.finalize().into())
}

fn digest(path: &Path) -> Result<[u8; 32], DataError> {
    let io = |source| DataError::Io { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
