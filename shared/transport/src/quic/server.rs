//! The server's side: a socket, and what runs one connection's calls through a service.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Extensions, Method, Request, Response, Version};
use http_body::Body as HttpBody;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime, VarInt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::blocks::Side;
use super::head::{RequestHead, ResponseHead};
use super::reading::{Alone, Reading};
use super::sending::{Failure, Sending, UNFINISHED};
use super::{ALPN, Error, Goodbye, Tuning, endpoint};

/// Bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most calls at a time; a client holds back one more.
    pub streams: u32,
    /// Time that a call's head may take, from the stream's first byte to the end of the head.
    pub head: Duration,
}

/// Number of streams that a connection may open at first, since QUIC keeps a place for every stream that a peer may
/// open. A connection gets the rest when it begins to need them: most agents have one call open.
const FEW_STREAMS: u32 = 8;

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 128, head: Duration::from_secs(10) }
    }
}

/// Makes a UDP socket with room for bursts, as far as the kernel grants it.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    endpoint::socket(address)
}

/// Listens for connections at a socket. Must be called within a tokio runtime. `tls` needs TLS 1.3; its ALPN names
/// are replaced by [`ALPN`].
pub fn listen(
    socket: UdpSocket,
    tls: Arc<rustls::ServerConfig>,
    tuning: &Tuning,
) -> io::Result<quinn::Endpoint> {
    let mut tls = Arc::unwrap_or_clone(tls);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let few = Tuning { streams: tuning.streams.min(FEW_STREAMS), ..tuning.clone() };
    config.transport_config(Arc::new(few.transport()?));
    quinn::Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// Runs the calls of one connection until it is gone, and says why it is. Each call gets a clone of `extensions`.
///
/// When `stop` is cancelled further calls are answered UNAVAILABLE, and the connection is closed as soon as those under
/// way are answered and their answers have arrived. Dropping this drops every call's work; so does a client that cancels
/// its call, or goes.
pub async fn serve<S, B>(
    connection: Connection,
    service: S,
    extensions: Extensions,
    limits: Limits,
    stop: CancellationToken,
) -> Error
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<tonic::codegen::StdError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let few = limits.streams.min(FEW_STREAMS);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(few));
    let (mut calls, mut has_few) = (JoinSet::new(), few < limits.streams);
    loop {
        if has_few && calls.len() * 2 >= few as usize {
            has_few = false;
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams));
        }
        if stop.is_cancelled() && calls.is_empty() {
            let goodbye = Goodbye::Stopping;
            connection.close(goodbye.code(), goodbye.words().as_bytes());
            return connection.closed().await.into();
        }
        tokio::select! {
            biased;
            Some(ended) = calls.join_next() => {
                if let Err(error) = ended {
                    // The panic itself has been reported where it happened.
                    tracing::debug!(%error, "a call has ended early");
                }
            }
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            accepted = connection.accept_bi() => {
                let (outgoing, incoming) = match accepted {
                    Ok(streams) => streams,
                    Err(error) => return error.into(),
                };
                match stop.is_cancelled() {
                    true => calls.spawn(refuse(outgoing)),
                    false => {
                        calls.spawn(answer(outgoing, incoming, service.clone(), extensions.clone(), limits))
                    }
                };
            }
        }
    }
}

/// Answers one call.
async fn answer<S, B>(
    outgoing: SendStream,
    incoming: RecvStream,
    mut service: S,
    extensions: Extensions,
    limits: Limits,
) where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<tonic::codegen::StdError>,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<tonic::codegen::StdError>,
{
    // Ready when the client wants no more of the answer, has all of it, or is gone.
    let mut gone = Box::pin(outgoing.stopped());
    let mut sending = Sending::new(outgoing, UNFINISHED);
    let work = async {
        let mut reading = Reading::new(incoming, Side::Request);
        let head = match tokio::time::timeout(limits.head, reading.head()).await {
            Ok(head) => head.and_then(|head| Ok(RequestHead::decode(&head)?)),
            Err(_) => return deny(&mut sending, Status::deadline_exceeded("the call's head is late")).await,
        };
        let head = match head {
            Ok(head) => head,
            Err(broken) => return deny(&mut sending, broken.status()).await,
        };
        let mut request = Request::new(reading.into_body(Alone));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = head.path.into();
        *request.headers_mut() = head.headers;
        *request.extensions_mut() = extensions;
        match ask(&mut service, request).await {
            Ok(response) => respond(&mut sending, response).await,
            Err(status) => deny(&mut sending, status).await,
        }
    };
    let done = tokio::select! {
        biased;
        _ = &mut gone => return,
        done = work => done,
    };
    if let Err(failure) = done {
        tracing::debug!(status = %failure.status(), "an answer was not sent to its end");
        return;
    }
    // Until it has arrived: a connection that is closed before takes it along.
    gone.await.ok();
}

async fn ask<S, B>(service: &mut S, request: Request<Body>) -> Result<Response<B>, Status>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<tonic::codegen::StdError>,
{
    let failed = |error: S::Error| Status::from_error(error.into());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
    service.call(request).await.map_err(failed)
}

async fn respond<B>(sending: &mut Sending, response: Response<B>) -> Result<(), Failure>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<tonic::codegen::StdError>,
{
    let (parts, body) = response.into_parts();
    match ResponseHead::encode(parts.status, &parts.headers) {
        Ok(head) => sending.all(head, body).await,
        Err(error) => deny(sending, Status::internal(format!("the answer's metadata: {error}"))).await,
    }
}

/// Answers with a head alone, which holds the status.
async fn deny(sending: &mut Sending, status: Status) -> Result<(), Failure> {
    let response: Response<Body> = status.into_http();
    let head = ResponseHead::encode(response.status(), response.headers()).unwrap_or_default();
    sending.all(head, Body::empty()).await
}

/// Refuses a call while the server drains.
async fn refuse(outgoing: SendStream) {
    let gone = outgoing.stopped();
    let mut sending = Sending::new(outgoing, UNFINISHED);
    if deny(&mut sending, Status::unavailable(Goodbye::Stopping.words())).await.is_ok() {
        gone.await.ok();
    }
}
