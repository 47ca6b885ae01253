//! The `grpc-timeout` header, made a deadline that handlers see and that ends the call with DEADLINE_EXCEEDED.
//!
//! tonic honours the header too, but answers CANCELLED. This layer sits inside tonic's and takes its time first, so
//! that its answer is the one that is sent; it also covers the time that a request's body takes to arrive.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use millgate_shared::transport::timeout;
use tonic::body::Body;
use tonic::codegen::http;
use tower::{Layer, Service};

use super::status;
use crate::failure::Failure;

#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

/// The gRPC deadline of a call, if it has one.
pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(|deadline| deadline.0)
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadlines<S>;

    fn layer(&self, inner: S) -> Deadlines<S> {
        Deadlines { inner }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Deadlines<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Deadlines<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let timeout =
            request.headers().get(timeout::HEADER).and_then(|value| timeout::parse(value.to_str().ok()?));
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let Some(deadline) = deadline else {
            return Box::pin(self.inner.call(request));
        };
        request.extensions_mut().insert(Deadline(deadline));
        let answer = tokio::time::timeout_at(deadline.into(), self.inner.call(request));
        Box::pin(
            async move { answer.await.unwrap_or_else(|_| Ok(status::of(&Failure::Deadline).into_http())) },
        )
    }
}
