//! One stream's incoming half: its head, then an HTTP body that reads as fast as it is asked to.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{BoxStream, unfold};
use http_body::{Body, Frame};
use quinn::{ReadError, RecvStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;

use super::blocks::{BlockError, Blocks, Piece, Side};
use super::head::{HeadError, decode_trailers};
use super::{MALFORMED, given_up, gone};

/// Largest number of a stream's bytes that are taken at once.
const MOST_AT_ONCE: usize = 64 << 10;

/// Reason why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl Broken {
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Read(ReadError::Reset(code)) => given_up(*code),
            Self::Read(ReadError::ConnectionLost(error)) => gone(error),
            Self::Read(error) => Status::internal(format!("the stream cannot be read: {error}")),
            Self::Block(error) => Status::internal(format!("what the peer sends cannot be read: {error}")),
            Self::Head(error) => Status::internal(format!("what the peer sends cannot be read: {error}")),
        }
    }
}

/// Stream, and what has been read of it.
#[derive(Debug)]
pub(super) struct Reading {
    stream: RecvStream,
    blocks: Blocks,
    rest: Bytes,
}

impl Reading {
    pub(super) fn new(stream: RecvStream, side: Side) -> Self {
        Self { stream, blocks: Blocks::new(side), rest: Bytes::new() }
    }

    /// Reads the next piece; `None` after the last. Cancel-safe.
    pub(super) async fn piece(&mut self) -> Result<Option<Piece>, Broken> {
        loop {
            match self.blocks.next(&mut self.rest) {
                Ok(None) => {}
                Ok(Some(piece)) => return Ok(Some(piece)),
                Err(error) => return Err(self.give_up(error)),
            }
            match self.stream.read_chunk(MOST_AT_ONCE, true).await? {
                Some(chunk) => self.rest = chunk.bytes,
                None => return self.blocks.finish().map(|()| None).map_err(Broken::Block),
            }
        }
    }

    /// Reads the first piece, which must be a head.
    pub(super) async fn head(&mut self) -> Result<Bytes, Broken> {
        match self.piece().await? {
            Some(Piece::Head(head)) => Ok(head),
            _ => Err(Broken::Block(BlockError::Headless)),
        }
    }

    fn give_up(&mut self, error: BlockError) -> Broken {
        // Closed already: nothing is left to tell.
        self.stream.stop(MALFORMED).ok();
        Broken::Block(error)
    }

    /// Takes note of the stream's end if it is here, so that nobody is asked to stop what is over.
    fn settle(&mut self) {
        if let Some(Ok(Some(_))) = self.stream.read_chunk(1, true).now_or_never() {
            self.give_up(BlockError::Surplus);
        }
    }

    /// Gives what follows the head as a body; `guard` lives as long as that is read.
    pub(super) fn into_body<G: Guard>(self, guard: G) -> tonic::body::Body {
        let frames = unfold(Some((self, guard)), |state| async move {
            let (mut reading, mut guard) = state?;
            match guard.hold(reading.piece()).await {
                Ok(Some(Piece::Body(bytes))) => Some((Ok(Frame::data(bytes)), Some((reading, guard)))),
                Ok(Some(Piece::Trailers(bytes))) => {
                    reading.settle();
                    let trailers = decode_trailers(&bytes).map_err(|error| Broken::from(error).status());
                    Some((trailers.map(Frame::trailers), None))
                }
                Ok(Some(Piece::Head(_)) | None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        tonic::body::Body::new(Frames(Box::pin(frames)))
    }
}

/// Duty of a body's reader besides reading.
pub(super) trait Guard: Send + 'static {
    /// Waits for a piece, and for whatever else ends the call.
    fn hold<F>(&mut self, piece: F) -> impl Future<Output = Result<Option<Piece>, Status>> + Send
    where
        F: Future<Output = Result<Option<Piece>, Broken>> + Send;
}

/// Guard that has nothing to look after.
pub(super) struct Alone;

impl Guard for Alone {
    async fn hold<F>(&mut self, piece: F) -> Result<Option<Piece>, Status>
    where
        F: Future<Output = Result<Option<Piece>, Broken>> + Send,
    {
        piece.await.map_err(|broken| broken.status())
    }
}

struct Frames(BoxStream<'static, Result<Frame<Bytes>, Status>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.as_mut().poll_next(cx)
    }
}
