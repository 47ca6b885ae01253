//! A hint that the device's place in the network has changed: the address from which it would speak to a pool. Asking the
//! kernel for it sends nothing and takes microseconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How often to look.
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// `None` where there is no way to the peer.
pub(super) fn own_address(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

/// Follows the own addresses towards some peers.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<Vec<Option<IpAddr>>>,
}

impl Watch {
    /// True if one has appeared or become another. That one is gone is no reason to dial.
    pub(super) fn look(&mut self, now: Vec<Option<IpAddr>>) -> bool {
        let changed = match &self.last {
            Some(last) if last.len() == now.len() => {
                last.iter().zip(&now).any(|(last, now)| now.is_some() && last != now)
            }
            _ => false,
        };
        self.last = Some(now);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_address_is_a_change_and_a_lost_one_is_none() {
        let (one, two) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let mut watch = Watch::default();
        assert!(!watch.look(vec![one, one]));
        assert!(!watch.look(vec![one, one]));
        assert!(watch.look(vec![one, two]));
        assert!(!watch.look(vec![one, None]));
        assert!(watch.look(vec![one, two]));
        assert!(!watch.look(vec![one]));
    }

    #[test]
    fn the_kernel_knows_the_way_to_itself() {
        assert_eq!(own_address(([127, 0, 0, 1], 9).into()), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
