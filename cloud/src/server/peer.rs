//! Who is at the other end of a connection: made once when it is accepted, and put into each of its requests.

use std::net::SocketAddr;
use std::sync::Arc;

use millgate_shared::identity::Certificate;
use rustls::pki_types::CertificateDer;

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
}

impl Peer {
    pub(crate) fn plain(addr: SocketAddr) -> Self {
        Self { addr, line: Line::Plain, certificate: None }
    }

    /// `chain`: what the peer showed and the handshake verified, its own certificate first.
    pub(crate) fn shown(addr: SocketAddr, line: Line, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let leaf = chain.and_then(<[_]>::first);
        let certificate = leaf.and_then(|der| Certificate::from_der(der).ok()).map(Arc::new);
        Self { addr, line, certificate }
    }
}
