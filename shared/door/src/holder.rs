//! Who a place is charged to. Whoever shows a certificate is told apart by it; of everybody else nothing is known but
//! the address.

use std::net::{IpAddr, SocketAddr};

use millgate_identity::{Certificate, DeviceName, Fingerprint};

/// Addresses that one peer can have at will: one of IPv4, and the 64-bit network of one of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block(IpAddr);

/// Bits of an IPv6 address that its owner chooses freely.
const OWN_BITS: u32 = 64;

impl Block {
    /// Block that an address belongs to.
    pub fn of(addr: SocketAddr) -> Self {
        Self(match addr.ip().to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) if v6.is_loopback() => v6.into(),
            IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() >> OWN_BITS << OWN_BITS).into(),
        })
    }
}

/// Whoever holds places: fair shares are first for parties, and within a party for its holders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A device that its certificate names.
    Device(DeviceName),
    /// A certificate that names no device, by its key.
    Key(Fingerprint),
    /// Somebody at an address who has shown no certificate, but a right.
    Vouched(Block),
    /// Somebody at an address, who has shown nothing.
    Somebody(Block),
}

/// What holders share: a tenant has its devices, and those of whom nothing is known are one party, however many
/// addresses they come from.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party<'a> {
    Tenant(&'a str),
    Keys,
    Vouched,
    Somebody,
}

impl Holder {
    /// Holder of a connection from `addr` whose handshake has verified `certificate`.
    pub fn of(addr: SocketAddr, certificate: Option<&Certificate>) -> Self {
        match certificate {
            Some(Certificate { device: Some(device), .. }) => Self::Device(device.clone()),
            Some(certificate) => Self::Key(certificate.key),
            None => Self::Somebody(Block::of(addr)),
        }
    }

    /// Whether the two are the same, as far as one can tell: who has shown a right over one connection may have shown none
    /// yet over another.
    pub(crate) fn is_one_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vouched(one), Self::Somebody(another)) => one == another,
            _ => self == other,
        }
    }

    pub(crate) fn party(&self) -> Party<'_> {
        match self {
            Self::Device(device) => Party::Tenant(device.tenant()),
            Self::Key(_) => Party::Keys,
            Self::Vouched(_) => Party::Vouched,
            Self::Somebody(_) => Party::Somebody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_has_many_addresses_is_one_holder() {
        let block = |addr: &str| Block::of(addr.parse().unwrap());
        assert_eq!(block("10.0.0.1:1"), block("[::ffff:10.0.0.1]:2"));
        assert_ne!(block("10.0.0.1:1"), block("10.0.0.2:1"));
        assert_eq!(block("[2001:db8::1]:1"), block("[2001:db8:0:0:ffff::2]:1"));
        assert_ne!(block("[2001:db8::1]:1"), block("[2001:db8:0:1::1]:1"));
        assert_ne!(block("[::1]:1"), block("[::2]:1"));
    }
}
