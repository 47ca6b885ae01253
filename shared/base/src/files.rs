//! Small files that must never be half there, and following those that someone else may exchange.

use std::fmt::Display;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Gid, OFlags, Uid};

/// Permission bits of a file that anyone may read and its owner may write.
pub const PUBLIC: u32 = 0o644;
/// Permission bits of a file that its owner alone may read and write.
pub const PRIVATE: u32 = 0o600;

/// Replaces a file whole: whatever happens meanwhile, either the old content or the new is there. The file has the
/// permissions `mode` from its first byte on. Folders that are missing are made. What root writes belongs to the
/// owner of the folder.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    make_folder(folder, 0o777)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = folder.join(name);
    let written = (|| {
        // One that was left behind; a link that stands there is not followed.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        // A narrow umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        give_to_owner_of(folder, &file)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _nothing_left = std::fs::remove_file(&beside).is_ok();
    }
    written
}

/// Writes a file that must not be there yet, with the permissions `mode`, and brings its content to the disk; its
/// name is on the disk once the folder is synced. After an error a part of the file may be left. What root writes
/// belongs to the owner of the folder.
pub fn write_new(path: &Path, content: &mut dyn Read, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    give_to_owner_of(folder_of(path), &file)?;
    io::copy(content, &mut file)?;
    file.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens, or makes, a file that serves only to be locked; its folder must be there. What root makes belongs to the
/// owner of the folder.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let file = File::options().create(true).append(true).custom_flags(no_link).open(path)?;
    give_to_owner_of(folder_of(path), &file)?;
    Ok(file)
}

/// Makes a folder that only its owner may enter, and the folders around it. A folder that is there stays as it is.
/// What root makes belongs to the owner of the folder around it.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    make_folder(path, 0o700)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let around = folder_of(path);
    make_folder(around, mode)?;
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        // Somebody else has been quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made?,
    }
    let no_link = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed();
    let folder = OpenOptions::new().read(true).custom_flags(no_link).open(path)?;
    give_to_owner_of(around, &folder)
}

/// Gives a file to the owner of its folder. Nothing is done unless this process is root, the file is root's and has
/// no other name: the folder's owner must not get hold of a file from elsewhere.
fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    let (owner, own) = (folder.metadata()?, file.metadata()?);
    let is_ours = own.uid() == 0 && (own.is_dir() || own.is_file() && own.nlink() == 1);
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 || !is_ours {
        return Ok(());
    }
    rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())))?;
    Ok(())
}

/// Copies of one store that are kept aside; of more, the oldest is removed.
pub const KEPT_ASIDE: usize = 8;

/// Renames a file or folder that cannot be used to `NAME.aside-1`, or the next number that is free behind all others, so that
/// nothing else may read it, and gives its new path. `None`: there is nothing at the path. A link is renamed, not followed.
pub fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let (folder, mut name) =
        (folder_of(path), path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned());
    name.push(".aside-");
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let found = entry?.file_name();
        let number = found.as_bytes().strip_prefix(name.as_bytes());
        numbers.extend(number.and_then(|number| std::str::from_utf8(number).ok()?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let at = |number: u64| {
        let mut name = name.clone();
        name.push(number.to_string());
        folder.join(name)
    };
    let aside = at(numbers.last().map_or(1, |last| last.saturating_add(1)));
    if !metadata.is_symlink() {
        // One of another user is renamed all the same.
        let _as_it_is = narrow(path).is_err();
    }
    std::fs::rename(path, &aside)?;
    let over = (numbers.len() + 1).saturating_sub(KEPT_ASIDE);
    for number in numbers.into_iter().take(over) {
        let old = at(number);
        let is_folder = old.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
        // One that stays takes room, and nothing else.
        let _stays = removed.is_err();
    }
    Ok(Some(aside))
}

/// Takes from all but its owner what they may do with a file or folder; true if that was anything. Links are followed.
pub fn narrow(path: &Path) -> io::Result<bool> {
    let mode = path.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7700))?;
    Ok(true)
}

/// Takes from all but its owner what they may do with a folder and all that lies in it. A link is left as it is, and so is
/// what it leads to. Goes on behind what cannot be changed, and gives the first error then.
pub fn narrow_all(folder: &Path) -> io::Result<()> {
    let mut first = narrow(folder).map(drop);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let done = match entry.file_type()? {
            kind if kind.is_dir() => narrow_all(&entry.path()),
            kind if kind.is_file() => narrow(&entry.path()).map(drop),
            _ => Ok(()),
        };
        // A file may go while it is looked at.
        let done =
            done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
        first = first.and(done);
    }
    first
}

/// Permission bits that others than its owner have on a file; 0 if they have none.
pub fn readable_by_others(path: &Path) -> io::Result<u32> {
    Ok(path.metadata()?.permissions().mode() & 0o077)
}

/// Facts that tell one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Time of the last change to content or permissions: seconds and nanoseconds.
    changed: (i64, i64),
}

/// Files with their versions at the last look.
#[derive(Debug)]
struct Watched {
    files: Vec<(PathBuf, Option<Version>)>,
}

impl Watched {
    fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().map(|path| (path.clone(), version(&path))).collect() }
    }

    /// True if any file has changed since the last call. Links are followed.
    fn have_changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let now = version(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

/// Files that someone may exchange while the process runs. They are read again when they change, by one reader at a
/// time.
#[derive(Debug)]
pub struct Followed {
    state: Mutex<(Watched, Option<String>)>,
}

/// Result of a look at followed files.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<E> {
    /// No file has changed, and nothing was read.
    Same,
    Read,
    Failed(E),
    /// Reading failed again for the reason of the time before, so that it need not be reported again.
    FailedAgain,
}

