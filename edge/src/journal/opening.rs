//! Which of the journal's two copies a start goes on from.
//!
//! | the database | the log | then |
//! | --- | --- | --- |
//! | good | whole, and as far | nothing |
//! | good | further | what the database lacks is applied: a kill came between the two, or the database has gone back to an earlier commit |
//! | good | missing, damaged, or not as far | the log is written anew from the database |
//! | missing or damaged | there | the database is set aside and made anew from the log |
//! | missing or damaged | none that can be read | both are begun anew; [`Begun::Anew`] has whoever asks look elsewhere |
//! | cannot be read at the moment | there | the log alone is gone on with |

use std::io;
use std::path::Path;

use millgate_shared::files;

use super::base::{Base, Found};
use super::change::{self, Change};
use super::state::State;
use super::wal::{self, Wal};
use super::{Begun, Counts, FILE_NAME, Journal, JournalError};

/// Takes from others what they may do with the journal's files, those of earlier days among them. Another user's are used as they
/// are, if they can be.
fn narrow(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let is_plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_plain && entry.file_name().as_encoded_bytes().starts_with(b"decided.") {
            let _as_it_is = files::narrow(&entry.path()).is_err();
        }
    }
}

/// The log as a start found it.
enum Log {
    Absent,
    Here(wal::Found),
    /// The machine does not let it be read at the moment.
    Trouble(String),
}

impl Journal {
    pub(super) fn open_counted(dir: &Path, counts: &Counts) -> Result<Self, JournalError> {
        let path = dir.join(FILE_NAME);
        let mut this = Self::nothing(dir, counts);
        if let Err(error) = files::make_private_folder(dir) {
            this.why = format!("{}: {error}", dir.display());
            this.begun = Begun::Blind;
            return Ok(this);
        }
        narrow(dir);
        if wal::is_in_use(dir) {
            return Err(JournalError::InUse { path });
        }
        match Base::open(&path) {
            Found::InUse => return Err(JournalError::InUse { path }),
            Found::Here(base) => this.go_on(*base)?,
            Found::Absent => this.make_anew(None)?,
            Found::Damaged(why) => this.make_anew(Some(why))?,
            Found::Format(found) => {
                let why = format!("is of format {found}, and this agent reads {}", change::FORMAT);
                this.make_anew(Some(why))?;
            }
            Found::Trouble(why) => this.go_on_blind(format!("{}: {why}", path.display())),
        }
        Ok(this)
    }

    /// Looks at what is there, for a command beside an agent that does not run; changes nothing. `None`: there is nothing.
    pub fn existing(dir: &Path) -> Result<Option<Self>, JournalError> {
        if !Self::is_in(dir) {
            return Ok(None);
        }
        let path = dir.join(FILE_NAME);
        if wal::is_in_use(dir) {
            return Err(JournalError::InUse { path });
        }
        let mut this = Self::nothing(dir, &Counts::default());
        match Base::open(&path) {
            Found::InUse => return Err(JournalError::InUse { path }),
            Found::Here(base) => {
                this.number = base.number;
                this.base = Some(*base);
            }
            Found::Absent => this.read_log("is missing".to_owned()),
            Found::Damaged(why) | Found::Trouble(why) => this.read_log(why),
            Found::Format(found) => {
                this.read_log(format!("is of format {found}, and this agent reads {}", change::FORMAT));
            }
        }
        Ok(Some(this))
    }

    /// What the log alone says.
    fn read_log(&mut self, why: String) {
        self.why = why;
        let mut state = State::default();
        let read = wal::read(
            &self.dir,
            |_| true,
            |_, changes| {
                changes.into_iter().for_each(|change| state.apply(change));
                Ok(())
            },
        );
        if let Err(error) = read {
            self.why = format!("{}; {}: {error}", self.why, wal::FILE_NAME);
        }
        self.state = Some(state);
    }

    fn nothing(dir: &Path, counts: &Counts) -> Self {
        Self {
            dir: dir.to_path_buf(),
            base: None,
            state: None,
            wal: None,
            number: 0,
            begun: Begun::On,
            why: String::new(),
            is_damaged: false,
            is_away: false,
            counts: counts.clone(),
        }
    }

    /// The database is good.
    pub(super) fn go_on(&mut self, base: Base) -> Result<(), JournalError> {
        self.number = base.number;
        let number = base.number;
        let mut later: Vec<(u64, Vec<Change>)> = Vec::new();
        let log = self.look_at_log(
            |of| of.is_some_and(|of| of > number),
            |of, changes| {
                later.extend(of.map(|of| (of, changes)));
            },
        );
        if let Log::Here(found) = &log
            && found.last > number
        {
            let reaches_back = found.copied.is_none_or(|copied| copied <= number);
            if reaches_back {
                self.catch_up(base, found, &later);
            } else {
                // The copy in the log is of a later day than the database.
                drop(base);
                let why = format!("ends at commit {number}, and the log at {}", found.last);
                return self.make_anew(Some(why));
            }
        } else {
            self.base = Some(base);
        }
        match log {
            // Without its database it goes on alone.
            _ if self.base.is_none() => {}
            Log::Here(found) if found.is_whole() && found.last == self.number => self.open_log(&found)?,
            Log::Trouble(why) => self.lacks_log(&why),
            log => {
                // A log that is behind, where both were on a disk that lost its power, is no loss: the database syncs.
                if matches!(&log, Log::Here(found) if !found.is_whole())
                    || matches!(log, Log::Absent) && self.number > 0
                {
                    self.begun = Begun::Mended { lost: 0 };
                    self.counts.made_anew("journal_log");
                    tracing::error!(file = %self.dir.join(wal::FILE_NAME).display(), "the journal's log is missing or damaged; it is written anew from the database, and nothing is lost");
                }
                self.write_log();
            }
        }
        Ok(())
    }

