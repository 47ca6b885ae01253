//! Accepted connections: bounded in number, without Nagle's delay, and cut when the pool's grace is over. TLS handshakes
//! run beside each other and beside the accepting; each has a place among the quiet, and a time to come to its end.
//!
//! tonic runs each connection on a task of its own that cannot be reached from here; an error from the socket is what
//! ends it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, unfold};
use futures_util::{Stream, StreamExt};
use millgate_shared::identity::dial::reason;
use millgate_shared::transport::tcp;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::HANDSHAKE_PATIENCE;
use super::counts::Counts;
use super::peer::{Line, Peer};
use super::seats::{Seat, Seats};

/// Pause after an accept that failed (out of file descriptors, mostly): time for a connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer that takes nothing of what it is sent for so long is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// HTTP/2's preface. A gRPC peer that has not sent as much has said nothing.
pub(crate) const HTTP2_PREFACE: usize = 24;

/// A listener with its bounds.
pub(crate) struct Door {
    listener: TcpListener,
    seats: Arc<Seats>,
    cut: CancellationToken,
    counts: Arc<Counts>,
    /// Bytes after which a peer that is known counts as served; `None`: whoever serves it says so.
    greeting: Option<usize>,
    /// `None`: plain text.
    tls: Option<Arc<ServerConfig>>,
    /// Handshakes under way; at most as many as there are seats.
    handshakes: FuturesUnordered<Pin<Box<dyn Future<Output = Option<Connection>> + Send>>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Door {
    /// Lets in at most `limit` connections at a time, until `cut` is cancelled.
    pub(crate) fn new(
        listener: TcpListener,
        limit: usize,
        cut: CancellationToken,
        counts: Arc<Counts>,
        greeting: Option<usize>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let (seats, handshakes) = (Seats::new(limit), FuturesUnordered::new());
        Self { listener, seats, cut, counts, greeting, tls, handshakes }
    }

    pub(crate) fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// The connections as a stream, as tonic takes them; it never ends and gives no error.
    pub(crate) fn connections(self) -> impl Stream<Item = io::Result<Connection>> {
        unfold(self, |mut door| async move { Some((Ok(door.accept().await), door)) })
    }

    /// Cancel-safe: the listener's `accept` is, nothing else waits with a socket in hand, and handshakes go on with the
    /// next call.
    pub(crate) async fn accept(&mut self) -> Connection {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(shaken) = self.handshakes.next() => match shaken {
                    Some(connection) => return connection,
                    None => continue,
                },
            };
            let (tcp, addr) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(seat) = self.seats.seat(addr, &self.cut, &self.counts) else { continue };
            tcp::tune(&tcp, tcp::Role::Accepted);
            let (counts, greeting) = (Arc::clone(&self.counts), self.greeting);
            match &self.tls {
                None => return Connection::new(Wire::Plain(tcp), Peer::plain(addr), seat, counts, greeting),
                Some(tls) => {
                    let shaking = handshake(Arc::clone(tls), tcp, addr, seat, counts, greeting);
                    self.handshakes.push(Box::pin(shaking));
                }
            }
        }
    }
}

/// `None`: it came to nothing.
async fn handshake(
    tls: Arc<ServerConfig>,
    tcp: TcpStream,
    addr: SocketAddr,
    seat: Seat,
    counts: Arc<Counts>,
    greeting: Option<usize>,
) -> Option<Connection> {
    let shaking = tokio::time::timeout(HANDSHAKE_PATIENCE, TlsAcceptor::from(tls).accept(tcp));
    let failure = match seat.cut().run_until_cancelled(shaking).await {
        Some(Ok(Ok(stream))) => {
            let peer = Peer::shown(addr, Line::Tls, stream.get_ref().1.peer_certificates());
            return Some(Connection::new(Wire::Tls(Box::new(stream)), peer, seat, counts, greeting));
        }
        Some(Ok(Err(error))) => reason(&error),
        Some(Err(_)) => format!("it took more than {} s", HANDSHAKE_PATIENCE.as_secs()),
        None => "it was cut".to_owned(),
    };
    counts.handshake_failed();
    tracing::debug!(peer = %addr, failure, "a TLS handshake came to nothing");
    None
}

/// What a connection is made of.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    peer: Peer,
    seat: Arc<Seat>,
    /// Wakes the reader when it is to end; a connection always has one.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    counts: Arc<Counts>,
    /// Bytes that are to come until its peer counts as served.
    greeting: Option<usize>,
}

impl Connection {
    fn new(wire: Wire, peer: Peer, seat: Seat, counts: Arc<Counts>, greeting: Option<usize>) -> Self {
        counts.connected();
        let (cut, seat) = (Box::pin(seat.cut().clone().cancelled_owned()), Arc::new(seat));
        // Anyone can greet.
        let (peer, greeting) = match greeting {
            Some(_) if peer.is_anonymous() => (peer.at(&seat), None),
            greeting => (peer, greeting),
        };
        Self { wire, peer, seat, cut, stalled: None, counts, greeting }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    fn check(&self) -> io::Result<()> {
        if self.seat.cut().is_cancelled() { Err(was_cut()) } else { Ok(()) }
    }

    /// Passes on what a write came to, and ends one that waits for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_PATIENCE)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counts.disconnected();
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(was_cut()));
        }
        let before = buf.filled().len();
        let read = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        if let Some(left) = self.greeting {
            let left = left.saturating_sub(buf.filled().len() - before);
            self.greeting = (left > 0).then_some(left);
            if left == 0 {
                self.seat.busy();
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let wrote = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.written(cx, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let flushed = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            // What TLS holds back is written here.
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let wrote = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Wire::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(tcp) => tcp.is_write_vectored(),
            Wire::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
