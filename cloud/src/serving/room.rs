//! Room for the memory that runs take: one that should take more than a worker has is refused before it begins, by name
//! and size, and those that take much wait for one another, so that together they do not take more than there is.

use std::sync::Arc;
use std::time::Instant;

use millgate_shared::array::Array;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::served::Served;
use crate::engines::appetite;
use crate::failure::Failure;
use crate::guests::Guests;

/// Room is counted in pieces of so many bytes.
const PIECE: u64 = 1 << 20;
/// A run that should take no more than this part of a worker's memory, one in so many, waits for no other.
const LITTLE: u64 = 32;

/// Room that is taken, until this is dropped.
pub(crate) type Held = OwnedSemaphorePermit;

/// The memory of all workers.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes that one worker may take; `None`: models run in this process, and nothing is known of them.
    most: Option<u64>,
    pieces: u32,
    free: Arc<Semaphore>,
}

impl Room {
    pub(super) fn of(guests: &Guests) -> Self {
        let most = guests.are_apart().then(|| guests.memory_per_worker());
        Self::new(most, guests.memory_for_all())
    }

    fn new(most: Option<u64>, all: u64) -> Self {
        let pieces = u32::try_from(all / PIECE).unwrap_or(u32::MAX).max(1);
        // A semaphore has a bound of its own, which no machine's memory comes near.
        let count = (pieces as usize).min(Semaphore::MAX_PERMITS);
        Self { most, pieces, free: Arc::new(Semaphore::new(count)) }
    }

    /// Waits for the room that a run with these inputs takes, where that is much.
    pub(super) async fn take(
        &self,
        served: &Served,
        inputs: &[Array],
        deadline: Instant,
    ) -> Result<Option<Held>, Failure> {
        let Some(most) = self.most else { return Ok(None) };
        let size = appetite::size(inputs);
        if let Some(expected) = served.appetite.refuses(Instant::now(), size, most) {
            return Err(Failure::Memory(too_much(served, inputs, expected, most)));
        }
        let expected = served.appetite.expected(size).min(most);
        if expected <= most / LITTLE {
            return Ok(None);
        }
        let pieces = u32::try_from(expected.div_ceil(PIECE)).unwrap_or(u32::MAX).min(self.pieces);
        let taken = Arc::clone(&self.free).acquire_many_owned(pieces);
        let taken = tokio::time::timeout_at(deadline.into(), taken).await.map_err(|_| Failure::Deadline)?;
        taken.map(Some).map_err(|_| Failure::Stopped)
    }
}

/// Names the largest input.
fn too_much(served: &Served, inputs: &[Array], expected: u64, most: u64) -> String {
    let ports = served.signature().inputs.iter();
    let largest = ports.zip(inputs).max_by_key(|(_, input)| input.values().size());
    let what = largest.map_or_else(String::new, |(port, input)| {
        let shape: Vec<String> = input.shape().iter().map(usize::to_string).collect();
        format!("input `{}` of {} ", port.name, shape.join("x"))
    });
    let mut text = format!("model `{}`: {what}would take about {}", served.name, told(expected));
    text.push_str(&format!("; a worker has {}", told(most)));
    text
}

/// Bytes as people read them.
fn told(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let mut value = bytes as f64 / (KIB * KIB);
    for unit in ["MiB", "GiB"] {
        if value < KIB {
            return format!("{} {unit}", rounded(value));
        }
        value /= KIB;
    }
    format!("{} TiB", rounded(value))
}

fn rounded(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_suits_them() {
        let gib = 1 << 30;
        assert_eq!(
            [3 << 20, 640 << 20, 2 * gib, 15 * gib, 3000 * gib].map(told),
            ["3.0 MiB", "640 MiB", "2.0 GiB", "15 GiB", "2.9 TiB"]
        );
    }

    #[test]
    fn what_takes_much_leaves_no_room_for_as_much_again() {
        let room = Room::new(Some(2 << 30), 3 << 30);
        let take = |pieces| Arc::clone(&room.free).try_acquire_many_owned(pieces);
        let first = take(2048).unwrap();
        assert!(take(2048).is_err(), "two at once are more than there is");
        assert!(take(1024).is_ok());
        drop(first);
        assert!(take(2048).is_ok());
    }
}
