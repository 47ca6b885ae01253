//! Connections whose peers have answers to read, and how long nothing of those has moved. Pure: it takes `now`.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long a peer may leave all of its answers unread. On the slowest line that is served a piece of an answer has left long
/// before that, however many answers share the line.
const PATIENCE: Duration = Duration::from_secs(120);

/// By connection; `C` is what ends one.
#[derive(Debug)]
pub(super) struct Readers<K, C> {
    connections: HashMap<K, Reader<C>>,
}

#[derive(Debug)]
struct Reader<C> {
    /// Pieces of answers that have not left.
    unsent: u32,
    /// When the last one left, or the first of these came.
    moved: Instant,
    cut: C,
}

impl<K, C> Default for Readers<K, C> {
    fn default() -> Self {
        Self { connections: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, C: Clone> Readers<K, C> {
    /// A piece of an answer waits to be sent.
    pub(super) fn waits(&mut self, connection: &K, cut: &C, now: Instant) {
        match self.connections.get_mut(connection) {
            Some(reader) => reader.unsent += 1,
            None => {
                let reader = Reader { unsent: 1, moved: now, cut: cut.clone() };
                self.connections.insert(connection.clone(), reader);
            }
        }
    }

    /// One has been sent, or is no longer wanted.
    pub(super) fn left(&mut self, connection: &K, now: Instant) {
        let Some(reader) = self.connections.get_mut(connection) else { return };
        reader.unsent -= 1;
        reader.moved = now;
        if reader.unsent == 0 {
            self.connections.remove(connection);
        }
    }

    /// Those that are to end: nothing has moved for too long.
    pub(super) fn stuck(&self, now: Instant) -> Vec<C> {
        let is_stuck = |reader: &&Reader<C>| now.saturating_duration_since(reader.moved) > PATIENCE;
        self.connections.values().filter(is_stuck).map(|reader| reader.cut.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_nothing_is_cut_and_who_reads_slowly_is_not() {
        let (mut readers, begin) = (Readers::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        for _ in 0..40 {
            readers.waits(&"slow", &"slow", begin);
            readers.waits(&"stuck", &"stuck", begin);
        }
        for piece in 1..40 {
            readers.left(&"slow", after(60 * piece));
            let stuck = readers.stuck(after(60 * piece));
            assert_eq!(stuck, if piece > 2 { vec!["stuck"] } else { vec![] }, "{piece}");
        }
        readers.left(&"slow", after(2400));
        readers.left(&"nobody", after(2400));
        for _ in 0..40 {
            readers.left(&"stuck", after(9000));
        }
        assert!(readers.connections.is_empty() && readers.stuck(after(9000)).is_empty());
    }
}
