//! Models that are made of others: each of their rows asks several models, so that they have no place in a batch themselves.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use millgate_shared::array::Array;
use millgate_shared::engine::{EngineError, Model, Session, Signature};

use super::Serving;
use super::entry::Done;
use super::request::Call;
use crate::failure::Failure;

/// A model whose parts are served models.
pub(crate) trait Composite: Send + Sync + std::fmt::Debug {
    /// What it looks like from outside.
    fn model(&self) -> Arc<dyn Model>;

    /// Fills in for inputs that may be left out; by the signature's order.
    fn complete(&self, inputs: &mut [Option<Array>]) -> Result<(), Failure>;

    /// Inputs in the signature's order, checked against it, of so many rows each.
    fn infer<'a>(
        &'a self,
        serving: &'a Serving,
        inputs: Vec<Array>,
        rows: usize,
        call: Call,
    ) -> BoxFuture<'a, Result<Done, Failure>>;
}

/// The outside of a composite: a signature.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) kind: &'static str,
    pub(crate) signature: Signature,
}

impl Model for Outside {
    fn engine(&self) -> &'static str {
        self.kind
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Err(EngineError::Prepare("it is made of other models and has no session of its own".to_owned()))
    }
}
