//! An answer's body that tells its call when it ends, and in whose context whatever is left of the call runs.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use super::call::Call;

/// Without a call it only passes on.
#[derive(Debug)]
pub(crate) struct TracedBody<B> {
    body: B,
    call: Option<Call>,
}

impl<B> TracedBody<B> {
    pub(super) fn new(body: B, call: Option<Call>) -> Self {
        Self { body, call }
    }
}

impl<B: Body + Unpin> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let Some(call) = &mut this.call else { return Pin::new(&mut this.body).poll_frame(cx) };
        let frame = {
            // A stream's requests are answered in here.
            let _guard = call.context().clone().attach();
            std::task::ready!(Pin::new(&mut this.body).poll_frame(cx))
        };
        match &frame {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => call.trailers(trailers),
                None => call.data(),
            },
            Some(Err(_)) => call.broken(),
            None => this.call = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
