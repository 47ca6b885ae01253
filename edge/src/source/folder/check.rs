//! Whether a folder can be watched: there, readable, with events, and writable where its files are to go.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};

use super::{After, FolderConfig};
use crate::finding::Item;

/// Files that are tried, at most.
const MOST_FILES: usize = 1_000;
/// Folders below one that are counted, at most.
const MOST_FOLDERS: usize = 100_000;

/// Looks at a folder and at what becomes of its files. Blocks.
pub(super) fn look(folder: &FolderConfig) -> Vec<Item> {
    let name = format!("folder {}", folder.name);
    let path = folder.path.display();
    if let Err(error) = fs::read_dir(&folder.path) {
        let advice = "create it or mount its share, readable by the agent's user; `run` waits for it";
        return vec![Item::failed(name, format!("{path}: {error}"), advice)];
    }
    let (folders, unread) = if folder.recursive { count_folders(&folder.path) } else { (1, 0) };
    let mode = if folder.recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    let watched =
        notify::recommended_watcher(|_| {}).and_then(|mut watcher| watcher.watch(&folder.path, mode));
    let mut items = vec![match watched {
        Ok(()) => Item::ok(&name, format!("{path}: readable, {folders} folders watched")),
        Err(error) => Item::warning(
            &name,
            format!("{path}: readable, but no events: {error}"),
            "new files are found only every `rescan`; raise fs.inotify.max_user_watches (sysctl) above the folders",
        ),
    }];
    if unread > 0 {
        let message =
            format!("{path}: {unread} folders below it cannot be read: pictures in them are not found");
        items.push(Item::warning(&name, message, "make them readable for the agent's user"));
    }
    items.extend(check_files(&name, folder));
    items.extend(check_after(&name, folder));
    items
}

/// Files that lie there and may not be read wait for somebody who sets their rights.
fn check_files(name: &str, folder: &FolderConfig) -> Option<Item> {
    let entries = fs::read_dir(&folder.path).ok()?.flatten().take(MOST_FILES);
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let is_locked =
        |entry: &fs::DirEntry| rustix::fs::access(entry.path(), rustix::fs::Access::READ_OK).is_err();
    let locked: Vec<PathBuf> = files.filter(is_locked).map(|entry| entry.path()).collect();
    let first = locked.first()?.display().to_string();
    let message = format!("{} files cannot be read, such as {first}: they wait", locked.len());
    Some(Item::warning(
        name,
        message,
        "make them readable for the agent's user; `run` tries them again by itself",
    ))
}

/// `after` needs more than reading.
fn check_after(name: &str, folder: &FolderConfig) -> Option<Item> {
    let is_writable = rustix::fs::access(&folder.path, rustix::fs::Access::WRITE_OK).is_ok();
    let needs_writing = Item::failed(
        name,
        format!("{}: `after` removes files, and the folder is not writable", folder.path.display()),
        "make it writable for the agent's user, or set `after = \"keep\"`",
    );
    match &folder.after {
        After::Keep => None,
        After::Delete | After::Move(_) if !is_writable => Some(needs_writing),
        After::Delete => None,
        After::Move(dir) => {
            let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
            match (device(&folder.path), fs::create_dir_all(dir).and_then(|()| device(dir))) {
                (Ok(from), Ok(to)) if from == to => None,
                (_, Ok(_)) => Some(Item::failed(
                    name,
                    format!("{}: is on another file system than the folder", dir.display()),
                    "choose a folder beside the watched one",
                )),
                (_, Err(error)) => {
                    Some(Item::failed(name, format!("{}: {error}", dir.display()), "make it writable"))
                }
            }
        }
    }
}

/// Those that can be read, and those that cannot.
fn count_folders(root: &Path) -> (usize, usize) {
    let (mut count, mut unread) = (0, 0);
    let mut dirs: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            unread += 1;
            continue;
        };
        count += 1;
        if count >= MOST_FOLDERS {
            break;
        }
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        dirs.extend(below.map(|entry| entry.path()));
    }
    (count, unread)
}
