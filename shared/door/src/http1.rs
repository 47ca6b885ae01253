//! HTTP/1.1 connections: each on a task that drains with the others, or is cut with them. A peer gets a time to send
//! the head of its next request, and while all places are taken it may lose its own to one that has something to say. A
//! request that a browser makes for a page of somebody else's is answered here: [`super::origin`].

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::future::Either;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millgate_rim::quiet::Quiet;
use millgate_rim::shutdown::Tasks;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::incoming::{Connection, Door};
use super::origin::{Foreign, Hosts, Way};
use super::peer::{Line, Peer};
use super::seats::Seat;

/// How long a client may take, from connecting or from the last answer, until the head of its next request is there.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
const NO_PLACE: &str = "there are as many connections as there may be; only health is answered";
/// Refusals for one reason are logged at most once in this time, with the number of those in between.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// Seconds after which one that found no place may try again.
const RETRY_AFTER: &str = "1";
/// What a connection without a request gets to send the last of an answer when the pool stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is said before a router is asked.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Names under which the door may be called.
    pub hosts: Hosts,
    /// Paths that anyone may ask for, by any name, and also where there is no place for who asks.
    pub is_health: fn(&str) -> bool,
    /// Makes an answer of a status and of words.
    pub refuse: fn(StatusCode, &str) -> Response,
}

/// What all connections of a door share.
#[derive(Debug)]
struct House {
    router: Router,
    guard: Guard,
    logged: Mutex<Quiet>,
    stop: CancellationToken,
}

/// Serves until `tasks` are told to stop; each connection is one of them.
pub async fn serve(mut door: Door, router: Router, guard: Guard, tasks: Tasks) {
    let stop = tasks.token().clone();
    let house = House { router, guard, logged: Mutex::new(Quiet::new(LOG_PAUSE)), stop: stop.clone() };
    let house = Arc::new(house);
    loop {
        let connection = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            connection = door.accept() => connection,
        };
        tasks.spawn(converse(connection, Arc::clone(&house)));
    }
}

impl House {
    /// Refuses what is not to be asked of the router; `None`: it is.
    fn refuse(&self, request: &Request, peer: &Peer, seat: &Seat) -> Option<Response> {
        if (self.guard.is_health)(request.uri().path()) {
            return None;
        }
        if seat.is_spare() {
            let mut refused = (self.guard.refuse)(StatusCode::SERVICE_UNAVAILABLE, NO_PLACE);
            let headers = refused.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            return Some(refused);
        }
        let way =
            Way { is_plain: peer.line == Line::Plain, is_here: peer.addr.ip().to_canonical().is_loopback() };
        let admitted = self.guard.hosts.admit(request.method(), request.uri(), request.headers(), way);
        admitted.err().map(|foreign| self.turn_away(&foreign, peer, seat))
    }

    fn turn_away(&self, foreign: &Foreign, peer: &Peer, seat: &Seat) -> Response {
        let (door, reason) = (seat.seats().door(), foreign.reason());
        seat.seats().counts().foreign(door, reason);
        let noted = self.logged.lock().unwrap_or_else(PoisonError::into_inner).note(reason, Instant::now());
        if let Some(others) = noted {
            tracing::warn!(door, addr = %peer.addr, reason, others, "a request was refused: {foreign}");
        }
        (self.guard.refuse)(foreign.status(), &foreign.to_string())
    }
}

async fn converse(connection: Connection, house: Arc<House>) {
    let stop = house.stop.clone();
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
        without_last_slash(request.uri_mut());
        let answer = match house.refuse(&request, &peer, &of_service) {
            Some(refused) => Either::Left(std::future::ready(Ok(refused))),
            None => {
                request.extensions_mut().insert(peer.clone());
                Either::Right(house.router.clone().oneshot(request))
            }
        };
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
        self.seat.quiet();
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
                true => self.seat.quiet(),
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
