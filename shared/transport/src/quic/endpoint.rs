//! A client's UDP socket, and the connections that begin at it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use millgate_rim::shutdown::Tasks;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ALPN, Channel, Error, Tuning};

/// Bytes of datagrams that may wait in the kernel. The kernel's own default holds a few hundred datagrams, less than
/// a burst of bulk.
const SOCKET_BUFFER: usize = 2 << 20;

/// Socket at which connections begin. Cheap to clone. It is bound to no address, so that connections move along when
/// the machine's address changes.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    config: ClientConfig,
    tasks: Tasks,
}

impl Endpoint {
    /// Makes an endpoint. Must be called within a tokio runtime. `tls` needs TLS 1.3; its ALPN names are replaced by
    /// [`ALPN`].
    pub fn client(tls: Arc<rustls::ClientConfig>, tuning: &Tuning) -> io::Result<Self> {
        let mut tls = Arc::unwrap_or_clone(tls);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(tuning.transport()?));
        let quic =
            quinn::Endpoint::new(EndpointConfig::default(), None, wildcard()?, Arc::new(TokioRuntime))?;
        Ok(Self { quic, config, tasks: Tasks::new() })
    }

    /// Connects: the handshake and nothing else. The caller bounds its time; dropping the future gives up.
    pub async fn connect(&self, address: SocketAddr, server_name: &str) -> Result<Channel, Error> {
        let connecting = self.quic.connect_with(self.config.clone(), address, server_name)?;
        Ok(Channel::new(connecting.await?, self.tasks.clone()))
    }

    /// Gives every connection a new socket: after a change of address, or where the old one no longer sends.
    pub fn rebind(&self) -> io::Result<()> {
        self.quic.rebind(wildcard()?)
    }

    /// Ends every connection.
    pub fn close(&self) {
        let goodbye = super::Goodbye::Done;
        self.quic.close(goodbye.code(), goodbye.words().as_bytes());
    }
}

/// Makes a socket of both address families where there are both.
fn wildcard() -> io::Result<UdpSocket> {
    socket((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| socket((Ipv4Addr::UNSPECIFIED, 0).into()))
}

/// Makes a UDP socket with room for bursts, as far as the kernel grants it.
pub(super) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    for set in [socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER)] {
        if let Err(error) = set {
            tracing::debug!(%error, "a UDP socket keeps its small buffers");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
