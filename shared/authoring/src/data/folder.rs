//! A folder with a folder for each class.

use std::path::{Path, PathBuf};

use super::{Asked, DataError, Item, label};

/// Most folders below a class.
const DEPTH: usize = 8;

pub(super) fn read(dir: &Path, asked: &Asked<'_>) -> Result<Vec<Item>, DataError> {
    let mut items = Vec::new();
    let here = Entries::of(dir)?;
    if let Some(file) = here.files.iter().find(|file| asked.naming.is_main(file)) {
        return Err(DataError::folder(
            file,
            "lies beside the classes: each picture is in the folder of its class",
        ));
    }
    if here.folders.is_empty() {
        return Err(DataError::folder(dir, "holds no folder: each class is a folder of pictures"));
    }
    let is_of_products = asked.product.is_none();
    for folder in &here.folders {
        let name = name_of(folder)?;
        if !is_of_products {
            class(dir, folder, &name, asked, &mut items)?;
            continue;
        }
        let below = Entries::of(folder)?;
        if let Some(file) = below.files.iter().find(|file| asked.naming.is_main(file)) {
            let message = format!(
                "lies in `{name}`, and no product was given: say which product these classes are of (`--product`), or put \
                 them into a folder of the product's name"
            );
            return Err(DataError::folder(file, message));
        }
        if below.folders.is_empty() {
            return Err(DataError::folder(folder, "is empty: a product is a folder of classes"));
        }
        for folder in &below.folders {
            class(dir, folder, &format!("{name}/{}", name_of(folder)?), asked, &mut items)?;
        }
    }
    Ok(items)
}

fn class(
    dir: &Path,
    folder: &Path,
    named: &str,
    asked: &Asked<'_>,
    items: &mut Vec<Item>,
) -> Result<(), DataError> {
    let label = label(named, asked.product).map_err(|message| DataError::folder(folder, message))?;
    let before = items.len();
    let class = Class { dir, label: &label, asked };
    class.pictures(folder, None, DEPTH, items)?;
    if items.len() == before {
        return Err(DataError::folder(
            folder,
            "is empty: put pictures of the class into it, or take it away",
        ));
    }
    Ok(())
}

struct Class<'a> {
    dir: &'a Path,
    label: &'a str,
    asked: &'a Asked<'a>,
}

impl Class<'_> {
    /// Pictures of a folder and of those below it, each of which is one group.
    fn pictures(
        &self,
        folder: &Path,
        group: Option<&str>,
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), DataError> {
        let naming = self.asked.naming;
        let Entries { files, folders } = Entries::of(folder)?;
        for file in &files {
            if let Some(owner) = naming.owner(file) {
                let is_its = |other: &PathBuf| {
                    naming.is_main(other) && other.file_stem().is_some_and(|stem| stem == owner)
                };
                if !files.iter().any(is_its) {
                    let message = format!("belongs to a picture `{owner}`, which is not beside it");
                    return Err(DataError::folder(file, message));
                }
            }
            if naming.is_main(file) {
                let name = self.name(file)?;
                items.push(Item {
                    parts: naming.parts(file),
                    label: self.label.to_owned(),
                    group: group.unwrap_or(&name).to_owned(),
                    split: None,
                    name,
                });
            }
        }
        for folder in &folders {
            if depth == 0 {
                return Err(DataError::folder(
                    folder,
                    format!("is more than {DEPTH} folders below its class"),
                ));
            }
            let name = self.name(folder)?;
            self.pictures(folder, Some(group.unwrap_or(&name)), depth - 1, items)?;
        }
        Ok(())
    }

    fn name(&self, path: &Path) -> Result<String, DataError> {
        let below = path.strip_prefix(self.dir).unwrap_or(path);
        let text = below.to_str().ok_or_else(|| DataError::folder(path, "its name is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

fn name_of(folder: &Path) -> Result<String, DataError> {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| DataError::folder(folder, "its name is not UTF-8"))
}

/// What a folder holds, by name; hidden files are passed over.
#[derive(Default)]
struct Entries {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Entries {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: folder.to_path_buf(), source };
        let mut entries = Self::default();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // A link is followed: a folder of classes is often made of them.
            let metadata = path.metadata().map_err(|source| DataError::Io { path: path.clone(), source })?;
            match metadata.is_dir() {
                true => entries.folders.push(path),
                false => entries.files.push(path),
            }
        }
        entries.files.sort();
        entries.folders.sort();
        Ok(entries)
    }
}
