//! Accepted connections: bounded in number, without Nagle's delay, and cut when the pool's grace is over.
//!
//! tonic runs each connection on a task of its own that cannot be reached from here; an error from the socket is what
//! ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::metrics::Metrics;

/// Pause after an accept that failed (out of file descriptors, mostly): time for a connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections of `listener`, at most `limit` at a time, until `cut` is cancelled.
pub(super) fn incoming(
    listener: TcpListener,
    limit: usize,
    cut: CancellationToken,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    unfold((listener, permits, cut, metrics), |(listener, permits, cut, metrics)| async move {
        let connection = accept(&listener, &permits, &cut, &metrics).await;
        Some((Ok(connection), (listener, permits, cut, metrics)))
    })
}

/// Cancel-safe: `accept` is, and nothing else waits with a socket in hand.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    cut: &CancellationToken,
    metrics: &Arc<Metrics>,
) -> Connection {
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            tracing::warn!(%peer, "connection refused: there are `max_connections`");
            metrics.connection_refused();
            continue;
        };
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        metrics.connected();
        return Connection {
            tcp,
            token: cut.clone(),
            cut: Box::pin(cut.clone().cancelled_owned()),
            metrics: Arc::clone(metrics),
            _permit: permit,
        };
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    tcp: TcpStream,
    token: CancellationToken,
    /// Wakes the reader when the token is cancelled; a connection always has one.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn check(&self) -> io::Result<()> {
        if self.token.is_cancelled() { Err(was_cut()) } else { Ok(()) }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the pool has stopped")
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
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
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
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
