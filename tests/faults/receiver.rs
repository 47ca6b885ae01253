//! A webhook's receiver with manners that can change: it keeps what it accepts, by `Idempotency-Key`, as one should.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::plan::Manners;

/// A connection that says nothing for so long is hung up on.
const SILENCE: Duration = Duration::from_secs(60);
const MOST_BYTES: usize = 1 << 20;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manners: Mutex<Manners>,
    kept: Mutex<Kept>,
    is_stopped: AtomicBool,
}

/// What was accepted.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Bodies in the order of their first coming.
    pub bodies: Vec<String>,
    by_key: HashMap<String, String>,
    /// How often a body was posted again with its key, as after a lost answer.
    pub again: usize,
    /// Keys posted again with another body, or with none at all.
    pub wrong: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    pub fn start(ip: Ipv4Addr) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            manners: Mutex::new(Manners::Kind),
            kept: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    let _hung_up = shared.serve(stream).is_err();
                });
            }
        });
        Ok(Self { addr, shared })
    }

    pub fn url(&self) -> String {
        format!("http://{}/decisions", self.addr)
    }

    pub fn behave(&self, manners: Manners) {
        *lock(&self.shared.manners) = manners;
    }

    pub fn kept(&self) -> Kept {
        lock(&self.shared.kept).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the one who accepts.
        let _woken = TcpStream::connect(self.addr).is_ok();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some((key, body)) = request(&mut reader)? {
            match *lock(&self.manners) {
                Manners::Refuses => {
                    stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
                    continue;
                }
                Manners::Forgets => {
                    self.keep(key, body);
                    return Ok(());
                }
                Manners::Kind => self.keep(key, body),
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    }

    fn keep(&self, key: Option<String>, body: String) {
        let mut kept = lock(&self.kept);
        let Some(key) = key else {
            kept.wrong.push(format!("no Idempotency-Key: {body}"));
            return;
        };
        match kept.by_key.get(&key) {
            Some(before) if *before == body => kept.again += 1,
            Some(before) => {
                let what = format!("{key}: two contents: {before} | {body}");
                kept.wrong.push(what);
            }
            None => {
                kept.by_key.insert(key, body.clone());
                kept.bodies.push(body);
            }
        }
    }
}

/// Key and body; `None` at the connection's end.
fn request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(Option<String>, String)>> {
    let (mut key, mut len, mut is_first) = (None, 0, true);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() && !is_first {
            break;
        }
        is_first = false;
        let Some((name, value)) = line.split_once(':') else { continue };
        match &*name.to_ascii_lowercase() {
            "content-length" => len = value.trim().parse().unwrap_or(0),
            "idempotency-key" => key = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; len.min(MOST_BYTES)];
    reader.read_exact(&mut body)?;
    Ok(Some((key, String::from_utf8_lossy(&body).into_owned())))
}
