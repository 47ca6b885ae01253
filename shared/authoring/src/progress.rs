//! How far the work is: told by the rooms that do it, shown by whoever asked for it.

/// Told of progress, from any thread.
pub trait Progress: Sync {
    /// A new stage begins, of so many steps; the stage before it is done.
    fn stage(&self, name: &str, steps: usize);
    /// So many more steps of the stage are done.
    fn advance(&self, steps: usize);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize) {}
}
