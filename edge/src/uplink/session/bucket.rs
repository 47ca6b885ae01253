//! Tokens that calls earn and extra sending spends, so that it stays a share of the calls.

#[derive(Debug)]
pub(super) struct Bucket {
    share: f64,
    burst: f64,
    tokens: f64,
}

impl Bucket {
    /// Full at first, so that the first trouble after a start is met.
    pub(super) fn new(share: f64, burst: f64) -> Self {
        Self { share, burst, tokens: burst }
    }

    /// A call was admitted.
    pub(super) fn earn(&mut self) {
        self.tokens = (self.tokens + self.share).min(self.burst);
    }

    pub(super) fn spend(&mut self) -> bool {
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}
