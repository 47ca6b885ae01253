//! How a served model is run, beside what it is.

use std::ops::Deref;
use std::sync::Arc;

use super::composite::Composite;
use super::served::Served;
use super::threads::Registered;
use crate::scheduling::ModelId;

/// Where a request's rows go.
#[derive(Debug)]
pub(crate) enum Run {
    /// They wait in the scheduler's queue for a model thread of this node.
    Queue(Registered),
    /// Each is answered by asking other served models.
    Composite(Arc<dyn Composite>),
}

/// A served model, and how it is run. Whoever holds it is answered, whatever takes its place in the catalogue meanwhile.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) served: Arc<Served>,
    pub(crate) run: Run,
}

impl Deployed {
    /// The number under which the scheduler knows it; `None` for a model that is made of others.
    pub(crate) fn id(&self) -> Option<ModelId> {
        match &self.run {
            Run::Queue(registered) => Some(registered.id()),
            Run::Composite(_) => None,
        }
    }
}

impl Deref for Deployed {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}
