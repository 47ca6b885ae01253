//! What is kept of a decision, and what was said of it.

use serde::{Deserialize, Serialize};

/// The longest label, in bytes.
pub(crate) const LONGEST_LABEL: usize = 256;
/// The longest name of a person, in bytes.
const LONGEST_NAME: usize = 256;
/// The longest note, in bytes.
const LONGEST_NOTE: usize = 4096;

/// Why pictures are kept; the first are given up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// In no doubt: drawn.
    Sample,
    /// Somebody should look at it.
    Doubt,
    /// Somebody has.
    Labelled,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::Sample, Self::Doubt, Self::Labelled];

    pub(super) fn number(self) -> u8 {
        self as u8
    }
}

/// A picture in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Picture {
    pub(crate) modality: String,
    /// Name of the file in the folder of pictures.
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// A decision, as it is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) task: String,
    /// The verdict's.
    pub(crate) label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probability: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disposition: Option<String>,
    pub(crate) state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) captured_at: Option<String>,
    /// When it was decided, milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) path: String,
    /// Digest of the first part.
    pub(crate) sha256: String,
    pub(crate) modalities: Vec<String>,
    pub(crate) bundle: String,
    /// Answered here alone, under the certificate.
    pub(crate) is_local: bool,
    /// Drawn, whatever it says.
    pub(crate) is_drawn: bool,
    pub(crate) risk: f64,
    /// What the pool said when it was audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<String>,
    /// Whether it counts as an error, if it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) is_error: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pictures: Vec<Picture>,
    /// Why they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<Class>,
    /// Its place among all, by age.
    pub(crate) number: u64,
}

impl Kept {
    pub(super) fn picture_bytes(&self) -> u64 {
        self.pictures.iter().map(|picture| picture.bytes).sum()
    }

    /// The source that it is counted under.
    pub(super) fn source(&self) -> &str {
        self.source.as_deref().unwrap_or("api")
    }
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) label: String,
    /// A class that the bundle does not have.
    #[serde(default)]
    pub(crate) is_new: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) who: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    /// RFC 3339.
    pub(crate) at: String,
}

/// What a person has to say of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Say {
    pub(crate) id: String,
    pub(crate) label: String,
    /// Allows a class that the bundle does not have.
    #[serde(default)]
    pub(crate) is_new: bool,
    #[serde(default)]
    pub(crate) who: String,
    #[serde(default)]
    pub(crate) note: String,
}

impl Say {
    /// Refuses what is too long or empty.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let bad = |field: &str, message: String| Err(Refusal::Bad { field: field.to_owned(), message });
        if self.id.is_empty() {
            return bad("id", "is empty; a decision's id stands in its record".to_owned());
        }
        if self.label.is_empty() || self.label.chars().any(char::is_control) {
            return bad("label", "is empty or has control characters".to_owned());
        }
        let lengths = [
            ("id", &self.id, LONGEST_NAME),
            ("label", &self.label, LONGEST_LABEL),
            ("who", &self.who, LONGEST_NAME),
            ("note", &self.note, LONGEST_NOTE),
        ];
        for (field, text, most) in lengths {
            if text.len() > most {
                return bad(field, format!("is {} bytes long, over the limit of {most}", text.len()));
            }
        }
        Ok(())
    }
}

/// A decision with all that was said of it, the oldest first; the last counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) decision: Kept,
    pub(crate) said: Vec<Said>,
}

/// Which decisions are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Those after this id.
    #[serde(default)]
    pub(crate) after: String,
    /// So many at most.
    #[serde(default)]
    pub(crate) most: usize,
    /// Those that somebody should look at and nobody has said anything of, in place of those that were labelled.
    #[serde(default)]
    pub(crate) open: bool,
}

/// Some of the decisions that were asked for, by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// What `after` is to be for the next page; `None`: this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    #[error(
        "`{0}`: no such decision is remembered (see `labels.remember`); a decision's id stands in its record"
    )]
    Unknown(String),
    #[error("`{field}`: {message}")]
    Bad { field: String, message: String },
    #[error(
        "{0} decisions are labelled, which is all that `labels.remember` has room for: export them with `--forget`"
    )]
    Full(u64),
    #[error(
        "labels are not kept here: `labels.enabled` is false, or their file cannot be used (the log says why)"
    )]
    Off,
    #[error("too many wait; try again")]
    Busy,
    #[error("{0}")]
    Failed(String),
}
