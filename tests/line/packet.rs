//! An IPv4 packet as a router sees it: who sends what to whom, and changing that with the checksums kept right.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::way::Kind;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Both ends of a packet. Ports are 0 where the protocol has none, or where a fragment does not show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) protocol: u8,
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
}

impl Ends {
    pub(super) fn kind(&self) -> Kind {
        if self.protocol == UDP { Kind::Udp } else { Kind::Other }
    }
}

/// `None` for what is no whole IPv4 header.
pub(super) fn ends(packet: &[u8]) -> Option<Ends> {
    let header = header_len(packet)?;
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let protocol = packet[9];
    let port = |at: usize| match has_ports(packet) {
        true => packet.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]])),
        false => 0,
    };
    Some(Ends {
        protocol,
        from: SocketAddrV4::new(address(12), port(header)),
        to: SocketAddrV4::new(address(16), port(header + 2)),
    })
}

/// Writes other ends into it.
pub(super) fn set_ends(packet: &mut [u8], from: SocketAddrV4, to: SocketAddrV4) {
    let Some(header) = header_len(packet) else { return };
    for (at, address) in [(12, from.ip()), (16, to.ip())] {
        for (half, new) in address.octets().chunks(2).enumerate() {
            put(packet, header, at + 2 * half, [new[0], new[1]], true);
        }
    }
    if has_ports(packet) && packet.len() >= header + 4 {
        put(packet, header, header, from.port().to_be_bytes(), false);
        put(packet, header, header + 2, to.port().to_be_bytes(), false);
    }
}

fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let len = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && len >= 20 && packet.len() >= len).then_some(len)
}

/// True if the packet holds ports; of a fragmented packet only the first part does.
fn has_ports(packet: &[u8]) -> bool {
    let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
    offset == 0 && (packet[9] == TCP || packet[9] == UDP)
}

/// Two bytes at an even place, and what they change in the checksums: addresses count in both, ports in the inner one.
fn put(packet: &mut [u8], header: usize, at: usize, new: [u8; 2], is_address: bool) {
    let old = [packet[at], packet[at + 1]];
    packet[at..at + 2].copy_from_slice(&new);
    let (old, new) = (u16::from_be_bytes(old), u16::from_be_bytes(new));
    if is_address {
        fix(packet, 10, old, new, false);
    }
    if has_ports(packet) {
        let sum = header + if packet[9] == TCP { 16 } else { 6 };
        if packet.len() >= sum + 2 {
            fix(packet, sum, old, new, packet[9] == UDP);
        }
    }
}

/// The ones' complement sum without `old` and with `new` (RFC 1624).
fn fix(packet: &mut [u8], at: usize, old: u16, new: u16, may_be_absent: bool) {
    let sum = u16::from_be_bytes([packet[at], packet[at + 1]]);
    if may_be_absent && sum == 0 {
        return;
    }
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    let fixed = !u16::try_from(total).unwrap_or(0);
    let fixed = if may_be_absent && fixed == 0 { 0xffff } else { fixed };
    packet[at..at + 2].copy_from_slice(&fixed.to_be_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn add(sum: u32, bytes: &[u8]) -> u32 {
        bytes.chunks(2).fold(sum, |sum, pair| {
            sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
        })
    }

    fn folded(mut sum: u32) -> u16 {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    fn inner_sum(packet: &[u8]) -> u16 {
        let len = u32::try_from(packet.len() - 20).unwrap();
        folded(add(add(u32::from(packet[9]) + len, &packet[12..20]), &packet[20..]))
    }

    /// A packet with right checksums.
    pub(in crate::line) fn packet(
        protocol: u8,
        from: SocketAddrV4,
        to: SocketAddrV4,
        body: &[u8],
    ) -> Vec<u8> {
        let inner = if protocol == TCP { 20 } else { 8 };
        let mut packet = vec![0; 20 + inner];
        packet[0] = 0x45;
        let total = u16::try_from(20 + inner + body.len()).unwrap();
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&from.ip().octets());
        packet[16..20].copy_from_slice(&to.ip().octets());
        packet[20..22].copy_from_slice(&from.port().to_be_bytes());
        packet[22..24].copy_from_slice(&to.port().to_be_bytes());
        packet.extend_from_slice(body);
        let sum = !folded(add(0, &packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let at = 20 + if protocol == TCP { 16 } else { 6 };
        let sum = !inner_sum(&packet);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    pub(in crate::line) fn end(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(198, 18, 7, last), port)
    }

    pub(in crate::line) fn assert_sums(packet: &[u8]) {
        assert_eq!(folded(add(0, &packet[..20])), 0xffff, "header");
        assert_eq!(inner_sum(packet), 0xffff, "body");
    }

    #[test]
    fn other_ends_and_still_right_sums() {
        let mut chance = fastrand::Rng::with_seed(5);
        for protocol in [TCP, UDP] {
            for _ in 0..500 {
                let body: Vec<u8> = (0..chance.usize(0..64)).map(|_| chance.u8(..)).collect();
                let mut any = || end(chance.u8(..), chance.u16(..));
                let (from, to, other_from, other_to) = (any(), any(), any(), any());
                let mut packet = packet(protocol, from, to, &body);
                assert_sums(&packet);
                assert_eq!(ends(&packet), Some(Ends { protocol, from, to }));
                set_ends(&mut packet, other_from, other_to);
                assert_eq!(ends(&packet), Some(Ends { protocol, from: other_from, to: other_to }));
                assert_sums(&packet);
            }
        }
    }

    #[test]
    fn what_is_no_packet_has_no_ends() {
        for bytes in [&[][..], &[0x45; 19], &[0x60; 40], &[0x4f; 30]] {
            assert_eq!(ends(bytes), None);
            set_ends(&mut bytes.to_vec(), end(1, 1), end(2, 2));
        }
    }
}
