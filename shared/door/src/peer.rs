//! Who is at the other end of a connection: made once when it is accepted, and put into each of its requests.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use millgate_identity::Certificate;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::holder::Holder;
use super::seats::Seat;

/// Protection of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Plain,
    Tls,
    Quic,
}

#[derive(Debug, Clone)]
pub struct Peer {
    pub addr: SocketAddr,
    pub line: Line,
    /// Content of its certificate, if it showed one in the handshake, which has verified it.
    pub certificate: Option<Arc<Certificate>>,
    /// Place of a connection that has shown no certificate: it counts as quiet until one of its calls is let in.
    seat: Weak<Seat>,
    /// Ends its connection.
    cut: CancellationToken,
}

impl Peer {
    pub fn plain(addr: SocketAddr) -> Self {
        Self { addr, line: Line::Plain, certificate: None, seat: Weak::new(), cut: CancellationToken::new() }
    }

    /// `chain`: what the peer showed and the handshake verified, its own certificate first.
    pub(crate) fn shown(addr: SocketAddr, line: Line, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let leaf = chain.and_then(<[_]>::first);
        let certificate = leaf.and_then(|der| Certificate::from_der(der).ok()).map(Arc::new);
        Self { certificate, line, ..Self::plain(addr) }
    }

    /// Whom its place is charged to.
    pub(crate) fn holder(&self) -> Holder {
        Holder::of(self.addr, self.certificate.as_deref())
    }

    /// Can anyone at all have made this connection?
    pub(crate) fn is_anonymous(&self) -> bool {
        self.line != Line::Plain && self.certificate.is_none()
    }

    /// Gives the peer a seat, which is its own only when a call is let in.
    pub(crate) fn at(self, seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::downgrade(seat), ..self }
    }

    /// Gives the peer what ends its connection.
    pub(crate) fn ending_with(self, cut: &CancellationToken) -> Self {
        Self { cut: cut.clone(), ..self }
    }

    /// Ends the peer's connection, with all that is under way on it.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Marks a peer of whom a call is let in.
    pub fn is_served(&self) {
        if let Some(seat) = self.seat.upgrade() {
            seat.vouch();
        }
    }
}
