//! TCP as a bad line wants it: BBR where the kernel has it, little unsent data in the socket, no Nagle, and a peer that
//! has gone noticed within seconds.
//!
//! Loss-based congestion control takes random loss for a full queue and all but stops on a radio link; BBR does not. A
//! socket that holds much unsent data puts a small call behind it; with `TCP_NOTSENT_LOWAT` the data waits in HTTP/2,
//! which shares the line fairly between streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

mod proxy;
#[cfg(test)]
mod tests;

pub use proxy::{Proxy, ProxyError};

/// ALPN name of gRPC over HTTP/2.
pub const ALPN: &[u8] = b"h2";

/// Most bytes that lie in the socket unsent: a few round trips' worth on a thin line, so that it never runs dry.
const NOTSENT_LOWAT: u32 = 16 << 10;
/// Time after which the kernel asks an idle peer whether it lives, and between further questions.
const KEEPALIVE: Duration = Duration::from_secs(2);
const KEEPALIVE_PROBES: u32 = 3;
/// Time after which an agent gives up a peer that has acknowledged nothing, and dials again: longer than any hiccup
/// that the kernel's own retransmissions survive, shorter than a person's patience.
const DIALLED_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a pool gives up such a peer. It has less to gain from giving up early: an agent dials again by
/// itself.
const ACCEPTED_TIMEOUT: Duration = Duration::from_secs(30);

/// Owner of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent, which can dial again.
    Dialled,
    /// The pool.
    Accepted,
}

/// Reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}: {1}")]
    Socket(SocketAddr, #[source] io::Error),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Connects to one address. The caller bounds the time.
pub async fn connect(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream = open(address).await.map_err(|error| ConnectError::Socket(address, error))?;
    Ok(stream)
}

/// Connects to a proxy and has it connect to `host:port`. The proxy resolves the name.
pub async fn connect_through(
    proxy: &Proxy,
    proxy_address: SocketAddr,
    host: &str,
    port: u16,
) -> Result<TcpStream, ConnectError> {
    let mut stream = connect(proxy_address).await?;
    proxy.tunnel(&mut stream, host, port).await?;
    Ok(stream)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Before the handshake, so that it holds from the first byte.
    set(&SockRef::from(&socket), Role::Dialled);
    socket.connect(address).await
}

/// Sets the options of a connection that was accepted: the pool's answers travel the same line.
pub fn tune(stream: &TcpStream, role: Role) {
    set(&SockRef::from(stream), role);
}

/// Sets each option. Each helps and none is needed, so that one that the kernel lacks is logged once and left out.
fn set(socket: &SockRef<'_>, role: Role) {
    static NODELAY: Once = Once::new();
    static CONGESTION: Once = Once::new();
    static LOWAT: Once = Once::new();
    static TIMEOUT: Once = Once::new();
    static ALIVE: Once = Once::new();
    let timeout = match role {
        Role::Dialled => DIALLED_TIMEOUT,
        Role::Accepted => ACCEPTED_TIMEOUT,
    };
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_PROBES);
    note(&NODELAY, "TCP_NODELAY", socket.set_tcp_nodelay(true));
    note(&ALIVE, "TCP_KEEPALIVE", socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    {
        note(&CONGESTION, "TCP_CONGESTION=bbr", socket.set_tcp_congestion(b"bbr"));
        note(&LOWAT, "TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(NOTSENT_LOWAT));
        note(&TIMEOUT, "TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(timeout)));
    }
}

fn note(once: &Once, setting: &str, set: io::Result<()>) {
    if let Err(error) = set {
        once.call_once(|| {
            tracing::info!(setting, %error, "this kernel lacks a TCP setting; calls beside bulk or loss take longer");
        });
    }
}
