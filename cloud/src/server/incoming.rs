//! Accepted connections: bounded in number, without Nagle's delay, and cut when the pool's grace is over.
//!
//! tonic runs each connection on a task of its own that cannot be reached from here; an error from the socket is what
//! ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::unfold;
use millgate_shared::transport::tcp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::seats::{Offer, Seat, Seats};
use crate::metrics::Metrics;

/// Pause after an accept that failed (out of file descriptors, mostly): time for a connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer that takes nothing of what it is sent for so long is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// HTTP/2's preface. A gRPC peer that has not sent as much has said nothing.
pub(super) const HTTP2_PREFACE: usize = 24;

/// A listener with its bounds.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    seats: Arc<Seats>,
    cut: CancellationToken,
    metrics: Arc<Metrics>,
    /// Bytes after which a peer counts as served; `None`: whoever serves it says so.
    greeting: Option<usize>,
}

impl Door {
    /// At most `limit` connections at a time, until `cut` is cancelled.
    pub(super) fn new(
        listener: TcpListener,
        limit: usize,
        cut: CancellationToken,
        metrics: Arc<Metrics>,
        greeting: Option<usize>,
    ) -> Self {
        Self { listener, seats: Seats::new(limit), cut, metrics, greeting }
    }

    pub(super) fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// For tonic.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<Connection>> {
        unfold(self, |door| async move { Some((Ok(door.accept().await), door)) })
    }

    /// Cancel-safe: the listener's `accept` is, and nothing else waits with a socket in hand.
    pub(crate) async fn accept(&self) -> Connection {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let seat = match self.seats.take(Instant::now(), &self.cut) {
                Offer::Seated(seat) => seat,
                Offer::Displaced(seat) => {
                    tracing::debug!(%peer, "the quietest connection is cut: there are `max_connections`");
                    self.metrics.connection_refused();
                    seat
                }
                Offer::Full => {
                    tracing::warn!(%peer, "connection refused: there are `max_connections`");
                    self.metrics.connection_refused();
                    continue;
                }
            };
            tcp::tune(&stream, tcp::Role::Accepted);
            self.metrics.connected();
            let cut = Box::pin(seat.cut().clone().cancelled_owned());
            let (metrics, greeting) = (Arc::clone(&self.metrics), self.greeting);
            return Connection { tcp: stream, seat: Arc::new(seat), cut, stalled: None, metrics, greeting };
        }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    tcp: TcpStream,
    seat: Arc<Seat>,
    /// Wakes the reader when it is to end; a connection always has one.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
    /// Bytes that are to come until its peer counts as served.
    greeting: Option<usize>,
}

impl Connection {
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
        self.metrics.disconnected();
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
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
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
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
        let wrote = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.written(cx, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let wrote = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
