//! gRPC over QUIC, on UDP at gRPC's own address: the same services, places, drain and cut as at the door for TCP.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body as HttpBody;
use millgate_transport::quic::server::{self, Limits};
use millgate_transport::quic::{Goodbye, Tuning};
use quinn::{Connection, Endpoint, Incoming};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

use super::peer::{Line, Peer};
use super::seats::{HANDSHAKE_PATIENCE, Knock, Seats};

/// What the last words to peers get to leave the machine.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A socket with its bounds.
#[derive(Debug)]
pub struct QuicDoor {
    endpoint: Endpoint,
    seats: Arc<Seats>,
    limits: Limits,
}

impl QuicDoor {
    /// `seats` are shared with the door for TCP; `streams`: calls of one connection at a time; `window`: bytes that its peer may send
    /// ahead, and half of those that may wait to be sent to it.
    pub fn open(
        socket: UdpSocket,
        tls: Arc<ServerConfig>,
        seats: Arc<Seats>,
        streams: u32,
        window: u32,
    ) -> std::io::Result<Self> {
        let endpoint = server::listen(socket, tls, &Tuning::pool(streams).within(window))?;
        let limits = Limits { streams, ..Limits::default() };
        Ok(Self { endpoint, seats, limits })
    }

    /// Serves until `stop` is cancelled, and then until what is under way is answered, or cut.
    pub async fn serve<S, B>(self, service: S, stop: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            // While many knock, who wants a place has to show that it is where it says it is: that costs an honest one a round
            // trip, and one that makes its addresses up everything.
            if !incoming.remote_address_validated() && incoming.may_retry() && self.seats.is_pressed() {
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%error, "a peer could not be asked to try again");
                }
                continue;
            }
            let knock = self.seats.knock(incoming.remote_address());
            // Its first packet holds its part of the handshake.
            knock.has_spoken();
            let talk = Talk { limits: self.limits, stop: stop.clone() };
            connections.spawn(talk.run(knock, incoming, service.clone()));
        }
        // Nobody else is let in, and who is not being served leaves.
        self.endpoint.set_server_config(None);
        self.seats.clear();
        let answered = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = self.seats.cut().cancelled() => {}
            () = answered => {}
        }
        let goodbye = Goodbye::Cut;
        self.endpoint.close(goodbye.code(), goodbye.words().as_bytes());
        // Whoever does not hear it finds out by the silence.
        tokio::time::timeout(LAST_WORDS, self.endpoint.wait_idle()).await.ok();
    }
}

/// One connection.
struct Talk {
    limits: Limits,
    stop: CancellationToken,
}

impl Talk {
    async fn run<S, B>(self, knock: Knock, incoming: Incoming, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let address = incoming.remote_address();
        let handshake = async { incoming.accept()?.await };
        let shaken = tokio::select! {
            biased;
            () = knock.cut().cancelled() => return,
            shaken = tokio::time::timeout(HANDSHAKE_PATIENCE, handshake) => shaken,
        };
        let failure = match shaken {
            Ok(Ok(connection)) => return self.talk(knock, connection, service).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took more than {} s", HANDSHAKE_PATIENCE.as_secs()),
        };
        knock.seats().counts().handshake_failed();
        tracing::debug!(peer = %address, failure, "a QUIC handshake came to nothing");
    }

    async fn talk<S, B>(self, knock: Knock, connection: Connection, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut peer = peer(&connection);
        let Some(seat) = knock.sit(peer.holder()).map(Arc::new) else {
            let goodbye = Goodbye::Cut;
            return connection.close(goodbye.code(), goodbye.words().as_bytes());
        };
        peer = peer.ending_with(seat.cut());
        if peer.is_anonymous() {
            peer = peer.at(&seat);
        } else {
            // Its handshake has verified it: it stays, as one does over TCP that has said as much as a preface.
            seat.busy();
        }
        let _open = Open::new(seat.seats());
        let served =
            server::serve(connection.clone(), service, extensions(peer), self.limits, self.stop.clone());
        tokio::select! {
            biased;
            () = seat.cut().cancelled() => {
                let goodbye = Goodbye::Cut;
                connection.close(goodbye.code(), goodbye.words().as_bytes());
            }
            ended = served => tracing::debug!(peer = %connection.remote_address(), reason = %ended, "a QUIC connection has ended"),
        }
    }
}

fn peer(connection: &Connection) -> Peer {
    let identity = connection.peer_identity().and_then(|identity| identity.downcast().ok());
    let chain: Option<Box<Vec<CertificateDer<'static>>>> = identity;
    Peer::shown(connection.remote_address(), Line::Quic, chain.as_deref().map(Vec::as_slice))
}

/// What each of its requests carries.
fn extensions(peer: Peer) -> Extensions {
    let address = peer.addr;
    let mut extensions = Extensions::new();
    extensions.insert(peer);
    // Where tonic looks for a peer's address.
    extensions.insert(TcpConnectInfo { local_addr: None, remote_addr: Some(address) });
    extensions
}

/// Counted while it is open.
struct Open<'a>(&'a Seats);

impl<'a> Open<'a> {
    fn new(seats: &'a Seats) -> Self {
        seats.counts().connected(seats.door());
        Self(seats)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counts().disconnected(self.0.door());
    }
}
