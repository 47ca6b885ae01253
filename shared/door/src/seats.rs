//! Places of one door, or of two that share them: of those who knock, and of those who are in. Each is a guard that gives
//! its place back, with the token that ends its connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use millgate_rim::quiet::Quiet;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::holder::{Block, Holder};
use super::knocks::{self, Knocks};
use super::places::{Admission, Places, Why};

/// How long a TLS or QUIC handshake may take, from a connection's first byte or packet.
pub(crate) const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Refusals for one reason are logged at most once in this time, with the number of those in between.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// Under what an accept that failed is logged.
const CANNOT_ACCEPT: &str = "accept";
/// Connections for which there was no place, and which may ask for health alone.
const SPARES: usize = 8;
/// Share of a door's knocks that one block of addresses may hold: the rest is for everybody else.
const OF_BLOCK: (usize, usize) = (3, 4);
/// Part of a door's knocks at which those over QUIC have to show that they are where they say they are.
const PRESSED: usize = 8;

/// Most connections of a door at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections that have shown that they are real.
    pub connections: usize,
    /// Connections that have said nothing yet, or whose handshake is under way.
    pub knocks: usize,
    /// Whether some more are let in to ask for health, for what knows their requests: HTTP/1.1.
    pub has_spares: bool,
}

impl Bounds {
    /// Descriptors that a door takes at most.
    pub fn total(&self) -> usize {
        self.connections + self.knocks + if self.has_spares { SPARES } else { 0 }
    }
}

#[derive(Debug)]
pub struct Seats {
    /// Name of the door, for the log and the metrics.
    door: &'static str,
    bounds: Bounds,
    /// Ends all of its connections.
    cut: CancellationToken,
    counts: Arc<Counts>,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    knocks: Knocks,
    spares: Knocks,
    places: Places,
    cuts: HashMap<Place, CancellationToken>,
    rng: Rng,
    logged: Quiet,
}

/// Place of a connection, of one of three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Knock(u64),
    Spare(u64),
    Seat(u64),
}

/// Reason why a connection was closed for want of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Every place belongs to one who is being served.
    Full,
    /// One that was quiet has left for another.
    Quiet,
    /// One whose holder had more than its share has left for another.
    Share,
    /// One that was still knocking has left for another.
    Knock,
    /// The process has no descriptor left.
    Descriptors,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quiet => "quiet",
            Self::Share => "share",
            Self::Knock => "knock",
            Self::Descriptors => "descriptors",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Full => {
                "a connection was refused: there are as many as there may be, and all are being served"
            }
            Self::Quiet => "a quiet connection was cut for a new one: there are as many as there may be",
            Self::Share => "a connection of who has the most was cut for one of who has fewer",
            Self::Knock => {
                "a connection was cut that had said nothing, or little: many more come in than get ready"
            }
            Self::Descriptors => "a connection was cut: the process may open no more files",
        }
    }
}

impl Seats {
    pub fn new(door: &'static str, bounds: Bounds, cut: CancellationToken, counts: Arc<Counts>) -> Arc<Self> {
        let of_block = (bounds.knocks * OF_BLOCK.0 / OF_BLOCK.1).max(1);
        let spares = if bounds.has_spares { SPARES } else { 0 };
        let taken = Taken {
            knocks: Knocks::new(knocks::Bounds { most: bounds.knocks, of_block }),
            spares: Knocks::new(knocks::Bounds { most: spares, of_block: spares }),
            places: Places::new(bounds.connections),
            cuts: HashMap::new(),
            rng: Rng::new(),
            logged: Quiet::new(LOG_PAUSE),
        };
        Arc::new(Self { door, bounds, cut, counts, taken: Mutex::new(taken) })
    }

    pub(crate) fn door(&self) -> &'static str {
        self.door
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Cancelled when all connections have to end.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts every connection that is quiet, and has not said how it will ask.
    pub fn clear(&self) {
        let taken = self.lock();
        let knocks = taken.knocks.all().map(Place::Knock);
        let quiet = taken.places.quiet().into_iter().map(Place::Seat);
        for place in knocks.chain(taken.spares.all().map(Place::Spare)).chain(quiet) {
            if let Some(cut) = taken.cuts.get(&place) {
                cut.cancel();
            }
        }
    }

    /// Whether so many knock that a newcomer should show where it is before it gets a place.
    pub(crate) fn is_pressed(&self) -> bool {
        self.lock().knocks.len() * PRESSED >= self.bounds.knocks
    }

    /// Place for a connection that was accepted; there always is one.
    pub(crate) fn knock(self: &Arc<Self>, addr: SocketAddr) -> Knock {
        let cut = self.cut.child_token();
        let mut taken = self.lock();
        let taken = &mut *taken;
        let (number, left) = taken.knocks.knock(Block::of(addr), &mut taken.rng);
        if let Some(left) = left {
            self.close(taken, Place::Knock(left), Some(addr), Reason::Knock);
        }
        taken.cuts.insert(Place::Knock(number), cut.clone());
        let seat = Seat { seats: Arc::clone(self), place: Place::Knock(number), cut };
        Knock { seat, addr }
    }

