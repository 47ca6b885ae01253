//! A connection whose bytes go out no faster than a rate: what waits is never more than a few packets ahead of a live
//! call's, however large the message.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Written at a time: on a line of 1 Mbit/s it is gone after 33 ms.
const PIECE: usize = 4 << 10;
/// Time for which unused rate is kept: a timer is late by a few milliseconds.
const CREDIT: Duration = Duration::from_millis(10);

/// Bytes a second, set by one and read by others.
#[derive(Debug)]
pub(super) struct Rate(AtomicU64);

impl Rate {
    pub(super) fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(bytes_per_second.max(1))))
    }

    pub(super) fn set(&self, bytes_per_second: u64) {
        self.0.store(bytes_per_second.max(1), Ordering::Relaxed);
    }

    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.0.load(Ordering::Relaxed) as f64)
    }
}

#[derive(Debug)]
pub(super) struct Paced<T> {
    io: T,
    rate: Option<Arc<Rate>>,
    /// When the bytes that are written will have gone out at the rate.
    clear_at: Instant,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<T> Paced<T> {
    /// Without a rate it only passes on.
    pub(super) fn new(io: T, rate: Option<Arc<Rate>>) -> Self {
        Self { io, rate, clear_at: Instant::now(), wait: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(rate) = &this.rate else { return Pin::new(&mut this.io).poll_write(cx, buf) };
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
        }
        let now = Instant::now();
        if this.clear_at > now + CREDIT {
            let mut wait = Box::pin(sleep_until(this.clear_at));
            if wait.as_mut().poll(cx).is_pending() {
                this.wait = Some(wait);
                return Poll::Pending;
            }
        }
        let piece = &buf[..buf.len().min(PIECE)];
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, piece))?;
        this.clear_at = this.clear_at.max(now) + rate.time_for(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.rate.is_none() {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.rate.is_none() && self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn time_of(bytes: usize, rate: Option<Arc<Rate>>) -> Duration {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut paced = Paced::new(ours, rate);
        let started = Instant::now();
        paced.write_all(&vec![7; bytes]).await.unwrap();
        paced.shutdown().await.unwrap();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), bytes);
        started.elapsed()
    }

    #[tokio::test]
    async fn bytes_take_the_time_of_their_rate() {
        let took = time_of(100_000, Some(Rate::new(1_000_000))).await;
        // A busy machine makes it later, never earlier.
        assert!(took >= Duration::from_millis(85), "{took:?}");
        time_of(500_000, None).await;
    }
}
