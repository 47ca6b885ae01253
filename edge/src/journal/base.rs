//! The journal's database on the disk, opened so that no byte of its file can harm the agent: every page is checked before
//! one is trusted, on a thread whose panic is an error and whose end is not waited for for ever.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use millgate_shared::trouble::{self, Fault, Trouble};
use millgate_shared::{files, panics};
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::change;

/// redb's own is 1 GiB.
const CACHE_BYTES: usize = 1 << 20;
/// How long the opening of a database may take, and how much longer for each MiB of it.
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_A_MIB: Duration = Duration::from_secs(1);

/// The database, open.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    database: Database,
    /// Device and inode.
    identity: (u64, u64),
    /// The number of its last commit.
    pub(super) number: u64,
}

/// What lies at the database's path.
#[derive(Debug)]
pub(super) enum Found {
    Here(Box<Base>),
    Absent,
    /// Another agent has it.
    InUse,
    /// Its format is another version's.
    Format(u32),
    /// Its bytes are no journal's, and never will be.
    Damaged(String),
    /// The machine does not let it be read or written at the moment.
    Trouble(String),
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its reader panicked: {0}")]
    Panicked(String),
}

impl Failed {
    /// Whether its bytes are at fault, and not the machine.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Panicked(_) => true,
            Self::Io(error) => is_of_bytes(error),
            Self::Redb(redb::Error::Io(error)) => is_of_bytes(error),
            Self::Redb(redb::Error::Backend(error)) => error.downcast_ref().is_none_or(is_of_bytes),
            // It is to be opened anew, which says more.
            Self::Redb(
                redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_),
            ) => false,
            Self::Redb(_) => true,
        }
    }
}

/// Whether an I/O error says that the bytes are wrong. What redb makes up itself, it has found in them.
fn is_of_bytes(error: &io::Error) -> bool {
    match trouble::judge(error) {
        Fault::Itself => true,
        Fault::Absent => false,
        // Also a place in the file that no file can have.
        Fault::Machine(trouble) => {
            let is_no_place = error.kind() == io::ErrorKind::InvalidInput;
            trouble == Trouble::Other && (error.raw_os_error().is_none() || is_no_place)
        }
    }
}

