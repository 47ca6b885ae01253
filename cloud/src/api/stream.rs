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

/// Passes answers on until `end` gives a status; that is the last one then, and what is in flight is dropped.
pub(super) fn until<Answer: Send + 'static>(
    answers: BoxStream<'static, Result<Answer, Status>>,
    end: impl Future<Output = Status> + Send + 'static,
) -> BoxStream<'static, Result<Answer, Status>> {
    let state = (answers, Some(Box::pin(end)));
    let next = |(mut answers, end): (BoxStream<'static, _>, Option<_>)| async move {
        let mut end = end?;
        tokio::select! {
            biased;
            status = &mut end => Some((Err(status), (answers, None))),
            answer = answers.next() => Some((answer?, (answers, Some(end)))),
        }
    };
    stream::unfold(state, next).boxed()
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
    async fn an_end_is_told_to_a_client_that_is_silent() {
        let (end, ended) = tokio::sync::oneshot::channel::<Status>();
        let quiet = stream::iter([Ok(1)]).chain(stream::pending()).boxed();
        let mut answers = until(quiet, async move { ended.await.unwrap() });
        assert_eq!(answers.next().await.unwrap().unwrap(), 1);
        end.send(Status::permission_denied("revoked")).unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap_err().code(), tonic::Code::PermissionDenied);
        assert!(answers.next().await.is_none());
        // One that ends by itself does not wait for it.
        let whole = stream::iter([Ok(2)]).boxed();
        assert_eq!(until(whole, std::future::pending()).count().await, 1);
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
