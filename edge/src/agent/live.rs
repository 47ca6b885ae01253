//! How many live calls there are, so that the back-log can give way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts live calls: those that are out, and all there ever were.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<(AtomicUsize, AtomicU64)>);

/// One of them; it ends with this.
#[derive(Debug)]
pub(super) struct LiveCall(Live);

impl Live {
    pub(super) fn call(&self) -> LiveCall {
        let (out, ever) = &*self.0;
        out.fetch_add(1, Ordering::Relaxed);
        ever.fetch_add(1, Ordering::Relaxed);
        LiveCall(self.clone())
    }

    pub(super) fn counts(&self) -> (usize, u64) {
        let (out, ever) = &*self.0;
        (out.load(Ordering::Relaxed), ever.load(Ordering::Relaxed))
    }
}

impl Drop for LiveCall {
    fn drop(&mut self) {
        let (out, _) = &*self.0.0;
        out.fetch_sub(1, Ordering::Relaxed);
    }
}
