//! A device that is at two places at once: its key is known to somebody else. Pure: it takes `now`.
//!
//! A device that moves leaves its old connection behind, and never speaks over it again; one whose address is translated anew keeps its
//! connection. What neither does is to come back: a connection from one network that speaks again after one from another network has
//! spoken, over and over. So [`RETURNS`] of those, over [`SPAN`] at least, are a clone. Addresses of different families are not
//! compared, since one machine has both.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Returns that are evidence, and the least time between the first and the last of them: a device that moves may speak over its old
/// and its new connection by turns until what is under way on the old one is answered.
const RETURNS: u32 = 4;
const SPAN: Duration = Duration::from_secs(60);
/// What was heard longer ago than this is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The log says of a device once in this time that it is a clone.
const SAID: Duration = Duration::from_secs(3600);
/// Connections of one device that are kept in mind.
const MOST: usize = 8;
/// Bits of an IPv6 address that tell networks apart.
const NETWORK_BITS: u32 = 64;

/// What is known of a device that has just spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing is remarkable.
    Alone,
    /// The device is at two places, this one and `other`.
    Cloned {
        other: IpAddr,
        /// This place is not where it has been for the longest time.
        is_newer: bool,
        /// Nobody was told for a while.
        is_news: bool,
    },
}

#[derive(Debug)]
struct Place {
    connection: SocketAddr,
    since: Instant,
    last: Instant,
}

/// One device.
#[derive(Debug, Default)]
struct Device {
    places: Vec<Place>,
    returns: u32,
    /// The first and the last return of this row of them.
    returned: Option<(Instant, Instant)>,
    said: Option<Instant>,
}

/// All devices, by their names.
#[derive(Debug)]
pub(super) struct Clones<K> {
    devices: HashMap<K, Device>,
}

impl<K> Default for Clones<K> {
    fn default() -> Self {
        Self { devices: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Clones<K> {
    /// A device speaks over a connection from an address.
    pub(super) fn hear(&mut self, device: &K, connection: SocketAddr, now: Instant) -> Heard {
        match self.devices.get_mut(device) {
            Some(known) => known.hear(connection, now),
            None => self.devices.entry(device.clone()).or_default().hear(connection, now),
        }
    }

    /// Lets go of what was heard long ago.
    pub(super) fn forget(&mut self, now: Instant) {
        self.devices.retain(|_, device| {
            device.forget(now);
            !device.places.is_empty()
        });
    }

    /// Devices that are at two places.
    pub(super) fn cloned(&self, now: Instant) -> usize {
        self.devices.values().filter(|device| device.is_cloned(now)).count()
    }
}

impl Device {
    fn forget(&mut self, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) > FORGOTTEN;
        self.places.retain(|place| !is_old(place.last));
        if self.returned.is_some_and(|(_, last)| is_old(last)) {
            (self.returns, self.returned) = (0, None);
        }
    }

    fn is_cloned(&self, now: Instant) -> bool {
        let is_long = |(first, last): (Instant, Instant)| {
            last - first >= SPAN && now.saturating_duration_since(last) <= FORGOTTEN
        };
        self.returns >= RETURNS && self.returned.is_some_and(is_long)
    }

    fn hear(&mut self, connection: SocketAddr, now: Instant) -> Heard {
        let here = network(connection.ip());
        match self.places.iter_mut().find(|place| place.connection == connection) {
            Some(place) => {
                let last = std::mem::replace(&mut place.last, now);
                if self.places.iter().any(|place| place.is_elsewhere(here) && place.last > last) {
                    self.forget(now);
                    self.returns += 1;
                    self.returned = Some((self.returned.map_or(now, |(first, _)| first), now));
                }
            }
            None => {
                self.forget(now);
                // A new connection from a known place is no new place.
                let is_here = |place: &Place| network(place.connection.ip()) == here;
                let since = self.places.iter().filter(|place| is_here(place)).map(|place| place.since).min();
                if self.places.len() >= MOST {
                    // One of the same place before any other: nobody pushes another place out.
                    let places = self.places.iter().enumerate();
                    let oldest = places.min_by_key(|(_, place)| (!is_here(place), place.last));
                    if let Some(at) = oldest.map(|(at, _)| at) {
                        self.places.swap_remove(at);
                    }
                }
                self.places.push(Place { connection, since: since.unwrap_or(now), last: now });
            }
        }
        if !self.is_cloned(now) {
            return Heard::Alone;
        }
        let elsewhere = || self.places.iter().filter(|place| place.is_elsewhere(here));
        let Some(other) = elsewhere().max_by_key(|place| place.last) else { return Heard::Alone };
        let other = other.connection.ip();
        let since = self.places.iter().filter(|place| network(place.connection.ip()) == here);
        let since = since.map(|place| place.since).min();
        let is_newer = elsewhere().map(|place| place.since).min() < since;
        let is_news = self.said.is_none_or(|said| now.saturating_duration_since(said) >= SAID);
        if is_news {
            self.said = Some(now);
        }
        Heard::Cloned { other, is_newer, is_news }
    }
}

impl Place {
    /// True for another network of the same family.
    fn is_elsewhere(&self, here: IpAddr) -> bool {
        let there = network(self.connection.ip());
        there != here && there.is_ipv4() == here.is_ipv4()
    }
}

/// What tells one place from another: an address, or an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let host = u128::MAX >> NETWORK_BITS;
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & !host))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests;
