//! What a call to the pool costs in time, from the calls of the last while.

use std::time::Duration;

/// As it is right now; `None` while nothing has been measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// On the line alone, there and back.
    pub network: Option<Quantiles>,
    /// In the pool: queue and computing.
    pub pool: Option<Quantiles>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    pub p50: Duration,
    pub p95: Duration,
}
