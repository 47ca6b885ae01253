//! The router between device and pool: which addresses stand on a packet on either side. Pure.
//!
//! A mapping is by the device's own port, as most home and plant routers do it. Until the first rebinding ports stay as
//! they are, and what comes from outside finds its way without a table. After it every flow has a new port, and what is
//! addressed to an old one is dropped, as by a router that was restarted.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::packet::{Ends, ends, set_ends};

/// What a router forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebind {
    /// Flows get other ports.
    Ports,
    /// Flows get other ports and another public address.
    Address,
}

/// The first port of a rebound flow.
const FIRST_PORT: u16 = 20_000;

/// The translation's state. Addresses are the last byte of the line's /24.
#[derive(Debug)]
pub(super) struct Nat {
    net: [u8; 3],
    /// The pool's address as the device knows it, and as the pool has it.
    target: u8,
    pool: u8,
    /// The device's public address.
    outer: Outer,
    next_address: u8,
    /// After a rebinding: by protocol and inner end, the outer port; and back.
    is_rebound: bool,
    out: HashMap<(u8, SocketAddrV4), u16>,
    back: HashMap<(u8, u16), SocketAddrV4>,
    next_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outer {
    /// The packet's own address.
    Same,
    /// The packet's own address with this added, where both ends are in one network namespace.
    Mirrored(u8),
    One(u8),
}

impl Nat {
    /// Nothing is changed until a rebinding.
    pub(super) fn plain(net: [u8; 3], pool: u8) -> Self {
        Self::new(net, pool, pool, Outer::Same)
    }

    /// The device knows the pool as `target` and is known to it by its own address plus `mirror`.
    pub(super) fn mirrored(net: [u8; 3], target: u8, pool: u8, mirror: u8) -> Self {
        Self::new(net, target, pool, Outer::Mirrored(mirror))
    }

    fn new(net: [u8; 3], target: u8, pool: u8, outer: Outer) -> Self {
        Self {
            net,
            target,
            pool,
            outer,
            next_address: 230,
            is_rebound: false,
            out: HashMap::new(),
            back: HashMap::new(),
            next_port: FIRST_PORT,
        }
    }

    /// Forgets every mapping.
    pub(super) fn rebind(&mut self, what: Rebind) {
        self.is_rebound = true;
        self.out.clear();
        self.back.clear();
        if what == Rebind::Address {
            self.outer = Outer::One(self.next_address);
            self.next_address = if self.next_address == 250 { 230 } else { self.next_address + 1 };
        }
    }

    /// Device to pool; false: it is dropped.
    pub(super) fn outwards(&mut self, packet: &mut [u8]) -> bool {
        let Some(Ends { protocol, from, to }) = ends(packet) else { return false };
        if !self.is_here(from) || *to.ip() != self.at(self.target) {
            return false;
        }
        let port = if self.is_rebound && from.port() != 0 { self.port(protocol, from) } else { from.port() };
        let address = match self.outer {
            Outer::Same => *from.ip(),
            Outer::Mirrored(mirror) => self.at(from.ip().octets()[3].wrapping_add(mirror)),
            Outer::One(last) => self.at(last),
        };
        set_ends(packet, SocketAddrV4::new(address, port), SocketAddrV4::new(self.at(self.pool), to.port()));
        true
    }

    /// Pool to device; false: nobody waits for it.
    pub(super) fn inwards(&self, packet: &mut [u8]) -> bool {
        let Some(Ends { protocol, from, to }) = ends(packet) else { return false };
        if !self.is_here(to) || *from.ip() != self.at(self.pool) {
            return false;
        }
        let expected = match self.outer {
            Outer::One(last) => to.ip().octets()[3] == last,
            Outer::Same | Outer::Mirrored(_) => true,
        };
        let inner = if self.is_rebound {
            self.back.get(&(protocol, to.port())).copied()
        } else {
            let last = match self.outer {
                Outer::Mirrored(mirror) => to.ip().octets()[3].wrapping_sub(mirror),
                Outer::Same | Outer::One(_) => to.ip().octets()[3],
            };
            Some(SocketAddrV4::new(self.at(last), to.port()))
        };
        let Some(inner) = inner.filter(|_| expected) else { return false };
        set_ends(packet, SocketAddrV4::new(self.at(self.target), from.port()), inner);
        true
    }

