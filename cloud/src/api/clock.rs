//! One call's time: when it came, and from when on its answer is worthless.

use std::time::{Duration, Instant};

use crate::failure::Failure;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
}

impl Clock {
    /// The earlier of the gRPC deadline and `timeout` after arrival; `default` after it if neither is given.
    pub(super) fn new(
        arrived: Instant,
        grpc: Option<Instant>,
        timeout: Option<Duration>,
        default: Duration,
    ) -> Self {
        let own = timeout.and_then(|timeout| arrived.checked_add(timeout));
        let deadline = match (grpc, own) {
            (Some(grpc), Some(own)) => grpc.min(own),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => arrived + default,
        };
        Self { arrived, deadline }
    }

    /// Drops `work` at the deadline.
    pub(super) async fn limit<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::time::timeout_at(self.deadline.into(), work).await.unwrap_or(Err(Failure::Deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_counts_and_the_default_only_without_one() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let deadline = |grpc, timeout| Clock::new(now, grpc, timeout, 10 * second).deadline;
        assert_eq!(deadline(None, None), now + 10 * second);
        assert_eq!(deadline(None, Some(20 * second)), now + 20 * second);
        assert_eq!(deadline(Some(now + 3 * second), Some(2 * second)), now + 2 * second);
        assert_eq!(deadline(Some(now + 3 * second), Some(4 * second)), now + 3 * second);
        assert_eq!(deadline(None, Some(Duration::MAX)), now + 10 * second);
    }
}
