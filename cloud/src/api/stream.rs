//! Many calls on one stream: a bounded number in flight, answers in the order in which they are ready.

use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, Stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status;

/// Answers `requests` with at most `limit` in flight: no more is read until one is answered, so a client that sends
/// faster is held back by HTTP/2. A stream that the client drops drops the answers, and with them their work. When
/// `stop` is cancelled nothing more is read; what is in flight is answered, then the stream ends with UNAVAILABLE.
pub(super) fn answers<Request, Answer, Call>(
    requests: impl Stream<Item = Result<Request, Status>> + Send + 'static,
    limit: usize,
    stop: CancellationToken,
    mut call: impl FnMut(Request) -> Call + Send + 'static,
) -> BoxStream<'static, Result<Answer, Status>>
where
    Request: Send + 'static,
    Answer: Send + 'static,
    Call: Future<Output = Answer> + Send + 'static,
{
    let stopped = stop.clone().cancelled_owned();
    let calls = requests.take_until(stopped).map(move |request| {
        let answer = request.map(&mut call);
        async move {
            match answer {
                Ok(answer) => Ok(answer.await),
                Err(status) => Err(status),
            }
        }
    });
    let last = stream::once(async move { stop.is_cancelled() });
    let last = last.filter(|stopped| ready(*stopped)).map(|_| Err(status::stopping()));
    calls.buffer_unordered(limit.max(1)).chain(last).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Work that takes this many turns of a runtime with one thread.
    async fn turns(count: u64) {
        for _ in 0..count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn answers_come_as_they_are_ready_with_a_bound_on_those_in_flight() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let requests = stream::iter([25u64, 10, 40, 3]).map(Ok);
        let answered = answers(requests, 2, CancellationToken::new(), move |delay| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                turns(delay).await;
                now.fetch_sub(1, Ordering::SeqCst);
                delay
            }
        });
        let order: Vec<u64> = answered.map(Result::unwrap).collect().await;
        assert_eq!(order, [10, 25, 3, 40]);
        assert_eq!(seen.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_stop_answers_what_is_in_flight_and_says_why_it_ends() {
        let stop = CancellationToken::new();
        let requests = stream::iter([1u64]).chain(stream::pending()).map(Ok);
        let mut answered = answers(requests, 4, stop.clone(), |number| async move {
            turns(10).await;
            number
        });
        let token = stop.clone();
        let (first, ()) = tokio::join!(answered.next(), async move { token.cancel() });
        assert_eq!(first.unwrap().unwrap(), 1);
        assert_eq!(answered.next().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
        assert!(answered.next().await.is_none());
    }
}