impl Followed {
    /// Follows `files` from the state they are in now. To be called before they are first read.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { state: Mutex::new((Watched::new(files), None)) }
    }

    /// Calls `read` if a file has changed, if the last reading failed, or if `is_asked`. Blocks.
    pub fn look<E: Display>(&self, is_asked: bool, read: impl FnOnce() -> Result<(), E>) -> Look<E> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (watched, complaint) = &mut *state;
        // Before they are read: what changes meanwhile is read at the next look.
        if !(watched.have_changed() | complaint.is_some() | is_asked) {
            return Look::Same;
        }
        match read() {
            Ok(()) => {
                *complaint = None;
                Look::Read
            }
            Err(error) => {
                let reason = error.to_string();
                let is_known = complaint.as_ref() == Some(&reason) && !is_asked;
                *complaint = Some(reason);
                if is_known { Look::FailedAgain } else { Look::Failed(error) }
            }
        }
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = path.metadata().ok()?;
    Some(Version {
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_private_and_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/device.key");
        let mut watched = Watched::new([path.clone()]);
        assert!(!watched.have_changed());
        replace(&path, b"one", PRIVATE).unwrap();
        assert_eq!(readable_by_others(&path).unwrap(), 0);
        assert!(watched.have_changed() && !watched.have_changed());
        replace(&path, b"two", PUBLIC).unwrap();
        assert!(watched.have_changed());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_ne!(readable_by_others(&path).unwrap(), 0);
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn what_is_set_aside_is_numbered_private_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        assert_eq!(set_aside(&path).unwrap(), None);
        for number in 1..=KEPT_ASIDE + 3 {
            match number % 2 {
                0 => std::fs::create_dir(&path).unwrap(),
                _ => std::fs::write(&path, number.to_string()).unwrap(),
            }
            std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            let aside = set_aside(&path).unwrap().unwrap();
            assert_eq!(aside, dir.path().join(format!("store.aside-{number}")));
            assert_eq!(readable_by_others(&aside).unwrap(), 0);
        }
        let mut left: Vec<_> =
            dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), KEPT_ASIDE);
        assert!(!left.contains(&"store.aside-3".into()) && left.contains(&"store.aside-4".into()));
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &path).unwrap();
        assert!(set_aside(&path).unwrap().is_some());
    }

    #[test]
    fn what_lies_in_a_folder_is_narrowed_and_what_links_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("state"), dir.path().join("other"));
        std::fs::create_dir_all(folder.join("spool/deep")).unwrap();
        for path in [&folder.join("spool/deep/a"), &folder.join("b"), &other] {
            std::fs::write(path, "x").unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap();
        }
        std::os::unix::fs::symlink(&other, folder.join("link")).unwrap();
        narrow_all(&folder).unwrap();
        for path in ["spool", "spool/deep", "spool/deep/a", "b", ""] {
            assert_eq!(readable_by_others(&folder.join(path)).unwrap(), 0, "{path}");
        }
        assert_eq!(other.metadata().unwrap().mode() & 0o777, 0o664);
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_and_complained_about_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let followed = Followed::new([path.clone()]);
        let bad = || Err("no".to_owned());
        assert_eq!(followed.look(false, bad), Look::Same);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(followed.look(false, bad), Look::Failed("no".to_owned()));
        assert_eq!(followed.look(false, bad), Look::FailedAgain);
        assert_eq!(followed.look(true, bad), Look::Failed("no".to_owned()));
        assert_eq!(followed.look(false, || Err("worse".to_owned())), Look::Failed("worse".to_owned()));
        // The file is as it was, and its disk has come back.
        assert_eq!(followed.look(false, || Ok::<_, String>(())), Look::Read);
        assert_eq!(followed.look(false, bad), Look::Same);
        assert_eq!(followed.look(true, || Ok::<_, String>(())), Look::Read);
    }

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_its_folder() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: only root can give files away");
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(54_321), Some(54_322)).unwrap();
        let owner = |path: &Path| {
            let metadata = path.symlink_metadata().unwrap();
            (metadata.uid(), metadata.gid())
        };
        let inner = folder.join("inner");
        make_private_folder(&inner).unwrap();
        make_private_folder(&inner).unwrap();
        assert_eq!((owner(&inner), inner.metadata().unwrap().mode() & 0o777), ((54_321, 54_322), 0o700));
        let deep = folder.join("a/b/table");
        replace(&deep, b"rows", PUBLIC).unwrap();
        for path in deep.ancestors().take(3) {
            assert_eq!(owner(path), (54_321, 54_322), "{}", path.display());
        }
        let (table, lock) = (folder.join("table"), folder.join("lock"));
        replace(&table, b"rows", PRIVATE).unwrap();
        open_lock(&lock).unwrap();
        assert_eq!((owner(&table), owner(&lock)), ((54_321, 54_322), (54_321, 54_322)));
        // Its owner may put links there: they lead nowhere.
        let (precious, other) = (dir.path().join("precious"), dir.path().join("other"));
        std::fs::write(&precious, "mine").unwrap();
        let beside = folder.join(format!("table.{}.new", std::process::id()));
        std::os::unix::fs::symlink(&precious, beside).unwrap();
        replace(&table, b"more rows", PRIVATE).unwrap();
        std::fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink(&precious, &lock).unwrap();
        assert!(open_lock(&lock).is_err());
        std::fs::remove_file(&lock).unwrap();
        std::fs::hard_link(&precious, &lock).unwrap();
        open_lock(&lock).unwrap();
        replace(&other, b"", PRIVATE).unwrap();
        assert_eq!((owner(&precious).0, owner(&other).0), (0, owner(dir.path()).0));
        assert_eq!(std::fs::read(&precious).unwrap(), b"mine");
    }
}
