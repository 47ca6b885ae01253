//! What else may answer where a pool was looked for: another port of one, most of all. Looked at once in a while, and only
//! where a way to the pool has failed.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a look, and for each port that is tried.
pub(super) const LIMIT: Duration = Duration::from_secs(1);
/// What was found is believed for so long.
const FRESH: Duration = Duration::from_secs(30);
/// A pool's gRPC port unless it is configured otherwise.
const USUAL: u16 = 8001;

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// REST, metrics, or something else altogether.
    Http1,
    Tls,
}

impl Spoken {
    /// From the first bytes that are said to a request of HTTP/1.
    fn of(said: &[u8]) -> Option<Self> {
        if said.starts_with(b"HTTP/1.") {
            return Some(Self::Http1);
        }
        // An alert: the record's type, and the version that all of them name.
        said.starts_with(&[0x15, 0x03]).then_some(Self::Tls)
    }
}

/// In plain text; `None`: nothing that is known.
pub(super) async fn spoken(address: SocketAddr) -> Option<Spoken> {
    let look = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut said = Vec::new();
        let mut chunk = [0; 16];
        while said.len() < 7 {
            match stream.read(&mut chunk).await.ok()? {
                0 => break,
                read => said.extend_from_slice(&chunk[..read]),
            }
        }
        Spoken::of(&said)
    };
    timeout(LIMIT, look).await.ok().flatten()
}

/// Ports at which the pool may be instead, the likeliest first.
pub(super) fn instead_of(port: u16) -> impl Iterator<Item = u16> {
    let near = [port.checked_add(1), Some(USUAL), port.checked_sub(1)];
    let mut tried = vec![port, 0];
    near.into_iter().flatten().filter(move |near| {
        let is_new = !tried.contains(near);
        tried.push(*near);
        is_new
    })
}

/// What was found the last time.
#[derive(Debug)]
pub(super) struct Looked<T> {
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Looked<T> {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(None) }
    }

    pub(super) fn known(&self) -> Option<T> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, found)| found.clone())
    }

    pub(super) fn found(&self, what: T) -> T {
        let kept = what.clone();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), kept));
        what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_near_by_are_tried_and_none_twice() {
        let tried = |port| instead_of(port).collect::<Vec<_>>();
        assert_eq!(tried(8000), [8001, 7999]);
        assert_eq!(tried(8002), [8003, 8001]);
        assert_eq!(tried(9000), [9001, 8001, 8999]);
        assert_eq!(tried(8001), [8002, 8000]);
        assert_eq!((tried(1), tried(65535)), (vec![2, 8001], vec![8001, 65534]));
    }

    #[test]
    fn what_is_spoken_is_known_by_its_first_bytes() {
        assert_eq!(Spoken::of(b"HTTP/1.1 404 Not Found\r\n"), Some(Spoken::Http1));
        assert_eq!(Spoken::of(&[0x15, 0x03, 0x03, 0, 2, 2, 70]), Some(Spoken::Tls));
        assert_eq!(Spoken::of(b"220 mail"), None);
        assert_eq!(Spoken::of(b""), None);
    }
}