impl Base {
    /// Opens the database at a path. Blocks, for a bounded time.
    pub(super) fn open(path: &Path) -> Found {
        let len = match path.metadata() {
            Ok(metadata) if metadata.is_dir() => return Found::Damaged("is a folder".to_owned()),
            // One that is made here has its tables before it has this name.
            Ok(metadata) if metadata.len() == 0 => return Found::Damaged("is empty".to_owned()),
            Ok(metadata) => metadata.len(),
            // A link that leads nowhere is something at this path.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.symlink_metadata() {
                Ok(_) => return Found::Damaged("is a link that leads nowhere".to_owned()),
                Err(_) => return Found::Absent,
            },
            Err(error) => return Found::Trouble(error.to_string()),
        };
        let mib = u32::try_from(len >> 20).unwrap_or(u32::MAX);
        let longest = LONGEST.saturating_add(LONGEST_A_MIB.saturating_mul(mib));
        let path = path.to_path_buf();
        match within(longest, move || Self::open_and_look(&path)) {
            Ok(found) => found,
            Err(Undone::Failed(why)) => Found::Damaged(why),
            // Nothing is concluded from the machine's trouble.
            Err(Undone::Trouble(why)) => Found::Trouble(why),
        }
    }

    fn open_and_look(path: &Path) -> Found {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_of_bytes(&error) => return Found::Damaged(error.to_string()),
            Err(error) => return Found::Trouble(error.to_string()),
        };
        // What the agent's own user may not narrow is another user's.
        let _as_it_is = files::narrow(path).is_err();
        let base = match Self::of(path, file) {
            Ok(base) => base,
            Err(Failed::Redb(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch)) => {
                return Found::InUse;
            }
            Err(error) if error.is_damage() => return Found::Damaged(error.to_string()),
            Err(error) => return Found::Trouble(error.to_string()),
        };
        match base.look() {
            Ok((Some(change::FORMAT), number)) => Found::Here(Box::new(Self { number, ..base })),
            Ok((Some(found), _)) => Found::Format(found),
            Ok((None, _)) => Found::Damaged("holds no journal".to_owned()),
            Err(error) if error.is_damage() => Found::Damaged(error.to_string()),
            Err(error) => Found::Trouble(error.to_string()),
        }
    }

    fn of(path: &Path, file: File) -> Result<Self, Failed> {
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        let opened = FileBackend::new(file).and_then(|file| {
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(file)
        });
        let database = opened.map_err(|error: DatabaseError| redb::Error::from(error))?;
        Ok(Self { path: path.to_path_buf(), database, identity, number: 0 })
    }

    /// Makes a new one beside `path`, has `fill` write to it, in one commit, all up to the commit whose number it gives, and puts it at
    /// `path`. Whatever lay there is replaced.
    pub(super) fn make(
        path: &Path,
        fill: impl FnOnce(&WriteTransaction) -> Result<u64, Failed>,
    ) -> Result<Self, Failed> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let made = (|| {
            if let Err(error) = std::fs::remove_file(&beside)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error.into());
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(files::PRIVATE)
                .open(&beside)?;
            let mut base = Self::of(path, file)?;
            let mut number = 0;
            base.write(|transaction| {
                change::begin(transaction)?;
                number = fill(transaction)?;
                change::count(transaction, number)?;
                Ok(())
            })?;
            base.number = number;
            std::fs::rename(&beside, path)?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(base)
        })();
        if made.is_err() {
            let _nothing_left = std::fs::remove_file(&beside).is_ok();
        }
        made
    }

    fn look(&self) -> Result<(Option<u32>, u64), Failed> {
        self.read(|read| Ok((change::format(read)?, change::commits(read)?)))
    }

    /// Reads. A panic is an error: the file has been changed under the agent.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let reading = || read(&self.database.begin_read().map_err(redb::Error::from)?);
        panics::caught(reading).map_err(Failed::Panicked)?
    }

    /// Writes, as one commit; a panic is an error likewise.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let writing = || {
            let transaction = self.database.begin_write().map_err(redb::Error::from)?;
            write(&transaction)?;
            transaction.commit().map_err(redb::Error::from)?;
            Ok(())
        };
        panics::caught(writing).map_err(Failed::Panicked)?
    }

    /// Whether the file at its path is still the one that is open.
    pub(super) fn is_there(&self) -> bool {
        super::wal::is_at(&self.path, self.identity)
    }
}

/// Why work came to nothing.
#[derive(Debug, PartialEq, Eq)]
enum Undone {
    /// The work itself failed.
    Failed(String),
    /// The machine has no thread for it, or has not done it in time.
    Trouble(String),
}

/// Runs `work` on a thread of its own; an error if it panics, or has not ended by then. Its thread is then left behind.
fn within<T: Send + 'static>(
    longest: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Undone> {
    let (done, wait) = sync_channel(1);
    let thread = std::thread::Builder::new().name("journal-reader".to_owned()).spawn(move || {
        // Nobody may wait for it any more.
        let _late = done.send(panics::caught(work)).is_err();
    });
    if let Err(error) = thread {
        return Err(Undone::Trouble(format!("no thread can be started: {error}")));
    }
    match wait.recv_timeout(longest) {
        Ok(done) => done.map_err(|message| Undone::Failed(format!("its reader panicked: {message}"))),
        Err(RecvTimeoutError::Timeout) => {
            Err(Undone::Trouble(format!("it could not be read within {} s", longest.as_secs())))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(Undone::Failed("its reader has ended without a word".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_or_never_ends_is_an_error() {
        assert_eq!(within(LONGEST, || 7), Ok(7));
        assert_eq!(
            within(LONGEST, || panic!("page 3")),
            Err::<(), _>(Undone::Failed("its reader panicked: page 3".to_owned()))
        );
        let (hold, held) = sync_channel::<()>(0);
        let hung = within(Duration::from_millis(1), move || held.recv().is_ok());
        assert!(matches!(hung, Err(Undone::Trouble(why)) if why.contains("could not be read within")));
        drop(hold);
    }
}
