//! Places for connections, bounded in number. When all are taken, the connection that has been quiet the longest has
//! to leave for a new one: peers that connect and say nothing keep nobody out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::counts::Counts;

#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: HashMap<u64, Occupied>,
}

#[derive(Debug)]
struct Occupied {
    /// Since when its peer owes us something; `None` while it is being served.
    quiet_since: Option<Instant>,
    cut: CancellationToken,
}

/// What became of a new connection.
#[derive(Debug)]
enum Offer {
    Seated(Seat),
    /// Seated, and another one was cut for it.
    Displaced(Seat),
    /// Every connection is being served.
    Full,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts every connection that is quiet.
    pub(crate) fn clear(&self) {
        for seat in self.lock().seats.values().filter(|seat| seat.quiet_since.is_some()) {
            seat.cut.cancel();
        }
    }

    /// A seat for a new connection, which is quiet from now on and ends with `cut`. A refusal is counted and logged; `None`:
    /// every connection is being served.
    pub(super) fn seat(
        self: &Arc<Self>,
        peer: SocketAddr,
        cut: &CancellationToken,
        counts: &Counts,
    ) -> Option<Seat> {
        match self.take(Instant::now(), cut) {
            Offer::Seated(seat) => Some(seat),
            Offer::Displaced(seat) => {
                tracing::debug!(%peer, "the quietest connection is cut: there are `max_connections`");
                counts.refused();
                Some(seat)
            }
            Offer::Full => {
                tracing::warn!(%peer, "connection refused: there are `max_connections`");
                counts.refused();
                None
            }
        }
    }

    /// A seat, quiet from `now`, that ends with `cut`.
    fn take(self: &Arc<Self>, now: Instant, cut: &CancellationToken) -> Offer {
        let mut taken = self.lock();
        let mut displaced = false;
        if taken.seats.len() >= self.most {
            let quiet = taken.seats.iter().filter_map(|(number, seat)| Some((seat.quiet_since?, *number)));
            let Some((_, quietest)) = quiet.min() else { return Offer::Full };
            if let Some(seat) = taken.seats.remove(&quietest) {
                seat.cut.cancel();
                displaced = true;
            }
        }
        let (number, cut) = (taken.next, cut.child_token());
        taken.next += 1;
        taken.seats.insert(number, Occupied { quiet_since: Some(now), cut: cut.clone() });
        let seat = Seat { seats: Arc::clone(self), number, cut };
        if displaced { Offer::Displaced(seat) } else { Offer::Seated(seat) }
    }
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    cut: CancellationToken,
}

impl Seat {
    /// Cancelled when the connection has to end.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Marks the seat's peer as being served, so that it stays.
    pub(crate) fn busy(&self) {
        self.set(None);
    }

    /// Marks the seat's peer as having what it asked for.
    pub(crate) fn quiet(&self, now: Instant) {
        self.set(Some(now));
    }

    fn set(&self, quiet_since: Option<Instant>) {
        if let Some(seat) = self.seats.lock().seats.get_mut(&self.number) {
            seat.quiet_since = quiet_since;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_quietest_leaves_for_a_new_one_and_nobody_who_is_served() {
        let (seats, cut, now) = (Seats::new(2), CancellationToken::new(), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        let seated = |offer| match offer {
            Offer::Seated(seat) => (seat, false),
            Offer::Displaced(seat) => (seat, true),
            Offer::Full => panic!("full"),
        };
        let (first, _) = seated(seats.take(now, &cut));
        let (second, displaced) = seated(seats.take(after(1), &cut));
        assert!(!displaced);
        first.busy();
        let (third, displaced) = seated(seats.take(after(2), &cut));
        assert!(displaced && second.cut().is_cancelled() && !first.cut().is_cancelled());
        drop(second);
        third.busy();
        assert!(matches!(seats.take(after(3), &cut), Offer::Full));
        first.quiet(after(4));
        let (_fourth, displaced) = seated(seats.take(after(5), &cut));
        assert!(displaced && first.cut().is_cancelled() && !third.cut().is_cancelled());
        drop(third);
        assert!(!seated(seats.take(after(6), &cut)).1);
    }
}
