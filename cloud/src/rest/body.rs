//! Bodies: requests read whole within a bound, answers sent as the parts that they are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};

use crate::failure::Failure;

/// What a client's word for its length is worth before anything has come.
const FIRST: usize = 1 << 20;
/// The most bytes beyond the limit that are read and forgotten: a client that is still sending would otherwise lose the
/// connection before it reads why its body is refused.
const FORGOTTEN: usize = 64 << 20;

/// All of `body`, if it has at most `most` bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Failure> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut chunks = body.into_data_stream();
    let broken = |error: axum::Error| Failure::field("body", format!("ends early: {error}"));
    let mut whole = BytesMut::new();
    let mut is_too_long = declared.is_some_and(|declared: usize| declared > most);
    // A client that asks first has not begun to send.
    if is_too_long && headers.contains_key(header::EXPECT) {
        return Err(too_long(most));
    }
    let mut forgotten = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(broken)?;
        is_too_long |= whole.len() + chunk.len() > most;
        if is_too_long {
            whole = BytesMut::new();
            forgotten += chunk.len();
            if forgotten > FORGOTTEN {
                break;
            }
        } else if whole.is_empty() {
            if declared == Some(chunk.len()) {
                return Ok(chunk);
            }
            whole.reserve(declared.unwrap_or(0).min(FIRST));
            whole.extend_from_slice(&chunk);
        } else {
            whole.extend_from_slice(&chunk);
        }
    }
    if is_too_long { Err(too_long(most)) } else { Ok(whole.freeze()) }
}

fn too_long(most: usize) -> Failure {
    Failure::TooLarge { what: "the body", most }
}

/// A body of several parts, whose length is known.
#[derive(Debug, Default)]
pub(super) struct Parts(VecDeque<Bytes>);

impl FromIterator<Bytes> for Parts {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        Self(parts.into_iter().filter(|part| !part.is_empty()).collect())
    }
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}
