//! The cable between agent and pool: a TCP relay in user space that can be cut and restored.
//!
//! Cut silently, it does what a pulled cable does: bytes stop in both directions, connections stay open and do not
//! know, and new ones get no answer. What was on its way arrives after the cable is back, as TCP would resend it. The
//! only difference is that the kernel completes the handshake of a new connection, so that a caller hangs one step
//! later, in its first request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// Read at a time, in bytes.
const CHUNK: usize = 16 << 10;
/// After a failed accept; the usual cause, too many open files, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the cable does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    Whole,
    /// Nothing passes and nobody is told.
    Silent,
    /// Every connection is reset, new ones at once.
    Reset,
}

/// Handle to a relay; it ends with its tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cable: watch::Sender<Cable>,
    /// Bytes passed to the upstream, and back.
    up: AtomicU64,
    down: AtomicU64,
}

impl Link {
    /// Listens on a free loopback port and relays to `upstream`.
    pub async fn start(upstream: SocketAddr, tasks: &Tasks) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (cable, _) = watch::channel(Cable::Whole);
        let shared = Arc::new(Shared { cable, up: AtomicU64::new(0), down: AtomicU64::new(0) });
        tasks.spawn(accept(listener, upstream, Arc::clone(&shared), tasks.clone()));
        Ok(Self { addr, shared })
    }

    /// Where to connect instead of upstream.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Pulls the cable.
    pub fn cut(&self) {
        self.shared.cable.send_replace(Cable::Silent);
    }

    /// Resets every connection and whoever connects from now on, as a host whose process died.
    pub fn cut_hard(&self) {
        self.shared.cable.send_replace(Cable::Reset);
    }

    pub fn restore(&self) {
        self.shared.cable.send_replace(Cable::Whole);
    }

    pub fn cable(&self) -> Cable {
        *self.shared.cable.borrow()
    }

    pub fn is_cut(&self) -> bool {
        self.cable() != Cable::Whole
    }

    /// Bytes that reached the upstream, with everything HTTP/2 adds.
    pub fn bytes_up(&self) -> u64 {
        self.shared.up.load(Ordering::Relaxed)
    }

    /// Bytes that came back from it.
    pub fn bytes_down(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, shared: Arc<Shared>, tasks: Tasks) {
    let stop = tasks.token().clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = relay(client, upstream, &shared) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the link cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, until either side ends it or the cable resets it.
async fn relay(mut client: TcpStream, upstream: SocketAddr, shared: &Shared) {
    let mut cable = shared.cable.subscribe();
    let ended = tokio::select! {
        biased;
        () = until(&mut cable, |cable| cable == Cable::Reset) => None,
        ended = pass(&mut client, upstream, shared) => Some(ended),
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "a connection of the link ended"),
        // Without it the peer would see an orderly close.
        None => match client.set_zero_linger() {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a connection is closed, not reset"),
        },
    }
}

async fn pass(client: &mut TcpStream, upstream: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut cable = shared.cable.subscribe();
    until(&mut cable, |cable| cable == Cable::Whole).await;
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, cable.clone(), &shared.up),
        pump(from_server, to_client, cable, &shared.down),
    )?;
    Ok(())
}

/// One direction. The end of it is held back by a cut as bytes are.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut cable: watch::Receiver<Cable>,
    passed: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        until(&mut cable, |cable| cable == Cable::Whole).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
        passed.fetch_add(read as u64, Ordering::Relaxed);
    }
}

async fn until(cable: &mut watch::Receiver<Cable>, is_met: impl Fn(Cable) -> bool) {
    if cable.wait_for(|cable| is_met(*cable)).await.is_err() {
        // The handle holds the sender, and whoever relays holds the handle's other half.
        std::future::pending::<()>().await;
    }
}
