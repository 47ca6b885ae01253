//! The record of a decision: what was decided, by whom, and why. Serialised as one JSON object a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::novelty::Novelty;
pub use crate::novelty::UNKNOWN;
use crate::recipe::Disposition;

mod amend;
mod outcome;
mod record;

pub use amend::Late;
pub use millgate_sample::sample::Note;
pub use outcome::Outcome;
pub use record::{Context, Run};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// UUIDv7.
    pub id: String,
    pub version: u32,
    pub state: State,
    pub task: String,
    pub sample: SampleInfo,
    pub verdict: Verdict,
    /// What the recipe makes of the verdict; `None` without a recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Disposition>,
    /// How the sample compares with known ones; `None` where the bundle has no bank for its product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<Novelty>,
    /// Picture checks that fired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<FailedCheck>,
    /// Probability by label; labels under [`SMALLEST_PROBABILITY`] are left out.
    pub probabilities: BTreeMap<String, f64>,
    /// The experts that answered, heaviest first.
    pub experts: Vec<ExpertShare>,
    pub degraded: Option<Degraded>,
    pub why: Why,
    pub uplink_bytes: u64,
    pub bundle: BundleInfo,
    pub timings_us: Timings,
    /// Mark of an amended decision; `None` for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub historical: Option<Historical>,
}

/// Marks a decision that speaks of the past: the part it is about has moved on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Historical {
    /// Time at which the sample was first decided, RFC 3339.
    pub decided_at: String,
    /// Time at which the late answer was worked in, RFC 3339.
    pub amended_at: String,
    /// Version that this one replaces.
    pub replaces: u32,
}

/// Probabilities under this stay out of the record.
pub const SMALLEST_PROBABILITY: f64 = 1e-4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Final,
    /// Provisional: an expert that was wanted has not answered.
    Provisional,
    /// Amended: a late expert's answer has been worked in.
    Amended,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleInfo {
    pub path: String,
    pub source: Option<String>,
    pub part_id: Option<String>,
    pub captured_at: Option<String>,
    pub sha256: String,
    pub modalities: Vec<String>,
    /// The region of the picture that the decision is about, `[left, top, width, height]` in pixels; `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<[u32; 4]>,
    /// Number of regions that were looked at, of which this one was the most suspicious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<u32>,
    /// Assumptions that were made to read its pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// A label of the task, or [`UNKNOWN`].
    pub label: String,
    /// `None` if the sample is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

/// A picture that is not as the pictures of its product are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedCheck {
    pub modality: String,
    /// `blank`, `dark`, `saturated`, `blurred`, `size`, `brightness`, `contrast`, `sharpness` or `stuck`.
    pub check: String,
    /// What was found.
    pub value: f64,
    /// The bounds that it should have kept to.
    pub bounds: [f64; 2],
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpertShare {
    pub name: String,
    /// Place that answered: `edge` or `cloud:<node>`.
    #[serde(rename = "where")]
    pub place: String,
    /// Weight of its answer; 0 if the combine dropped it.
    pub weight: f64,
    /// Calibrated probability that the expert is right on this sample.
    pub competence: f64,
    pub latency_us: u64,
    pub engine: String,
    /// Number of samples that were computed together.
    pub batch: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Degraded {
    /// Reason why the first missing expert did not answer.
    pub reason: Missing,
    pub missing: Vec<MissingExpert>,
    /// Share of the gate's weight, over the experts that were wanted, that belongs to those that did answer.
    pub weight_mass: f64,
    /// Prospect of asking the missing experts of the pool later; `None` where nobody sees to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<Later>,
}

/// Prospect that a provisional decision is amended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Later {
    /// Yes: it is in the spool and is amended once the pool answers.
    Spooled,
    /// No: no expert of the pool is missing that may be asked.
    NotNeeded,
    /// No: the spool holds as much as it may.
    Full,
    /// No: the disk does not take it.
    Disk,
    /// No: there is no spool.
    Off,
}

impl Later {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spooled => "spooled",
            Self::NotNeeded => "not_needed",
            Self::Full => "full",
            Self::Disk => "disk",
            Self::Off => "off",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingExpert {
    pub name: String,
    pub reason: Missing,
}

/// Reason why an expert that was wanted did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// The pool cannot be reached, or none is configured.
    Offline,
    /// No answer came in time.
    Deadline,
    /// The pool refused: its queues are full.
    Shed,
    /// The operator's byte budget is spent.
    Budget,
    /// An error, or numbers that are no answer, came back.
    Failed,
}

impl Missing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Deadline => "deadline",
            Self::Shed => "shed",
            Self::Budget => "budget",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// Rule that fired, with its numbers.
    pub rule: String,
    /// Gate logits of the eligible experts.
    pub gate: BTreeMap<String, f64>,
    /// Prices of the eligible experts, where not 0.
    pub price: BTreeMap<String, f64>,
    /// Experts that could not be asked, and why.
    pub masked: BTreeMap<String, String>,
    pub local_risk: Option<f64>,
    /// Certified threshold of risk; `None` if none is certified for this product and risk, or the mode has no use for
    /// one.
    pub threshold: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleInfo {
    pub name: String,
    pub version: String,
    /// Digest of the bundle, as `sha256:<hex>`.
    pub digest: String,
}

/// Times that the parts of a decision took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub decode: u64,
    pub encode: u64,
    pub gate: u64,
    pub local: u64,
    pub uplink: u64,
    pub combine: u64,
    pub total: u64,
}