    /// Applies what the database lacks.
    fn catch_up(&mut self, mut base: Base, found: &wal::Found, later: &[(u64, Vec<Change>)]) {
        let commits = found.last - base.number;
        let applied = base.write(|transaction| {
            change::apply(transaction, later.iter().flat_map(|(_, changes)| changes))?;
            Ok(change::count(transaction, found.last)?)
        });
        match applied {
            Ok(()) => {
                // One is what a kill between the two leaves.
                if commits > 1 || found.lost > 0 {
                    self.begun = Begun::Mended { lost: found.lost };
                    self.counts.made_anew("journal");
                    tracing::error!(
                        commits,
                        lost = found.lost,
                        "the journal had lost its last commits; they are taken from its log"
                    );
                }
                self.number = found.last;
                base.number = found.last;
                self.base = Some(base);
            }
            Err(error) => {
                drop(base);
                self.go_on_blind(format!("{}: {error}", self.path().display()));
            }
        }
    }

    /// There is no database that can be used; `why` not, where there is something in its place.
    pub(super) fn make_anew(&mut self, why: Option<String>) -> Result<(), JournalError> {
        if let Some(why) = &why
            && let Err(error) = Self::set_base_aside(&self.dir, why, &self.counts)
        {
            self.go_on_blind(format!("{}: {why}, and cannot be set aside: {error}", self.path().display()));
            return Ok(());
        }
        let mut log = Log::Absent;
        let made = Base::make(&self.path(), |transaction| {
            let mut failed = None;
            log = self.look_at_log(
                |_| true,
                |_, changes| {
                    if failed.is_none() {
                        failed = change::apply(transaction, &changes).err();
                    }
                },
            );
            match (failed, &log) {
                (Some(error), _) => Err(error.into()),
                (None, Log::Here(found)) => Ok(found.last),
                (None, Log::Absent) => Ok(0),
                // What it holds must not be begun anew beside it.
                (None, Log::Trouble(why)) => Err(io::Error::other(why.clone()).into()),
            }
        });
        let base = match made {
            Ok(base) => base,
            Err(error) => {
                self.go_on_blind(format!("{}: {error}", self.path().display()));
                return Ok(());
            }
        };
        self.number = base.number;
        self.base = Some(base);
        match log {
            Log::Here(found) => {
                self.begun = Begun::Mended { lost: found.lost + u64::from(found.copied.is_none()) };
                self.counts.made_anew("journal");
                tracing::error!(
                    file = %self.path().display(), why = why.as_deref().unwrap_or("is missing"),
                    commits = found.last, lost = found.lost,
                    "the journal is made anew from its log; where `lost` is 0 nothing is lost"
                );
                match found.is_whole() {
                    true => self.open_log(&found)?,
                    false => self.write_log(),
                }
            }
            Log::Absent | Log::Trouble(_) => {
                self.begun = Begun::Anew;
                self.write_log();
            }
        }
        Ok(())
    }

    /// The database was opened and cannot be read after all: what its log says is gone on with.
    pub(crate) fn distrust(&mut self, error: &JournalError) {
        self.base = None;
        self.wal = None;
        self.go_on_blind(error.to_string());
    }

    /// The machine does not let the database be used.
    fn go_on_blind(&mut self, why: String) {
        self.begun = Begun::Blind;
        self.why = why;
        let mut state = State::default();
        let log = self
            .look_at_log(|_| true, |_, changes| changes.into_iter().for_each(|change| state.apply(change)));
        self.state = Some(state);
        if let Log::Here(found) = log {
            self.number = self.number.max(found.last);
            // What is decided from here on goes there, if that can be written.
            self.wal = Wal::open(&self.dir, &found).ok();
        }
    }

    fn look_at_log(
        &self,
        wants: impl Fn(Option<u64>) -> bool,
        mut each: impl FnMut(Option<u64>, Vec<Change>),
    ) -> Log {
        let path = self.dir.join(wal::FILE_NAME);
        let read = wal::read(&self.dir, wants, |number, changes| {
            each(number, changes);
            Ok(())
        });
        match read {
            Ok(Some(found)) if found.last > 0 || found.copied.is_some() => Log::Here(found),
            Ok(None) => Log::Absent,
            // Nothing in it can be read, or a folder lies in its place.
            Ok(Some(_)) => self.set_log_aside("nothing in it can be read"),
            Err(error) if path.is_dir() => self.set_log_aside(&error.to_string()),
            Err(error) => Log::Trouble(error.to_string()),
        }
    }

    fn set_log_aside(&self, why: &str) -> Log {
        let path = self.dir.join(wal::FILE_NAME);
        match files::set_aside(&path) {
            Ok(Some(aside)) => {
                self.counts.set_aside("journal_log");
                tracing::error!(file = %path.display(), aside = %aside.display(), why, "the journal's log is set aside");
                Log::Absent
            }
            Ok(None) => Log::Absent,
            Err(error) => Log::Trouble(error.to_string()),
        }
    }

    fn open_log(&mut self, found: &wal::Found) -> Result<(), JournalError> {
        match Wal::open(&self.dir, found) {
            Ok(wal) => self.wal = Some(wal),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(JournalError::InUse { path: self.dir.join(wal::FILE_NAME) });
            }
            Err(error) => self.lacks_log(&error.to_string()),
        }
        Ok(())
    }

    fn write_log(&mut self) {
        if let Err(error) = self.rewrite_wal() {
            self.lacks_log(&error.to_string());
        }
    }

    pub(super) fn lacks_log(&mut self, why: &str) {
        self.why = format!("{}: {why}", self.dir.join(wal::FILE_NAME).display());
    }
}