    /// Gives one place up, to have a descriptor: of one who is quiet, who has said nothing if possible.
    fn shed(&self) {
        let mut taken = self.lock();
        let taken = &mut *taken;
        let knock = taken.knocks.shed(&mut taken.rng).map(Place::Knock);
        let left = knock.or_else(|| taken.places.shed(&mut taken.rng).map(Place::Seat));
        if let Some(left) = left {
            self.close(taken, left, None, Reason::Descriptors);
        }
    }

    /// Notes that a connection could not be accepted. Where that is for want of a descriptor, one is freed.
    pub(crate) fn cannot_accept(&self, error: &io::Error) {
        let is_full =
            [Errno::MFILE, Errno::NFILE].iter().any(|full| error.raw_os_error() == Some(full.raw_os_error()));
        if is_full {
            self.shed();
        }
        let noted = self.lock().logged.note(CANNOT_ACCEPT, Instant::now());
        if let Some(others) = noted {
            tracing::warn!(door = self.door, %error, others, "a connection cannot be accepted");
        }
    }

    fn close(&self, taken: &mut Taken, place: Place, newcomer: Option<SocketAddr>, reason: Reason) {
        if let Some(cut) = taken.cuts.remove(&place) {
            cut.cancel();
        }
        self.refused(taken, newcomer, reason);
    }

    fn refused(&self, taken: &mut Taken, newcomer: Option<SocketAddr>, reason: Reason) {
        self.counts.refused(self.door, reason.name());
        if let Some(others) = taken.logged.note(reason.name(), Instant::now()) {
            let Bounds { connections, knocks, .. } = self.bounds;
            let (door, reason, words) = (self.door, reason.name(), reason.words());
            let newcomer = newcomer.map(tracing::field::display);
            tracing::warn!(door, reason, newcomer, others, connections, knocks, "{words}");
        }
    }
}

/// Place of a connection that has yet to show that it is real; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Knock {
    seat: Seat,
    addr: SocketAddr,
}

impl Knock {
    /// Cancelled when the connection has to end.
    pub(crate) fn cut(&self) -> &CancellationToken {
        self.seat.cut()
    }

    pub(crate) fn seats(&self) -> &Arc<Seats> {
        self.seat.seats()
    }

    /// Marks one that has said its part of the handshake.
    pub(crate) fn has_spoken(&self) {
        if let Place::Knock(number) = self.seat.place {
            self.seat.seats.lock().knocks.has_spoken(number);
        }
    }

    /// Place among those who are in, quiet at first; `None` if there is none, and no spare one either.
    pub(crate) fn sit(mut self, holder: Holder) -> Option<Seat> {
        let seats = Arc::clone(&self.seat.seats);
        let mut taken = seats.lock();
        let taken = &mut *taken;
        let Place::Knock(number) = self.seat.place else { return None };
        if !taken.knocks.leave(number) {
            // It was cut a moment ago.
            return None;
        }
        taken.cuts.remove(&self.seat.place);
        let place = match taken.places.admit(holder, &mut taken.rng) {
            Admission::Seated(seat) => Place::Seat(seat),
            Admission::Displaced { seat, left, why } => {
                let reason = match why {
                    Why::Quiet => Reason::Quiet,
                    Why::Share => Reason::Share,
                };
                seats.close(taken, Place::Seat(left), Some(self.addr), reason);
                Place::Seat(seat)
            }
            Admission::Full => {
                seats.refused(taken, Some(self.addr), Reason::Full);
                if !seats.bounds.has_spares {
                    return None;
                }
                let (spare, left) = taken.spares.knock(Block::of(self.addr), &mut taken.rng);
                if let Some(cut) = left.and_then(|left| taken.cuts.remove(&Place::Spare(left))) {
                    cut.cancel();
                }
                Place::Spare(spare)
            }
        };
        taken.cuts.insert(place, self.seat.cut.clone());
        self.seat.place = place;
        Some(self.seat)
    }
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    place: Place,
    cut: CancellationToken,
}

impl Seat {
    /// Cancelled when the connection has to end.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    pub(crate) fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// Whether there was no place for it: it may ask for health alone.
    pub(crate) fn is_spare(&self) -> bool {
        matches!(self.place, Place::Spare(_))
    }

    /// Marks the seat's peer as being served, so that it stays.
    pub(crate) fn busy(&self) {
        self.set(false);
    }

    /// Marks the seat's peer as one who has said how it will ask, as anyone can.
    pub(crate) fn greeted(&self) {
        if let Place::Seat(seat) = self.place {
            self.seats.lock().places.greet(seat);
        }
    }

    /// Marks the seat's peer as having what it asked for.
    pub(crate) fn quiet(&self) {
        self.set(true);
    }

    /// Marks the seat's peer as one who has shown a right.
    pub(crate) fn vouch(&self) {
        if let Place::Seat(seat) = self.place {
            let places = &mut self.seats.lock().places;
            places.vouch(seat);
            places.set_quiet(seat, false);
        }
    }

    fn set(&self, is_quiet: bool) {
        if let Place::Seat(seat) = self.place {
            self.seats.lock().places.set_quiet(seat, is_quiet);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.cuts.remove(&self.place);
        match self.place {
            Place::Knock(number) => {
                taken.knocks.leave(number);
            }
            Place::Spare(number) => {
                taken.spares.leave(number);
            }
            Place::Seat(seat) => taken.places.leave(seat),
        }
    }
}

#[cfg(test)]
mod tests;
