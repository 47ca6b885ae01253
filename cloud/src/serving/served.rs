//! What one version of one model is, loaded and proved. How it is run stands in `run`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millgate_shared::array::{Array, Values};
use millgate_shared::engine::{Model, Signature};
use millgate_shared::proto::inference;

use super::policy::QueuePolicy;
use super::statistics::Statistics;
use crate::engines::appetite::Appetite;
use crate::engines::choice::Choice;
use crate::failure::Failure;
use crate::strikes::Record;

/// What a model is, beside its weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Traits {
    /// Most rows of one request; 0: its first axis is not one of rows. `None`: a trial decides.
    pub(crate) max_rows: Option<usize>,
    /// Who goes first, and how long and how many may wait.
    pub(crate) queue: QueuePolicy,
    /// Values that are not finite are refused, coming and going.
    pub(crate) finite_only: bool,
    /// True: the model belongs to the bundle, and clients cannot unload it.
    pub(crate) is_fixed: bool,
    /// Names of an output's classes, by output and index.
    pub(crate) labels: BTreeMap<String, Vec<String>>,
    /// The configuration as it stands in the repository; empty where there is none.
    pub(crate) config: inference::ModelConfig,
    /// SHA-256 of its file, where that may be replaced.
    pub(crate) digest: Option<[u8; 32]>,
}

/// The first element that is no text as the engine has it.
fn unlike_text(texts: &[Bytes], may_hold_zero: bool) -> Option<(usize, &'static str)> {
    texts.iter().enumerate().find_map(|(at, text)| match std::str::from_utf8(text) {
        Err(_) => Some((at, "is not UTF-8, as ONNX has its strings")),
        Ok(text) if !may_hold_zero && text.contains('\0') => {
            Some((at, "holds a zero byte, which ends a string in this model's engine"))
        }
        Ok(_) => None,
    })
}

/// False if any value is NaN or infinite.
pub(super) fn is_finite(array: &Array) -> bool {
    match array.values() {
        Values::Fp16(values) => values.iter().all(|value| value.is_finite()),
        Values::Bf16(values) => values.iter().all(|value| value.is_finite()),
        Values::Fp32(values) => values.iter().all(|value| value.is_finite()),
        Values::Fp64(values) => values.iter().all(|value| value.is_finite()),
        _ => true,
    }
}

/// Rows of one request. More are refused: what is kept for each row is small, but not nothing.
const MOST_ROWS: usize = 1 << 16;

/// What the first axes of a request's inputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Holds this many rows, which may be computed with others or apart from each other.
    Rows(usize),
    /// Nothing is known of the first axes: what comes is computed as it comes.
    Whole,
    /// The first axes are of rows, but their numbers differ between inputs, or are 0: such a request is computed as it
    /// comes, and shares no batch.
    Odd,
}

impl Layout {
    /// Places in a batch.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Rows(rows) => rows,
            Self::Whole | Self::Odd => 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) model: Arc<dyn Model>,
    /// True: the model is made of other models, and `model` is its outside only. Its rows are samples, and BYTES are files,
    /// so that they need not be text.
    pub(crate) is_composite: bool,
    /// The engine that runs it, and why.
    pub(crate) choice: Choice,
    /// Why nothing that its trial has made up fits it, if that is so: it is never batched, whatever answers it gives.
    pub(crate) unproven: Option<String>,
    /// A trial has shown that a batch's rows do not touch each other.
    pub(crate) rows_are_independent: bool,
    /// Rows worth computing together; 1 where batching does not pay.
    pub(crate) knee: usize,
    pub(crate) traits: Traits,
    /// What came of requests; models of one name share them, whichever bundle brought them.
    pub(crate) statistics: Arc<Statistics>,
    /// How often a run of it has ended what it ran in.
    pub(crate) record: Record,
    /// How much memory its runs take.
    pub(crate) appetite: Appetite,
}

impl Served {
    pub(crate) fn signature(&self) -> &Signature {
        self.model.signature()
    }

    /// Why it is not run any more, if that is so.
    pub(crate) fn set_aside(&self) -> Option<Failure> {
        let reason = self.record.aside()?.to_owned();
        Some(Failure::NotReady { model: self.name.clone(), reason })
    }

    /// What is to be known of it before it is asked, if anything is.
    pub(crate) fn note(&self) -> Option<String> {
        let unproven = self.unproven.as_ref().map(|reason| {
            format!("unproven: no input that its trial made up fits it, so it is never batched; {reason}")
        });
        let left_out = &self.signature().left_out;
        let left_out = (!left_out.is_empty())
            .then(|| format!("without its outputs that are no tensors: `{}`", left_out.join("`, `")));
        let notes: Vec<String> = unproven.into_iter().chain(left_out).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Inputs in the signature's order.
    pub(crate) fn check(&self, inputs: &[Array]) -> Result<(), Failure> {
        let signature = self.signature();
        if inputs.len() != signature.inputs.len() {
            let message = format!("are {}, `{}` takes {}", inputs.len(), self.name, signature.inputs.len());
            return Err(Failure::field("inputs", message));
        }
        signature.check(inputs).map_err(|misfit| Failure::field("inputs", misfit.to_string()))?;
        for (port, input) in signature.inputs.iter().zip(inputs) {
            // A composite takes bytes for what they are.
            if let Values::Bytes(texts) = input.values()
                && !self.is_composite
                && let Some((at, why)) = unlike_text(texts, self.model.takes_zero_bytes())
            {
                let message = format!("element {at} of BYTES {why}");
                return Err(Failure::field(format!("inputs `{}`", port.name), message));
            }
        }
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

    /// How a request with these inputs, which were checked, is computed.
    pub(crate) fn layout(&self, inputs: &[Array]) -> Result<Layout, Failure> {
        if !self.rows_are_independent {
            return Ok(Layout::Whole);
        }
        let rows = inputs.first().map_or(1, Array::rows);
        let longest = inputs.iter().map(Array::rows).max().unwrap_or(rows);
        let most = self.most_rows();
        if longest > most {
            let message = format!("have {longest} rows, `{}` takes at most {most}", self.name);
            return Err(Failure::field("inputs", message));
        }
        let is_even = inputs.iter().all(|input| input.rows() == rows);
        // A composite is made of samples.
        if self.is_composite && (rows == 0 || !is_even) {
            let message = if is_even { "have no rows" } else { "have different numbers of rows" };
            return Err(Failure::field("inputs", message));
        }
        Ok(match rows {
            0 => Layout::Odd,
            _ if !is_even => Layout::Odd,
            rows => Layout::Rows(rows),
        })
    }

    /// Rows that one request may have; 0 where its first axis is not one of rows.
    pub(crate) fn most_rows(&self) -> usize {
        match self.rows_are_independent {
            true => self.traits.max_rows.filter(|most| *most > 0).unwrap_or(MOST_ROWS).min(MOST_ROWS),
            false => 0,
        }
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
