//! A connection that carries gRPC, over TCP or QUIC: what generated clients sit on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use millgate_shared::proto::MAX_MESSAGE_BYTES;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::transport::quic;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

use super::pools::Transport;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Behind the streams of live calls, where streams have priorities.
const BULK_PRIORITY: i32 = -1;

/// A connection to a pool. Cheap to clone; the connection ends with the last clone.
#[derive(Debug, Clone)]
pub enum Carrier {
    Tcp(Channel),
    Quic(quic::Channel),
}

impl Carrier {
    pub fn transport(&self) -> Transport {
        match self {
            Self::Tcp(_) => Transport::Tcp,
            Self::Quic(_) => Transport::Quic,
        }
    }

    /// A handle to this connection whose calls give way to others; `None` over TCP, where calls cannot.
    pub(super) fn for_bulk(&self) -> Option<Self> {
        match self {
            Self::Tcp(_) => None,
            Self::Quic(channel) => Some(Self::Quic(channel.with_priority(BULK_PRIORITY))),
        }
    }

    pub(super) fn experts(&self) -> ExpertServiceClient<Self> {
        ExpertServiceClient::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

impl Service<Request<Body>> for Carrier {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self {
            Self::Tcp(channel) => channel.poll_ready(cx).map_err(Into::into),
            Self::Quic(channel) => channel.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Tcp(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
            Self::Quic(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
        }
    }
}
