//! Reading and writing large tensors takes milliseconds, which no async thread has to spare.

use crate::failure::Failure;

/// Up to so many bytes a tensor is read or written on the thread where it comes.
pub(crate) const LARGE: usize = 256 << 10;

/// Runs `work` here, or on a thread of its own where `bytes` are many.
pub(crate) async fn run<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= LARGE {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::Model(format!("converting a tensor failed: {error}")))
}
