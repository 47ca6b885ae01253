//! Orders the ways to a pool, as happy eyeballs do: what worked last comes first, families of addresses in turn. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use super::pools::Transport;

/// The next candidate starts this long after the one before, or when that one has failed.
pub(super) const STAGGER: Duration = Duration::from_millis(100);
/// The most addresses of one round; a name with more is tried in part.
const MOST: usize = 8;

/// One way to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) transport: Transport,
    /// Address of the pool, or of the proxy on the way to it.
    pub(super) address: SocketAddr,
}

/// `ways`: transports, the best first, with the addresses for each in the resolver's order.
pub(super) fn order(
    mut ways: Vec<(Transport, Vec<SocketAddr>)>,
    winner: Option<Transport>,
) -> Vec<Candidate> {
    // Stable: the others keep their order.
    ways.sort_by_key(|(transport, _)| Some(*transport) != winner);
    let ways: Vec<(Transport, Vec<SocketAddr>)> =
        ways.into_iter().map(|(transport, addresses)| (transport, in_turn(&addresses))).collect();
    let most = ways.iter().map(|(_, addresses)| addresses.len()).max().unwrap_or(0);
    let mut candidates = Vec::new();
    for at in 0..most {
        for (transport, addresses) in &ways {
            candidates.extend(
                addresses.get(at).map(|address| Candidate { transport: *transport, address: *address }),
            );
        }
    }
    candidates.truncate(MOST);
    candidates
}

/// The family of the first address and the other one by turns.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(addresses.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    fn shown(candidates: &[Candidate]) -> String {
        let each = candidates.iter().map(|it| format!("{} {}", it.transport.as_str(), it.address));
        each.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn transports_and_families_take_turns() {
        let list = addresses("[2001:db8::1]:1 [2001:db8::2]:1 10.0.0.1:1");
        let ways = vec![(Transport::Quic, list.clone()), (Transport::Tcp, list)];
        let expected = "quic [2001:db8::1]:1, tcp [2001:db8::1]:1, quic 10.0.0.1:1, tcp 10.0.0.1:1, \
                        quic [2001:db8::2]:1, tcp [2001:db8::2]:1";
        assert_eq!(shown(&order(ways, None)), expected);
    }

    #[test]
    fn what_worked_last_is_tried_first() {
        let list = addresses("10.0.0.1:1");
        let ways = vec![(Transport::Quic, list.clone()), (Transport::Tcp, list)];
        assert_eq!(shown(&order(ways.clone(), Some(Transport::Tcp))), "tcp 10.0.0.1:1, quic 10.0.0.1:1");
        assert_eq!(shown(&order(ways, Some(Transport::Quic))), "quic 10.0.0.1:1, tcp 10.0.0.1:1");
    }

    #[test]
    fn a_round_is_bounded_and_may_be_empty() {
        let many = (1..=20).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        assert_eq!(order(vec![(Transport::Tcp, many)], None).len(), MOST);
        assert!(order(vec![(Transport::Tcp, Vec::new())], None).is_empty());
    }
}
