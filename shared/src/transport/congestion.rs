//! "link": how much may be under way on a line that loses packets without being full.

use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

/// Makes controllers for quinn.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkConfig;

impl ControllerFactory for LinkConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Arc::new(quinn::congestion::BbrConfig::default()).build(now, mtu)
    }
}
