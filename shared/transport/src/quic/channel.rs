//! The client's side of a connection: a tower service on which generated clients sit.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use millgate_rim::shutdown::Tasks;
use quinn::{Connection, SendStream};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::blocks::{Piece, Side};
use super::head::{RequestHead, ResponseHead};
use super::reading::{Broken, Guard, Reading};
use super::sending::{Failure, Sending};
use super::{CANCELLED, Error, Goodbye, Stats, gone};
use crate::timeout;

/// Channel for calls over one connection. Cheap to clone; the connection lives as long as a clone or a call does,
/// unless it is lost.
#[derive(Debug, Clone)]
pub struct Channel {
    connection: Connection,
    tasks: Tasks,
    priority: i32,
}

impl Channel {
    pub(super) fn new(connection: Connection, tasks: Tasks) -> Self {
        Self { connection, tasks, priority: 0 }
    }

    /// Gives a channel on this connection whose calls give way to others (below 0) or go before them (above 0): while
    /// a stream of a higher priority has something to send, the lower ones wait.
    pub fn with_priority(&self, priority: i32) -> Self {
        Self { priority, ..self.clone() }
    }

    /// Waits until the connection is gone, and says why.
    pub async fn closed(&self) -> Error {
        self.connection.closed().await.into()
    }

    /// Ends the connection and every call on it.
    pub fn close(&self) {
        let goodbye = Goodbye::Done;
        self.connection.close(goodbye.code(), goodbye.words().as_bytes());
    }

    pub fn stats(&self) -> Stats {
        let stats = self.connection.stats();
        Stats {
            round_trip: stats.path.rtt,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            window: stats.path.cwnd,
        }
    }

    /// Connection itself, for what is not gRPC: its peer's certificates, above all.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    /// Ready at any time: what is wrong is said by the call itself, whose errors keep their code.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(call(self.clone(), request))
    }
}

/// Remainder of a call, kept by whoever reads the answer; dropping it cancels what is left of the call.
struct Rest {
    /// Task that sends the request; `None` once that is done.
    pump: Option<AbortOnDropHandle<Result<(), Failure>>>,
    deadline: Option<Instant>,
    /// Handle that keeps the connection while an answer is read.
    _connection: Connection,
}

impl Rest {
    /// Waits for the request to be sent, and returns only where it cannot be for a reason of its own; that the peer
    /// has heard enough is none.
    async fn pumped(&mut self) -> Status {
        if let Some(pump) = &mut self.pump {
            let ended = pump.await;
            self.pump = None;
            match ended {
                Ok(Ok(()) | Err(Failure::Stopped)) => {}
                Ok(Err(failure)) => return failure.status(),
                Err(error) => return Status::internal(format!("the call's sender has ended: {error}")),
            }
        }
        std::future::pending().await
    }
}

impl Guard for Rest {
    async fn hold<F>(&mut self, piece: F) -> Result<Option<Piece>, Status>
    where
        F: Future<Output = Result<Option<Piece>, Broken>> + Send,
    {
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            piece = piece => piece.map_err(|broken| broken.status()),
            status = self.pumped() => Err(status),
            () = late => Err(deadline_exceeded()),
        }
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline has passed")
}

async fn call(channel: Channel, request: Request<Body>) -> Result<Response<Body>, Status> {
    let timeout =
        request.headers().get(timeout::HEADER).and_then(|value| timeout::parse(value.to_str().ok()?));
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let opened = open(&channel, deadline).await?;
    let (stream, incoming) = opened;
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let head = RequestHead::encode(path, &parts.headers)
        .map_err(|error| Status::invalid_argument(format!("the call's metadata: {error}")))?;
    let mut sending = Sending::new(stream, CANCELLED);
    let pump = channel.tasks.spawn(async move { sending.all(head, body).await });
    let mut rest =
        Rest { pump: Some(AbortOnDropHandle::new(pump)), deadline, _connection: channel.connection.clone() };
    let mut reading = Reading::new(incoming, Side::Response);
    let Some(Piece::Head(head)) = rest.hold(reading.piece()).await? else {
        return Err(Status::internal("the answer has no head"));
    };
    let head = ResponseHead::decode(&head).map_err(|error| Broken::from(error).status())?;
    let mut response = Response::new(reading.into_body(rest));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// Opens a stream. Waits where the peer takes no more calls at a time.
async fn open(
    channel: &Channel,
    deadline: Option<Instant>,
) -> Result<(SendStream, quinn::RecvStream), Status> {
    let opening = channel.connection.open_bi();
    let opened = match deadline {
        Some(deadline) => {
            tokio::time::timeout_at(deadline, opening).await.map_err(|_| deadline_exceeded())?
        }
        None => opening.await,
    };
    let (stream, incoming) = opened.map_err(|error| gone(&error))?;
    if channel.priority != 0 {
        // Fails on a stream that is closed; its first write says so.
        stream.set_priority(channel.priority).ok();
    }
    Ok((stream, incoming))
}
