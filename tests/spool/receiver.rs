//! A webhook's receiver that remembers what it was sent.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// By `Idempotency-Key`, the bodies.
type Seen = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

pub(crate) struct Receiver {
    addr: SocketAddr,
    seen: Seen,
}

impl Receiver {
    /// It lives as long as the test's process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Seen::default();
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let all = Arc::clone(&all);
                std::thread::spawn(move || while serve(stream.as_ref().unwrap(), &all).is_some() {});
            }
        });
        Self { addr, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/decisions", self.addr)
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().keys().cloned().collect()
    }

    /// What was sent again was the same, byte for byte.
    pub(crate) fn assert_bytes_are_equal(&self) {
        for (key, bodies) in &*self.seen.lock().unwrap() {
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{key}: {bodies:?}");
        }
    }
}

fn serve(stream: &TcpStream, seen: &Seen) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if let Some(value) = lower.strip_prefix("idempotency-key:") {
            key = value.trim().to_owned();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.lock().unwrap().entry(key).or_default().push(String::from_utf8(body).ok()?);
    let mut out = stream;
    out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()
}

/// The status of a plain GET.
pub(crate) fn status_of(url: &str) -> u16 {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
