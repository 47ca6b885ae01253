//! Who is at the other end of a connection: made once when it is accepted, and put into each of its requests.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use millgate_shared::identity::Certificate;
use rustls::pki_types::CertificateDer;

use super::seats::Seat;

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Plain,
    Tls,
    Quic,
}

#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    pub(crate) line: Line,
    /// What its certificate says, if it showed one in the handshake, which has verified it.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// The place of a connection that has shown no certificate: it counts as quiet until one of its calls is let in.
    seat: Weak<Seat>,
}

impl Peer {
    pub(crate) fn plain(addr: SocketAddr) -> Self {
        Self { addr, line: Line::Plain, certificate: None, seat: Weak::new() }
    }

    /// `chain`: what the peer showed and the handshake verified, its own certificate first.
    pub(crate) fn shown(addr: SocketAddr, line: Line, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let leaf = chain.and_then(<[_]>::first);
        let certificate = leaf.and_then(|der| Certificate::from_der(der).ok()).map(Arc::new);
        Self { addr, line, certificate, seat: Weak::new() }
    }

    /// Can anyone at all have made this connection?
    pub(super) fn is_anonymous(&self) -> bool {
        self.line != Line::Plain && self.certificate.is_none()
    }

    /// Gives the peer a seat, which is its own only when a call is let in.
    pub(super) fn at(self, seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::downgrade(seat), ..self }
    }

    /// A call is let in.
    pub(crate) fn is_served(&self) {
        if let Some(seat) = self.seat.upgrade() {
            seat.busy();
        }
    }
}
