//! The `grpc-timeout` header, made a deadline that handlers see and that ends the call with DEADLINE_EXCEEDED.
//!
//! tonic honours the header too, but answers CANCELLED. This layer sits inside tonic's and takes its time first, so
//! that its answer is the one that is sent; it also covers the time that a request's body takes to arrive.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::body::Body;
use tonic::codegen::http;
use tower::{Layer, Service};

use super::status;
use crate::failure::Failure;

const HEADER: &str = "grpc-timeout";

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
        let timeout = request.headers().get(HEADER).and_then(|value| parse(value.to_str().ok()?));
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

/// Up to eight digits and a unit, as gRPC over HTTP/2 has it; anything else is no timeout.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        for (text, timeout) in [
            ("3H", Some(Duration::from_secs(10_800))),
            ("2M", Some(Duration::from_secs(120))),
            ("42S", Some(Duration::from_secs(42))),
            ("13m", Some(Duration::from_millis(13))),
            ("2u", Some(Duration::from_micros(2))),
            ("82n", Some(Duration::from_nanos(82))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000m", None),
            ("82f", None),
            ("-1m", None),
            ("m", None),
            ("", None),
            ("1é", None),
        ] {
            assert_eq!(parse(text), timeout, "{text}");
        }
    }
}
