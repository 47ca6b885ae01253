//! An answer's body, in pieces that its caller holds until they are sent: who does not read its answers holds them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Hold, Seat, Unsent};
use crate::failure::Failure;

/// Bytes that are handed on at once: what lies in a connection's buffers is no more than one of these over what its peer takes.
/// Each is as long as a frame of HTTP/2, so that on a slow line some of them leave all the time.
const PIECE: usize = 16 << 10;

/// What the end of a body is where its bytes find no room.
type Fail<E> = fn(&Failure) -> Result<Frame<Bytes>, E>;

/// A body on its way to the caller. It keeps the call's place among those that are open.
pub(super) struct Answering<B: Body> {
    body: B,
    seat: Seat,
    fail: Fail<B::Error>,
    /// What is not handed on yet of a frame, and what it holds.
    rest: Bytes,
    hold: Option<Arc<Hold>>,
    is_over: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Answering<B> {
    pub(super) fn new(body: B, seat: Seat, fail: Fail<B::Error>) -> Self {
        Self { body, seat, fail, rest: Bytes::new(), hold: None, is_over: false }
    }

    fn piece(&mut self) -> Option<Bytes> {
        let hold = self.hold.clone()?;
        let bytes = self.rest.split_to(self.rest.len().min(PIECE));
        if self.rest.is_empty() {
            self.hold = None;
        }
        let unsent = Unsent::new(&self.seat.account.who);
        Some(Bytes::from_owner(Held { bytes, _hold: hold, _unsent: unsent }))
    }
}

/// Bytes and what they hold, until the last of them is dropped.
struct Held {
    bytes: Bytes,
    _hold: Arc<Hold>,
    _unsent: Unsent,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some(piece) = this.piece() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if this.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            this.is_over = true;
            return Poll::Ready(frame);
        };
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(data) => data,
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        let account = &this.seat.account;
        account.messages().answered();
        match account.take(data.len() as u64) {
            Ok(hold) => {
                (this.rest, this.hold) = (data, Some(Arc::new(hold)));
                Poll::Ready(this.piece().map(|piece| Ok(Frame::data(piece))))
            }
            Err(failure) => {
                this.is_over = true;
                Poll::Ready(Some((this.fail)(&failure)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && (self.is_over || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
