//! How much memory this process may still take, and room for large pictures within it.
//!
//! Memory that cannot be had ends a process: an allocation beyond `ulimit -v` aborts it, one beyond a control group's limit
//! or the machine's memory has the kernel kill it. So whoever is about to decode something large asks here first, and gets
//! room or an error that can be told. What is small is not worth the look at the kernel's files.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

mod limits;

/// Requests under this many bytes are granted without a look at the limits.
const SMALL: u64 = 16 << 20;
/// Bytes that are kept free for everything else that this process does meanwhile.
const MARGIN: u64 = 24 << 20;

/// Pause between two looks while others may give memory back.
const LOOK: Duration = Duration::from_millis(50);
const MOST_LOOKS: u32 = 40;

/// Record of the room given so far, in bytes.
struct Told {
    /// Sum of all rooms that are held, whose memory may not be taken yet.
    given: u64,
    /// Most memory that was ever found available.
    most: u64,
}

static TOLD: Mutex<Told> = Mutex::new(Told { given: 0, most: 0 });
static GIVEN_BACK: Condvar = Condvar::new();

/// Refusal: less memory is left than was asked for. All numbers are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs {} MiB of memory, and there are {}", needed.div_ceil(1 << 20), available >> 20)]
pub struct NoRoom {
    pub needed: u64,
    pub available: u64,
    /// The most that was ever found available.
    pub most: u64,
}

impl NoRoom {
    /// There once was room for as much: asking again may help.
    pub fn may_pass(&self) -> bool {
        self.needed <= self.most
    }
}

/// Memory set aside for something that is being made. Dropping it gives it back.
#[derive(Debug)]
#[must_use]
pub struct Room(u64);

/// Number of bytes that this process may still take under the tightest of its limits: control groups, `RLIMIT_AS`,
/// `RLIMIT_DATA`, and the machine's own memory. `None` where the kernel tells of no limit.
pub fn available() -> Option<u64> {
    limits::tightest(&limits::System)
}

/// Sets `bytes` aside. While others hold what is left, this waits for them, and for two seconds more once nobody
/// does; so it must not be called on an async thread, nor by a caller who holds room already. What could never be had
/// is refused at once.
pub fn reserve(bytes: u64) -> Result<Room, NoRoom> {
    reserve_within(bytes, available)
}

fn reserve_within(bytes: u64, available: impl Fn() -> Option<u64>) -> Result<Room, NoRoom> {
    if bytes <= SMALL {
        return Ok(Room(0));
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut looks = 0;
    loop {
        let available = available().unwrap_or(u64::MAX).saturating_sub(MARGIN);
        told.most = told.most.max(available);
        // Part of what was given is taken by now, and so is counted twice; that costs a wait and no more.
        if bytes.saturating_add(told.given) <= available {
            told.given += bytes;
            return Ok(Room(bytes));
        }
        if told.given == 0 {
            looks += 1;
            if bytes > told.most || looks > MOST_LOOKS {
                return Err(NoRoom { needed: bytes, available, most: told.most });
            }
        }
        (told, _) = GIVEN_BACK.wait_timeout(told, LOOK).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.0 > 0 {
            TOLD.lock().unwrap_or_else(PoisonError::into_inner).given -= self.0;
            GIVEN_BACK.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// One test, since all share the room of the process.
    #[test]
    fn what_does_not_fit_waits_for_others_and_then_is_refused() {
        let error = reserve_within(500 * MIB, || Some(400 * MIB)).unwrap_err();
        assert_eq!(error.to_string(), "needs 500 MiB of memory, and there are 376");
        assert!(!error.may_pass() && NoRoom { most: 500 * MIB, ..error }.may_pass());
        assert!(reserve_within(SMALL, || Some(0)).is_ok(), "what is small is had without asking");
        // What there once was room for is waited for.
        let mut looks = [100, 100, 400].into_iter();
        let looks = std::cell::RefCell::new(&mut looks);
        assert!(reserve_within(300 * MIB, || looks.borrow_mut().next().map(|mib| mib * MIB)).is_ok());
        let first = reserve_within(300 * MIB, || Some(400 * MIB)).unwrap();
        std::thread::scope(|scope| {
            let (began, has_begun) = std::sync::mpsc::sync_channel(1);
            let waiting = scope.spawn(move || {
                began.send(()).unwrap();
                let second = reserve_within(300 * MIB, || Some(400 * MIB));
                second.map(drop)
            });
            has_begun.recv().unwrap();
            assert!(!waiting.is_finished());
            drop(first);
            assert_eq!(waiting.join().unwrap().map_err(|error| error.needed), Ok(()));
        });
        assert!(reserve_within(1 << 60, || None).is_ok(), "no limit is known");
    }

    #[test]
    fn this_machine_tells_of_its_memory() {
        let available = available().unwrap();
        assert!(available > MIB, "{available}");
    }
}
