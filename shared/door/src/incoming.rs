//! Accepted connections: bounded in number, without Nagle's delay, and cut when the grace is over. Whoever has yet to say
//! something, or to come to the end of a handshake, waits beside the accepting, with a place of its own and a time in which
//! to get ready.
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
use millgate_identity::dial::reason;
use millgate_transport::tcp;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::peer::{Line, Peer};
use super::seats::{HANDSHAKE_PATIENCE, Knock, Seat, Seats};

/// Pause after an accept that failed: time for a connection to end, and for its descriptor to be free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long a connection without TLS may take to its first byte.
const SILENCE_PATIENCE: Duration = Duration::from_secs(60);
/// A peer that takes nothing of what it is sent for so long is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// HTTP/2's preface. A gRPC peer that has not sent as much has said nothing.
pub const HTTP2_PREFACE: usize = 24;

/// A listener with its bounds.
pub struct Door {
    listener: TcpListener,
    seats: Arc<Seats>,
    /// Bytes after which a peer that is known counts as served; `None`: whoever serves it says so.
    greeting: Option<usize>,
    /// `None`: plain text.
    tls: Option<Arc<ServerConfig>>,
    /// Those who knock; at most as many as there are places for them.
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Option<Connection>> + Send>>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Door {
    /// Door whose connections have their places among `seats`, with TLS if a configuration is given. `greeting`: bytes after
    /// which a peer counts as served, where nothing else tells.
    pub fn new(
        listener: TcpListener,
        seats: Arc<Seats>,
        greeting: Option<usize>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self { listener, seats, greeting, tls, waiting: FuturesUnordered::new() }
    }

    pub fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// The connections as a stream, as tonic takes them; it never ends and gives no error.
    pub fn connections(self) -> impl Stream<Item = io::Result<Connection>> {
        unfold(self, |mut door| async move { Some((Ok(door.accept().await), door)) })
    }

    /// Waits for the next connection that has shown that it is real.
    ///
    /// Cancel-safe: the listener's `accept` is, nothing else waits with a socket in hand, and those who knock go on with
    /// the next call.
    pub async fn accept(&mut self) -> Connection {
        loop {
            let accepted = tokio::select! {
                // Whoever was cut gives its descriptor back before another one is taken.
                biased;
                Some(ready) = self.waiting.next() => match ready {
                    Some(connection) => return connection,
                    None => continue,
                },
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, addr)) => {
                    tcp::tune(&tcp, tcp::Role::Accepted);
                    let knock = self.seats.knock(addr);
                    self.waiting.push(Box::pin(receive(self.tls.clone(), tcp, addr, knock, self.greeting)));
                }
                Err(error) => {
                    if let Some(connection) = self.recover(&error).await {
                        return connection;
                    }
                }
            }
        }
    }

    /// Makes room after an accept that failed, for want of a descriptor mostly. Those who knock go on meanwhile.
    async fn recover(&mut self, error: &io::Error) -> Option<Connection> {
        self.seats.cannot_accept(error);
        let mut pause = std::pin::pin!(tokio::time::sleep(ACCEPT_PAUSE));
        loop {
            tokio::select! {
                () = &mut pause => return None,
                Some(ready) = self.waiting.next() => {
                    if ready.is_some() {
                        return ready;
                    }
                }
            }
        }
    }
}

/// Waits until a connection has shown that it is real. `None`: it came to nothing.
async fn receive(
    tls: Option<Arc<ServerConfig>>,
    tcp: TcpStream,
    addr: SocketAddr,
    knock: Knock,
    greeting: Option<usize>,
) -> Option<Connection> {
    let (cut, is_tls) = (knock.cut().clone(), tls.is_some());
    let failure = match cut.run_until_cancelled(prove(tls, tcp, addr, &knock)).await {
        Some(Ok((wire, peer))) => {
            let seat = knock.sit(peer.holder())?;
            return Some(Connection::new(wire, peer, seat, greeting));
        }
        Some(Err(failure)) => failure,
        None => "it was cut".to_owned(),
    };
    if is_tls {
        knock.seats().counts().handshake_failed();
    }
    tracing::debug!(peer = %addr, failure, "a connection came to nothing before it was ready");
    None
}

async fn prove(
    tls: Option<Arc<ServerConfig>>,
    tcp: TcpStream,
    addr: SocketAddr,
    knock: &Knock,
) -> Result<(Wire, Peer), String> {
    let late = |patience: Duration| move |_| format!("it took more than {} s", patience.as_secs());
    let Some(tls) = tls else {
        let said = tokio::time::timeout(SILENCE_PATIENCE, tcp.readable()).await;
        said.map_err(late(SILENCE_PATIENCE))?.map_err(|error| error.to_string())?;
        return Ok((Wire::Plain(tcp), Peer::plain(addr)));
    };
    let shake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        knock.has_spoken();
        hello.into_stream(tls).await
    };
    let shaken = tokio::time::timeout(HANDSHAKE_PATIENCE, shake).await;
    let stream = shaken.map_err(late(HANDSHAKE_PATIENCE))?.map_err(|error| reason(&error))?;
    let peer = Peer::shown(addr, Line::Tls, stream.get_ref().1.peer_certificates());
    Ok((Wire::Tls(Box::new(stream)), peer))
}

/// What a connection is made of.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    peer: Peer,
    seat: Arc<Seat>,
    /// Wakes the reader when it is to end; a connection always has one.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Bytes that are to come until its peer counts as served.
    greeting: Option<usize>,
}

impl Connection {
    fn new(wire: Wire, peer: Peer, seat: Seat, greeting: Option<usize>) -> Self {
        seat.seats().counts().connected(seat.seats().door());
        let (cut, seat) = (Box::pin(seat.cut().clone().cancelled_owned()), Arc::new(seat));
        let peer = peer.ending_with(seat.cut());
        let (peer, greeting) = match greeting {
            // Anyone can make this connection, and greet: a call of its has to be let in.
            Some(_) if peer.is_anonymous() => (peer.at(&seat), None),
            // What speaks HTTP/1.1 says by itself when it is served; a right that a call shows counts there, too.
            _ if peer.certificate.is_none() => (peer.at(&seat), greeting),
            greeting => (peer, greeting),
        };
        Self { wire, peer, seat, cut, stalled: None, greeting }
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
        let seats = self.seat.seats();
        seats.counts().disconnected(seats.door());
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
            match (left, &self.peer.certificate) {
                (0, Some(_)) => self.seat.busy(),
                (0, None) => self.seat.greeted(),
                _ => {}
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
