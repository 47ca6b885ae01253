//! HTTP/1.1 connections: each on a task that drains with the others, or is cut with them. A peer gets a time to send
//! the head of its next request, and while all places are taken it loses its own to one that has something to say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millgate_shared::shutdown::Tasks;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::incoming::{Connection, Door};
use super::seats::Seat;

/// How long a client may take, from connecting or from the last answer, until the head of its next request is there.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// What a connection without a request gets to send the last of an answer when the pool stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until `tasks` are told to stop; each connection is one of them.
pub(crate) async fn serve(mut door: Door, router: Router, tasks: Tasks) {
    let stop = tasks.token().clone();
    loop {
        let connection = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            connection = door.accept() => connection,
        };
        tasks.spawn(converse(connection, router.clone(), stop.clone()));
    }
}

async fn converse(connection: Connection, router: Router, stop: CancellationToken) {
    let seat = Arc::clone(connection.seat());
    let peer = connection.peer().clone();
    let (of_service, is_asked) = (Arc::clone(&seat), Arc::new(AtomicBool::new(false)));
    let has_request = Arc::clone(&is_asked);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        // Until its answer is on its way: also if it is dropped before.
        let busy = Busy::new(Arc::clone(&of_service), Arc::clone(&is_asked));
        let mut request = request.map(|body| {
            let seat = Arc::clone(&of_service);
            Body::new(Upload { body, seat, is_awaited: false })
        });
        request.extensions_mut().insert(peer.clone());
        without_last_slash(request.uri_mut());
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response: Response| response.map(|body| Answer { body, _busy: busy })) }
    });
    let mut http = http1::Builder::new();
    // Titles as HTTP/1.1 has always had them: not every client compares names as it should.
    http.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let mut http = std::pin::pin!(http.serve_connection(TokioIo::new(connection), service));
    let ended = tokio::select! {
        biased;
        () = seat.cut().cancelled() => return,
        ended = http.as_mut() => ended,
        () = stop.cancelled() => {
            http.as_mut().graceful_shutdown();
            let patience = async {
                match has_request.load(Ordering::Relaxed) {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(LAST_WORDS).await,
                }
            };
            tokio::select! {
                biased;
                () = seat.cut().cancelled() => return,
                ended = http.as_mut() => ended,
                () = patience => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a REST connection has ended");
    }
}

/// `/v2/health/ready/` is `/v2/health/ready`: clients put addresses together in many ways.
fn without_last_slash(uri: &mut Uri) {
    let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) else { return };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // What is left of a path is one.
    if let Ok(whole) = PathAndQuery::try_from(format!("{path}{query}")) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(whole);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// A request whose answer is not sent.
struct Busy {
    seat: Arc<Seat>,
    is_asked: Arc<AtomicBool>,
}

impl Busy {
    fn new(seat: Arc<Seat>, is_asked: Arc<AtomicBool>) -> Self {
        seat.busy();
        is_asked.store(true, Ordering::Relaxed);
        Self { seat, is_asked }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_asked.store(false, Ordering::Relaxed);
        self.seat.quiet(Instant::now());
    }
}

/// A request's body. While more of it is to come, its connection is as quiet as one without a request.
struct Upload {
    body: hyper::body::Incoming,
    seat: Arc<Seat>,
    is_awaited: bool,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if self.is_awaited != frame.is_pending() {
            self.is_awaited = frame.is_pending();
            match self.is_awaited {
                true => self.seat.quiet(Instant::now()),
                false => self.seat.busy(),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Its answer comes next.
        if self.is_awaited {
            self.seat.busy();
        }
    }
}

/// An answer's body, which keeps its connection's place until it is sent.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_slash_means_nothing() {
        for (given, expected) in [
            ("/v2/health/ready/", "/v2/health/ready"),
            ("/v2/health/ready/?a=b/", "/v2/health/ready?a=b/"),
            ("http://pool:8000/v2/", "http://pool:8000/v2"),
            ("/v2/models/a%2F/ready", "/v2/models/a%2F/ready"),
            ("/", "/"),
            ("//", "/"),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            without_last_slash(&mut uri);
            assert_eq!(uri.to_string(), expected);
        }
    }
}
