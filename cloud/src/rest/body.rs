//! Bodies: requests read whole within a bound, answers sent as the parts that they are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};

use crate::failure::Failure;
use crate::holding::pace::Pace;
use crate::holding::{Account, Hold};

/// What a client's word for its length is worth before anything has come.
const FIRST: usize = 1 << 20;
/// The most bytes beyond the limit that are read and forgotten: a client that is still sending would otherwise lose the
/// connection before it reads why its body is refused.
const FORGOTTEN: usize = 64 << 20;

/// All of `body`, if it has at most `most` bytes, and what it holds: room is taken before it is read, as far as the client says how
/// long it is. It must come at a pace.
pub(super) async fn read(
    account: &Account,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<(Bytes, Hold), Failure> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut chunks = body.into_data_stream();
    let broken = |error: axum::Error| Failure::field("body", format!("ends early: {error}"));
    let (mut whole, hold) = (BytesMut::new(), account.take(0)?);
    let make_room = |length: usize| match length > most {
        true => Err(Failure::TooLarge { what: "the body", most }),
        false => hold.grow_to_message(length as u64),
    };
    let mut refused = make_room(declared.unwrap_or(0)).err();
    // A client that asks first has not begun to send.
    if let Some(failure) = refused.take_if(|_| headers.contains_key(header::EXPECT)) {
        return Err(failure);
    }
    let (mut forgotten, mut pace) = (0, Pace::default());
    loop {
        let due = pace.waits(Instant::now());
        let next = tokio::time::timeout_at(due.into(), chunks.next()).await;
        let Some(chunk) = next.map_err(|_| refused.take().unwrap_or_else(|| account.late()))? else { break };
        let chunk = chunk.map_err(broken)?;
        pace.came(chunk.len(), Instant::now());
        if refused.is_none() {
            refused = make_room(whole.len() + chunk.len()).err();
        }
        if refused.is_some() {
            whole = BytesMut::new();
            forgotten += chunk.len();
            if forgotten > FORGOTTEN {
                break;
            }
        } else if whole.is_empty() {
            if declared == Some(chunk.len()) {
                return Ok((chunk, hold));
            }
            whole.reserve(declared.unwrap_or(0).min(FIRST));
            whole.extend_from_slice(&chunk);
        } else {
            whole.extend_from_slice(&chunk);
        }
    }
    match refused {
        Some(failure) => Err(failure),
        None => Ok((whole.freeze(), hold)),
    }
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
