//! Spans on their way to the collector: a bounded queue, and a task that empties it in batches.
//!
//! The SDK's own batch processor does not tell how many spans it dropped, and flushes on a thread that blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::counts::SpanCounts;

/// Spans that may wait, and spans of one export: the SDK's own defaults.
const WAITING: usize = 2048;
const TOGETHER: usize = 512;
/// What ended is exported after this time at most.
const PAUSE: Duration = Duration::from_secs(1);

fn add(to: &AtomicU64, count: usize) {
    to.fetch_add(count as u64, Ordering::Relaxed);
}

/// The end where spans go in.
#[derive(Debug)]
pub(super) struct Queue {
    spans: Sender<SpanData>,
    /// A whole batch waits.
    enough: Arc<Notify>,
    counts: Arc<SpanCounts>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.spans.try_send(span).is_err() {
            add(&self.counts.dropped, 1);
        }
        if self.spans.max_capacity() - self.spans.capacity() >= TOGETHER {
            self.enough.notify_one();
        }
    }

    /// The task does it when it is told to stop.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Exports on a task of `tasks` until that is told to stop, and then once more. The collector's address is for the log.
pub(super) fn start<E>(exporter: E, endpoint: &str, counts: Arc<SpanCounts>, tasks: &Tasks) -> Queue
where
    E: SpanExporter + 'static,
{
    let (spans, waiting) = channel(WAITING);
    let enough = Arc::new(Notify::new());
    let queue = Queue { spans, enough: Arc::clone(&enough), counts: Arc::clone(&counts) };
    let endpoint = endpoint.to_owned();
    let task = Export { exporter, endpoint, waiting, enough, counts, is_heard: true };
    tasks.spawn(task.run(tasks.token().clone()));
    queue
}

struct Export<E> {
    exporter: E,
    endpoint: String,
    waiting: Receiver<SpanData>,
    enough: Arc<Notify>,
    counts: Arc<SpanCounts>,
    /// The last export went well: a change is logged, not every failure.
    is_heard: bool,
}

impl<E: SpanExporter> Export<E> {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let is_last = tokio::select! {
                () = stop.cancelled() => true,
                () = self.enough.notified() => false,
                () = tokio::time::sleep(PAUSE) => false,
            };
            while !self.waiting.is_empty() {
                self.export().await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn export(&mut self) {
        let mut batch = Vec::new();
        while batch.len() < TOGETHER
            && let Ok(span) = self.waiting.try_recv()
        {
            batch.push(span);
        }
        let count = batch.len();
        match self.exporter.export(batch).await {
            Ok(()) => {
                add(&self.counts.exported, count);
                if !std::mem::replace(&mut self.is_heard, true) {
                    tracing::info!(endpoint = self.endpoint, "the collector takes spans again");
                }
            }
            Err(error) => {
                add(&self.counts.failed, count);
                if std::mem::replace(&mut self.is_heard, false) {
                    tracing::warn!(endpoint = self.endpoint, %error, "the collector does not take spans");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
    use tokio::sync::Semaphore;

    use super::*;

    /// Takes a batch for each permit; refuses every one if told so.
    #[derive(Debug)]
    struct Slow {
        permits: Arc<Semaphore>,
        refuses: bool,
    }

    impl SpanExporter for Slow {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            self.permits.acquire().await.unwrap().forget();
            match self.refuses {
                true => Err(OTelSdkError::InternalFailure("refused".to_owned())),
                false => Ok(()),
            }
        }
    }

    fn tracer(refuses: bool, permits: &Arc<Semaphore>) -> (SdkTracer, Arc<SpanCounts>, Tasks) {
        let (tasks, counts) = (Tasks::new(), Arc::<SpanCounts>::default());
        let queue =
            start(Slow { permits: Arc::clone(permits), refuses }, "nowhere", Arc::clone(&counts), &tasks);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        (provider.tracer("test"), counts, tasks)
    }

    fn counted(counts: &SpanCounts) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&counts.exported), of(&counts.failed), of(&counts.dropped))
    }

    #[tokio::test]
    async fn a_collector_that_does_not_answer_holds_up_nobody_and_the_rest_is_counted() {
        let permits = Arc::new(Semaphore::new(0));
        let (tracer, counts, tasks) = tracer(false, &permits);
        for _ in 0..WAITING + 3 {
            tracer.start("span").end();
        }
        assert_eq!(counted(&counts), (0, 0, 3));
        assert_eq!(tasks.drain(Duration::from_millis(1)).await, 1, "the bound ends the wait");
        permits.add_permits(WAITING);
        assert_eq!(tasks.drain(Duration::from_secs(60)).await, 0);
        assert_eq!(counted(&counts), (WAITING as u64, 0, 3));
    }

    #[tokio::test]
    async fn what_is_refused_is_counted_and_not_tried_again() {
        let permits = Arc::new(Semaphore::new(1));
        let (tracer, counts, tasks) = tracer(true, &permits);
        tracer.start("span").end();
        assert_eq!(tasks.drain(Duration::from_secs(60)).await, 0);
        assert_eq!(counted(&counts), (0, 1, 0));
    }
}
