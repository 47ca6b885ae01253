//! An HTTP proxy's CONNECT: one request, one answer of bounded length, and then the bytes are ours.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest answer of a proxy, in bytes; one that says more has something else in mind.
const LONGEST_ANSWER: usize = 8 << 10;
/// Most bytes of a proxy's answer that an error repeats.
const LONGEST_REASON: usize = 100;

/// Proxy at `http://[user:password@]host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    /// Name and password as `user:password`, decoded; `None` if the proxy asks for none.
    login: Option<String>,
}

/// Reason why a proxy did not connect us.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the proxy closed the connection before it answered CONNECT")]
    Closed,
    #[error("the proxy wants a login (407): set `offload.proxy` to http://user:password@host:port")]
    LoginMissing,
    #[error("the proxy refuses the login of `offload.proxy` (407)")]
    LoginRefused,
    #[error("the proxy refuses CONNECT: {0}")]
    Refused(String),
    #[error("the answer to CONNECT is not HTTP/1.x: is this a proxy?")]
    NotHttp,
    #[error("the answer to CONNECT is longer than {LONGEST_ANSWER} bytes")]
    TooLong,
    #[error("the proxy sends bytes of its own after its answer to CONNECT")]
    Chatty,
    #[error("proxy: {0}")]
    Io(#[from] io::Error),
}

impl Proxy {
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("is not an address: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err("must begin with http://: the connection inside it is encrypted by itself".to_owned());
        }
        if !matches!(uri.path(), "" | "/") {
            return Err("has a path; write http://host:port".to_owned());
        }
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err("names no host".to_owned());
        };
        let Some(port) = uri.port_u16().filter(|port| *port != 0) else {
            return Err("names no port; write http://host:port".to_owned());
        };
        let login = match authority.as_str().rsplit_once('@') {
            Some((login, _)) => {
                Some(decoded(login).ok_or("has a login that is not UTF-8 in %-encoding".to_owned())?)
            }
            None => None,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, login })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks the proxy for a connection to `host:port`; afterwards `stream` is that connection.
    pub(super) async fn tunnel<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(self.request(host, port).as_bytes()).await?;
        let head = read_head(stream).await?;
        self.judge(&head)
    }

    fn request(&self, host: &str, port: u16) -> String {
        // An IPv6 address stands in brackets.
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(login) = &self.login {
            request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(login)));
        }
        request.push_str("\r\n");
        request
    }

    fn judge(&self, head: &[u8]) -> Result<(), ProxyError> {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let rest = line.strip_prefix("HTTP/1.").ok_or(ProxyError::NotHttp)?;
        let status = rest.split_once(' ').map_or("", |(_, status)| status).trim();
        match status.get(..3).and_then(|code| code.parse::<u16>().ok()) {
            Some(200..=299) => Ok(()),
            Some(407) if self.login.is_some() => Err(ProxyError::LoginRefused),
            Some(407) => Err(ProxyError::LoginMissing),
            Some(_) => Err(ProxyError::Refused(status.chars().take(LONGEST_REASON).collect())),
            None => Err(ProxyError::NotHttp),
        }
    }
}

/// Reads a head up to and including the empty line.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(ProxyError::Closed);
        }
        head.extend_from_slice(&chunk[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            // What we want to talk to waits for us to speak first.
            return if end + 4 == head.len() { Ok(head) } else { Err(ProxyError::Chatty) };
        }
        if head.len() > LONGEST_ANSWER {
            return Err(ProxyError::TooLong);
        }
    }
}

/// Decodes the %-encoding of URLs; `None` if it is broken.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// Writes the proxy without its password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() { "…@" } else { "" };
        write!(f, "http://{login}{}:{}", self.host, self.port)
    }
}
