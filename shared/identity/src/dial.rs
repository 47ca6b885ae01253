//! A connection to a pool for a few calls: enrolment, renewal, a look at it. Over TLS where the address says https. It
//! is made at once, so that what fails says why, and is not made again when it is lost. Through a proxy where there is one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use millgate_transport::tcp::{self, ConnectError, Proxy};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::tls::explain;

/// ALPN name of gRPC over TCP.
pub const H2: &[u8] = b"h2";

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("`{0}` is not of the form https://host:port or http://host:port")]
    Url(String),
    #[error("{url}: no answer within {} s", limit.as_secs_f64())]
    Late { url: String, limit: Duration },
    #[error("{url}: {source}")]
    Connect { url: String, source: ConnectError },
    #[error("{url}, through the proxy {proxy}: {source}")]
    Through { url: String, proxy: String, source: ConnectError },
    #[error("{url}: `{host}`: {source}")]
    Resolve { url: String, host: String, source: std::io::Error },
    #[error("{url}: {reason}")]
    Tls { url: String, reason: String },
    #[error("{url}: {reason}")]
    Http { url: String, reason: String },
}

/// Connects to `url` within `limit`; `tls` is used for an address with https.
pub async fn dial(url: &str, tls: &Arc<ClientConfig>, limit: Duration) -> Result<Channel, DialError> {
    dial_through(None, url, tls, limit).await
}

/// Connects like [`dial`], through `proxy` if there is one.
pub async fn dial_through(
    proxy: Option<&Proxy>,
    url: &str,
    tls: &Arc<ClientConfig>,
    limit: Duration,
) -> Result<Channel, DialError> {
    let late = |_| DialError::Late { url: url.to_owned(), limit };
    tokio::time::timeout(limit, connect(proxy, url, tls, limit)).await.map_err(late)?
}

async fn connect(
    proxy: Option<&Proxy>,
    url: &str,
    tls: &Arc<ClientConfig>,
    limit: Duration,
) -> Result<Channel, DialError> {
    let bad_url = || DialError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad_url())?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad_url()),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad_url)?;
    // As it stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().filter(|port| *port != 0).ok_or_else(bad_url)?;
    let tcp = reach(proxy, url, &host, port).await?;
    let endpoint = Endpoint::from(uri).timeout(limit);
    let failed =
        |error: tonic::transport::Error| DialError::Http { url: url.to_owned(), reason: root_cause(&error) };
    if !is_tls {
        return endpoint.connect_with_connector(once(tcp)).await.map_err(failed);
    }
    let name = ServerName::try_from(host).map_err(|_| bad_url())?;
    let shaken = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
    let shaken = shaken.map_err(|error| DialError::Tls { url: url.to_owned(), reason: reason(&error) })?;
    endpoint.connect_with_connector(once(shaken)).await.map_err(failed)
}

/// Connects to the first address that answers.
async fn reach(proxy: Option<&Proxy>, url: &str, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let (peer, at) = proxy.map_or((host, port), |proxy| (proxy.host(), proxy.port()));
    let unresolved = |source| DialError::Resolve { url: url.to_owned(), host: peer.to_owned(), source };
    let addresses = tokio::net::lookup_host((peer, at)).await.map_err(unresolved)?;
    let mut failure = None;
    for address in addresses {
        let connected = match proxy {
            Some(proxy) => tcp::connect_through(proxy, address, host, port).await,
            None => tcp::connect(address).await,
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                let url = url.to_owned();
                failure = Some(match proxy {
                    Some(proxy) => DialError::Through { url, proxy: proxy.to_string(), source },
                    None => DialError::Connect { url, source },
                });
            }
        }
    }
    Err(failure.unwrap_or_else(|| unresolved(std::io::ErrorKind::AddrNotAvailable.into())))
}

/// Explains a failed handshake in words.
pub fn reason(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => explain(tls),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it hung up during the handshake: is it a plain-text port?".to_owned()
        }
        None => error.to_string(),
    }
}

type Connecting<T> = std::future::Ready<std::io::Result<TokioIo<T>>>;

fn once<T>(
    io: T,
) -> impl tower::Service<Uri, Response = TokioIo<T>, Error = std::io::Error, Future = Connecting<T>> + Send + 'static
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let slot = Mutex::new(Some(io));
    tower::service_fn(move |_: Uri| {
        let io = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lost = || std::io::Error::new(std::io::ErrorKind::NotConnected, "the connection is lost");
        std::future::ready(io.map(TokioIo::new).ok_or_else(lost))
    })
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