    fn port(&mut self, protocol: u8, from: SocketAddrV4) -> u16 {
        if let Some(port) = self.out.get(&(protocol, from)) {
            return *port;
        }
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        if let Some(before) = self.back.insert((protocol, port), from) {
            self.out.remove(&(protocol, before));
        }
        self.out.insert((protocol, from), port);
        port
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.net[0], self.net[1], self.net[2], last)
    }

    fn is_here(&self, end: SocketAddrV4) -> bool {
        end.ip().octets()[..3] == self.net
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{assert_sums, end, packet};
    use super::super::packet::{TCP, UDP};
    use super::*;

    const NET: [u8; 3] = [198, 18, 7];

    /// The ends of a packet after its way out.
    fn out(
        nat: &mut Nat,
        protocol: u8,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let mut packet = packet(protocol, from, to, b"body");
        nat.outwards(&mut packet).then(|| {
            assert_sums(&packet);
            let ends = ends(&packet).unwrap();
            (ends.from, ends.to)
        })
    }

    fn back(
        nat: &Nat,
        protocol: u8,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let mut packet = packet(protocol, from, to, b"body");
        nat.inwards(&mut packet).then(|| {
            assert_sums(&packet);
            let ends = ends(&packet).unwrap();
            (ends.from, ends.to)
        })
    }

    #[test]
    fn plain_changes_nothing_until_the_router_forgets() {
        let mut nat = Nat::plain(NET, 1);
        let (device, pool) = (end(2, 4000), end(1, 8001));
        assert_eq!(out(&mut nat, UDP, device, pool), Some((device, pool)));
        assert_eq!(back(&nat, UDP, pool, device), Some((pool, device)));

        nat.rebind(Rebind::Ports);
        assert_eq!(back(&nat, UDP, pool, device), None, "the old port is forgotten");
        let (seen, _) = out(&mut nat, UDP, device, pool).unwrap();
        assert_eq!((seen.ip(), seen.port()), (device.ip(), FIRST_PORT));
        assert_eq!(out(&mut nat, UDP, device, pool).unwrap().0, seen, "and the new one stays");
        assert_eq!(back(&nat, UDP, pool, seen), Some((pool, device)));
        assert_ne!(out(&mut nat, TCP, end(2, 4001), pool).unwrap().0.port(), seen.port());

        nat.rebind(Rebind::Address);
        assert_eq!(back(&nat, UDP, pool, seen), None);
        let (moved, _) = out(&mut nat, UDP, device, pool).unwrap();
        assert_ne!(moved.ip(), device.ip());
        assert_eq!(back(&nat, UDP, pool, moved), Some((pool, device)));
    }

    #[test]
    fn mirrored_ends_are_strangers_to_each_other() {
        let mut nat = Nat::mirrored(NET, 129, 1, 128);
        let (device, target, pool) = (end(2, 4000), end(129, 8001), end(1, 8001));
        assert_eq!(out(&mut nat, TCP, device, target), Some((end(130, 4000), pool)));
        assert_eq!(back(&nat, TCP, pool, end(130, 4000)), Some((target, device)));
        assert_eq!(out(&mut nat, TCP, device, pool), None, "not the way");
        nat.rebind(Rebind::Ports);
        let (seen, _) = out(&mut nat, TCP, end(3, 4000), target).unwrap();
        assert_eq!(seen, end(131, FIRST_PORT));
        assert_eq!(back(&nat, TCP, pool, seen), Some((target, end(3, 4000))));
    }
}
