//! What is in hand right now, in a file: a slot an item, written when it is taken and emptied when it is let go.
//!
//! Nothing is synced: what the system has been given survives the death of the process, whatever kills it. After a power cut
//! the file may say what was so a moment before, which counts for little there.
//!
//! ```text
//! slot 0: {"boot": the machine's, "is_over": the agent ended by itself}     slots 1…: an item, as JSON, or nothing
//! each: length u32, CRC-32 u32, that many bytes; little endian
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use millgate_shared::files;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::law::{Death, Item};

/// The file's name in the state directory.
pub(super) const FILE_NAME: &str = "in_hand";
/// Bytes of a slot. An item with a longer name is not noted.
const SLOT: usize = 2048;
const HEAD: usize = 8;
/// Items at a time; more are not noted.
const SLOTS: u16 = 128;

#[derive(Debug, Serialize, Deserialize)]
struct First {
    boot: String,
    is_over: bool,
}

/// The file, open and locked.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Inner>);

/// How the run before has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Before {
    /// There was none, as far as is known.
    #[default]
    Unknown,
    Ended,
    Killed,
}

#[derive(Debug)]
struct Inner {
    file: File,
    before: Before,
    free: Mutex<Vec<u16>>,
}

/// Emptied when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    number: u16,
}

impl Slots {
    /// Opens or makes it; gives how the run before has ended, if not by itself. What is no file is set aside. An error of kind
    /// `WouldBlock`: another agent has it.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Option<Death>)> {
        files::make_private_folder(dir)?;
        let path = dir.join(FILE_NAME);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(files::PRIVATE).open(&path)
        };
        let file = open().or_else(|error| {
            // Nothing in it is worth as much as knowing what is in hand from here on.
            let aside = files::set_aside(&path)?;
            tracing::error!(path = %path.display(), ?aside, %error, "the notes of what is in hand cannot be used; they are set aside and begun anew");
            open()
        })?;
        let _of_another_user = files::narrow(&path).is_err();
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let boot = boot();
        let death = death(&file, &boot);
        let before = match (&death, read::<First>(&file, 0)) {
            (Some(_), _) => Before::Killed,
            (None, Some(_)) => Before::Ended,
            (None, None) => Before::Unknown,
        };
        // All of it is there before any of it is needed: a full disk must not be what keeps an item from being noted.
        let empty = vec![0; SLOT * usize::from(SLOTS)];
        file.write_all_at(&empty, 0)?;
        let this = Self(Arc::new(Inner { file, before, free: Mutex::new((1..SLOTS).rev().collect()) }));
        this.write(0, &First { boot, is_over: false })?;
        Ok((this, death))
    }

    pub(super) fn before(&self) -> Before {
        self.0.before
    }

    /// Notes that an item is in hand; `None` if there is no room for that.
    pub(super) fn take(&self, item: &Item) -> Option<Slot> {
        let number = self.free().pop()?;
        let slot = Slot { slots: self.clone(), number };
        match self.write(number, item) {
            Ok(()) => Some(slot),
            Err(error) => {
                tracing::debug!(%error, "what is in hand cannot be noted");
                None
            }
        }
    }

    /// The agent ends by itself: whatever is still in hand is not to blame.
    pub(super) fn end(&self) -> io::Result<()> {
        self.write(0, &First { boot: boot(), is_over: true })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u16>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, number: u16, what: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(what)?;
        if text.len() > SLOT - HEAD {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "its name is too long"));
        }
        let mut bytes = Vec::with_capacity(HEAD + text.len());
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(crc32fast::hash(&text).to_le_bytes());
        bytes.extend(text);
        self.0.file.write_all_at(&bytes, at(number))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Err(error) = self.slots.0.file.write_all_at(&[0; HEAD], at(self.number)) {
            tracing::debug!(%error, "what is not in hand any more cannot be noted");
        }
        self.slots.free().push(self.number);
    }
}

fn at(number: u16) -> u64 {
    u64::from(number) * SLOT as u64
}

/// What an earlier run has left; nothing of a file that is none of ours.
fn death(file: &File, boot: &str) -> Option<Death> {
    let first: First = read(file, 0)?;
    if first.is_over {
        return None;
    }
    let in_hand: Vec<Item> = (1..SLOTS).filter_map(|number| read(file, number)).collect();
    Some(Death { in_hand, is_reboot: first.boot != boot })
}

fn read<T: DeserializeOwned>(file: &File, number: u16) -> Option<T> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, at(number)).ok()?;
    let [a, b, c, d, crc @ ..] = head;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len == 0 || len > SLOT - HEAD {
        return None;
    }
    let mut text = vec![0; len];
    file.read_exact_at(&mut text, at(number) + HEAD as u64).ok()?;
    // A death in the middle of a write leaves neither the one nor the other.
    if crc32fast::hash(&text) != u32::from_le_bytes(crc) {
        return None;
    }
    serde_json::from_slice(&text).ok()
}

/// The machine's number of this start; empty where it has none.
fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Item {
        Item::Part { name: name.to_owned() }
    }

    #[test]
    fn what_is_in_hand_at_a_death_is_known_and_what_was_let_go_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (slots, death) = Slots::open(dir.path()).unwrap();
        assert_eq!(death, None);
        let one = slots.take(&part("one"));
        let two = slots.take(&part("two"));
        drop(one);
        let three = slots.take(&part("three"));
        assert_eq!(Slots::open(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // A process that dies empties nothing.
        let copy = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        drop((two, three, slots));
        std::fs::write(dir.path().join(FILE_NAME), copy).unwrap();
        let (slots, death) = Slots::open(dir.path()).unwrap();
        let death = death.unwrap();
        assert!(!death.is_reboot && death.in_hand.len() == 2, "{death:?}");
        assert!(death.in_hand.contains(&part("two")) && death.in_hand.contains(&part("three")));
        let _in_hand = slots.take(&part("four"));
        slots.end().unwrap();
        drop(slots);
    }

    #[test]
    fn an_end_by_itself_suspects_nobody_and_room_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (slots, _) = Slots::open(dir.path()).unwrap();
        let held: Vec<Slot> = (0..300).filter_map(|at| slots.take(&part(&at.to_string()))).collect();
        assert_eq!(held.len(), usize::from(SLOTS) - 1);
        assert!(slots.take(&part(&"x".repeat(SLOT))).is_none());
        slots.end().unwrap();
        let copy = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        drop((held, slots));
        std::fs::write(dir.path().join(FILE_NAME), copy).unwrap();
        assert_eq!(Slots::open(dir.path()).unwrap().1, None);
    }

    #[test]
    fn bytes_that_are_none_of_ours_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [vec![], vec![0xff; 9], vec![0xff; SLOT * 3]] {
            std::fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
            assert_eq!(Slots::open(dir.path()).unwrap().1, None);
        }
    }
}
