//! Work that is no model's but computes: decoding pictures, making tensors of them. It waits in the same queue as rows do,
//! and so by the same deadlines and bounds.

use tokio::sync::oneshot;

use crate::failure::Failure;

/// Something to do once, for somebody who waits.
pub(crate) trait Job: Send + std::fmt::Debug {
    /// Nobody waits for it any more.
    fn is_gone(&self) -> bool;

    fn run(self: Box<Self>);

    fn refuse(self: Box<Self>, failure: Failure);
}

struct Once<T, F> {
    work: F,
    reply: oneshot::Sender<Result<T, Failure>>,
}

/// `work` as a job, and where its result comes. If the receiver says that the sender is gone, `work` panicked or was
/// never begun.
pub(super) fn job<T, F>(work: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T, Failure>>)
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let (reply, result) = oneshot::channel();
    (Box::new(Once { work, reply }), result)
}

impl<T: Send, F: FnOnce() -> Result<T, Failure> + Send> Job for Once<T, F> {
    fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>) {
        // The caller may have gone meanwhile.
        let _gone = self.reply.send((self.work)()).is_err();
    }

    fn refuse(self: Box<Self>, failure: Failure) {
        let _gone = self.reply.send(Err(failure)).is_err();
    }
}

impl<T, F> std::fmt::Debug for Once<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}
