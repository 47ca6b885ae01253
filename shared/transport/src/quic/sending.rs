//! One stream's outgoing half: a head, then whatever a body yields, as far as the peer and the line take it.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body, Frame};
use quinn::{SendStream, VarInt, WriteError};
use tonic::Status;

use super::head::encode_trailers;
use super::{BROKEN, CANCELLED, given_up, gone};

/// Most bytes that are handed over at once if they are ready at once: fewer packets, and a bound.
const MOST_BYTES: usize = 64 << 10;
const MOST_PIECES: usize = 16;

/// Reason why a stream was not sent to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The peer has stopped the stream: it wants no more of it.
    Stopped,
    Write(WriteError),
    /// The body that was to be sent has failed.
    Body(Status),
}

impl Failure {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Stopped => given_up(CANCELLED),
            Self::Write(WriteError::ConnectionLost(error)) => gone(&error),
            Self::Write(error) => Status::internal(format!("the stream cannot be written: {error}")),
            Self::Body(status) => status,
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) => Self::Stopped,
            error => Self::Write(error),
        }
    }
}

/// Stream that is reset when it is dropped before its end; QUIC by itself would call it finished.
#[derive(Debug)]
pub(super) struct Sending {
    stream: SendStream,
    /// Error code of a reset.
    code: VarInt,
    is_open: bool,
}

impl Sending {
    /// Wraps a stream; `code` is the error code with which it would be reset.
    pub(super) fn new(stream: SendStream, code: VarInt) -> Self {
        Self { stream, code, is_open: true }
    }

    pub(super) fn finish(&mut self) {
        self.is_open = false;
        // An error says that the peer has stopped it before.
        self.stream.finish().ok();
    }

    async fn write(&mut self, pieces: &mut Vec<Bytes>) -> Result<(), Failure> {
        let written = self.stream.write_all_chunks(pieces).await;
        pieces.clear();
        Ok(written?)
    }

    /// Sends `head` and everything of `body`. Trailers are encoded where the protocol has any, on answers.
    pub(super) async fn all<B>(&mut self, head: Bytes, body: B) -> Result<(), Failure>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let mut body = std::pin::pin!(body);
        let (mut pieces, mut bytes) = (vec![head], 0);
        loop {
            let frame = match frame(body.as_mut()).now_or_never() {
                Some(frame) => frame,
                None => {
                    if !pieces.is_empty() {
                        self.write(&mut pieces).await?;
                        bytes = 0;
                    }
                    frame(body.as_mut()).await
                }
            };
            let Some(frame) = frame else { break };
            match frame.map_err(Failure::Body)?.into_data() {
                Ok(data) => {
                    bytes += data.len();
                    if !data.is_empty() {
                        pieces.push(data);
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        pieces.push(trailers_or_less(&trailers));
                    }
                }
            }
            if bytes >= MOST_BYTES || pieces.len() >= MOST_PIECES {
                self.write(&mut pieces).await?;
                bytes = 0;
            }
        }
        if !pieces.is_empty() {
            self.write(&mut pieces).await?;
        }
        self.finish();
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_open {
            // Closed already: nothing is left to tell.
            self.stream.reset(self.code).ok();
        }
    }
}

async fn frame<B>(mut body: Pin<&mut B>) -> Option<Result<Frame<Bytes>, Status>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<tonic::codegen::StdError>,
{
    let failed = |error: B::Error| Status::from_error(error.into());
    poll_fn(|cx| body.as_mut().poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(failed)))).await
}

/// Encodes trailers. Those that are too large are cut down to the status code, which is what a caller acts on.
fn trailers_or_less(trailers: &HeaderMap) -> Bytes {
    encode_trailers(trailers).unwrap_or_else(|error| {
        tracing::warn!(%error, "trailers were cut");
        let mut less = HeaderMap::new();
        if let Some(code) = trailers.get(Status::GRPC_STATUS) {
            less.insert(Status::GRPC_STATUS, code.clone());
        }
        encode_trailers(&less).unwrap_or_default()
    })
}

/// Error code that resets an answer which its service has left unfinished.
pub(super) const UNFINISHED: VarInt = BROKEN;
