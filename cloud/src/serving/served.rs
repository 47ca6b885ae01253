//! One version of one model, loaded and proved.

use std::sync::Arc;
use std::time::Duration;

use millgate_shared::array::Array;
use millgate_shared::engine::{Model, Signature};
use millgate_shared::proto::inference;

use super::batch::is_finite;
use super::statistics::Statistics;
use crate::engines::choice::Choice;
use crate::failure::Failure;
use crate::scheduling::ModelId;

/// What a model is, beside its weights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traits {
    /// Most rows of one request; 0: its first axis is not one of rows. `None`: a trial decides.
    pub(crate) max_rows: Option<usize>,
    /// Deadline of a request that names none.
    pub(crate) default_timeout: Option<Duration>,
    /// Values that are not finite are refused, coming and going.
    pub(crate) finite_only: bool,
    /// It belongs to the bundle, and stays.
    pub(crate) is_fixed: bool,
    /// As it stands in the repository; empty where there is none.
    pub(crate) config: inference::ModelConfig,
}

/// Rows of one request. More are refused: what is kept for each row is small, but not nothing.
const MOST_ROWS: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) model: Arc<dyn Model>,
    /// The engine that runs it, and why.
    pub(crate) choice: Choice,
    /// A trial has shown that a batch's rows do not touch each other.
    pub(crate) rows_are_independent: bool,
    /// Rows worth computing together; 1 where batching does not pay.
    pub(crate) knee: usize,
    pub(crate) id: ModelId,
    pub(crate) traits: Traits,
    pub(crate) statistics: Statistics,
}

impl Served {
    pub(crate) fn signature(&self) -> &Signature {
        self.model.signature()
    }

    /// Inputs in the signature's order.
    pub(crate) fn check(&self, inputs: &[Array]) -> Result<(), Failure> {
        let signature = self.signature();
        if inputs.len() != signature.inputs.len() {
            let message = format!("are {}, `{}` takes {}", inputs.len(), self.name, signature.inputs.len());
            return Err(Failure::field("inputs", message));
        }
        signature.check(inputs).map_err(|misfit| Failure::field("inputs", misfit.to_string()))?;
        if self.traits.finite_only {
            for (port, input) in signature.inputs.iter().zip(inputs) {
                if !is_finite(input) {
                    let field = format!("inputs `{}`", port.name);
                    return Err(Failure::field(field, "holds a value that is not finite"));
                }
            }
        }
        Ok(())
    }

    /// Rows of a request with these inputs, which were checked: 1 where there is no axis of rows.
    pub(crate) fn rows(&self, inputs: &[Array]) -> Result<usize, Failure> {
        if !self.rows_are_independent {
            return Ok(1);
        }
        let rows = inputs.first().map_or(1, Array::rows);
        if let Some(other) = inputs.iter().position(|input| input.rows() != rows) {
            let name = &self.signature().inputs[other].name;
            let message = format!("has {} rows, the first input {rows}", inputs[other].rows());
            return Err(Failure::field(format!("inputs `{name}`.shape"), message));
        }
        let most = self.traits.max_rows.filter(|most| *most > 0).unwrap_or(MOST_ROWS).min(MOST_ROWS);
        if rows == 0 {
            return Err(Failure::field("inputs", "have no rows"));
        }
        if rows > most {
            let message = format!("have {rows} rows, `{}` takes at most {most}", self.name);
            return Err(Failure::field("inputs", message));
        }
        Ok(rows)
    }

    /// The row counts to run with so that they add up to `rows` or a little more; `None`: as it comes.
    pub(crate) fn sizes(&self, rows: usize) -> Option<Vec<usize>> {
        if !self.rows_are_independent || !self.model.plans_by_shape() {
            return None;
        }
        let knee = self.knee.max(1);
        let mut sizes = vec![knee; rows / knee];
        let rest = rows % knee;
        if rest > 0 {
            sizes.push(rest.next_power_of_two().min(knee));
        }
        (sizes != [rows]).then_some(sizes)
    }
}
