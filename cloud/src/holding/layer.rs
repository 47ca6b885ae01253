//! The layer before all services, for gRPC and REST alike, inside of that of access: it gives each call its account, and turns
//! away one whose caller has too many open.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tower::{Layer, Service};

use super::answering::Answering;
use super::arriving::{Arriving, Traits};
use super::{Account, Holding};
use crate::access::Caller;
use crate::failure::Failure;
use crate::principal::Principal;

/// What a protocol makes of its bodies. `B` stands for those of requests and answers.
pub(crate) struct Protocol<B: Body> {
    /// Tells paths that anyone may call: whether the server lives is asked on the account of an address, and not of those
    /// whose calls are many.
    pub(crate) is_open: fn(&str) -> bool,
    /// Answers a call that is turned away.
    pub(crate) refuse: fn(&Failure) -> Response<B>,
    /// Ends a request's body of gRPC messages whose next one cannot be taken, with the longest that may be; `None`: its reader
    /// sees to that.
    pub(crate) arriving: Option<(usize, Fail<B::Error>)>,
    /// Ends an answer's body that finds no room.
    pub(crate) fail: fn(&Failure) -> Result<Frame<Bytes>, B::Error>,
}

/// Makes a body's error of a failure.
type Fail<E> = fn(&Failure) -> E;

impl<B: Body> fmt::Debug for Protocol<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocol").finish_non_exhaustive()
    }
}

impl<B: Body> Clone for Protocol<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Body> Copy for Protocol<B> {}

/// For bodies that can be made of any other.
pub(crate) trait Boxed: Body<Data = Bytes> + Send + Unpin + Sized + 'static {
    fn boxed(body: impl Body<Data = Bytes, Error = Self::Error> + Send + 'static) -> Self;
}

impl Boxed for tonic::body::Body {
    fn boxed(body: impl Body<Data = Bytes, Error = Self::Error> + Send + 'static) -> Self {
        Self::new(body)
    }
}

impl Boxed for axum::body::Body {
    fn boxed(body: impl Body<Data = Bytes, Error = Self::Error> + Send + 'static) -> Self {
        Self::new(body)
    }
}

/// See [`crate::holding`].
#[derive(Debug)]
pub(crate) struct HoldingLayer<B: Body> {
    holding: Arc<Holding>,
    protocol: Protocol<B>,
}

impl<B: Body> HoldingLayer<B> {
    pub(crate) fn new(holding: Arc<Holding>, protocol: Protocol<B>) -> Self {
        Self { holding, protocol }
    }
}

impl<B: Body> Clone for HoldingLayer<B> {
    fn clone(&self) -> Self {
        Self { holding: Arc::clone(&self.holding), protocol: self.protocol }
    }
}

impl<S, B: Body> Layer<S> for HoldingLayer<B> {
    type Service = Accounted<S, B>;

    fn layer(&self, inner: S) -> Accounted<S, B> {
        Accounted { inner, layer: self.clone() }
    }
}

#[derive(Debug)]
pub(crate) struct Accounted<S, B: Body> {
    inner: S,
    layer: HoldingLayer<B>,
}

impl<S: Clone, B: Body> Clone for Accounted<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, B> Service<Request<B>> for Accounted<S, B>
where
    S: Service<Request<B>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Boxed,
    B::Error: Send,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Protocol { is_open, refuse, arriving, fail } = self.layer.protocol;
        // What did not come through the layer of access gets nothing further in.
        let who = (request.extensions().get::<Caller>(), request.extensions().get::<Principal>());
        let (Some(caller), Some(principal)) = who else { return Box::pin(self.inner.call(request)) };
        let stranger = match caller.peer() {
            Some(peer) if is_open(request.uri().path()) => Some(Principal::at(peer.addr.ip())),
            _ => None,
        };
        let account = Account::new(&self.layer.holding, caller, stranger.as_ref().unwrap_or(principal));
        let seat = match account.enter() {
            Ok(seat) => seat,
            Err(failure) => return Box::pin(std::future::ready(Ok(refuse(&failure)))),
        };
        request.extensions_mut().insert(account.clone());
        if let Some((longest, refuse)) = arriving
            && !request.body().is_end_stream()
        {
            let traits = Traits::of(request.uri().path(), request.headers());
            request = request.map(|body| B::boxed(Arriving::new(body, account, traits, longest, refuse)));
        }
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| B::boxed(Answering::new(body, seat, fail)))) })
    }
}
