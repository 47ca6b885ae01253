//! What was found where something that the agent depends on was looked at, for `millgate-edge check`.

use serde::Serialize;

pub(crate) mod disk;

/// One thing, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub name: String,
    pub status: Status,
    /// What was found, in one line.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// The agent will work, but not as well as it could.
    Warning,
    Failed,
}

impl Item {
    /// Gives one that is as it should be.
    pub(crate) fn ok(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, message: message.into(), advice: None }
    }

    /// Gives one that can be lived with.
    pub(crate) fn warning(
        name: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into());
        Self { name: name.into(), status: Status::Warning, message: message.into(), advice }
    }

    /// Gives one that must be put right.
    pub(crate) fn failed(
        name: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into());
        Self { name: name.into(), status: Status::Failed, message: message.into(), advice }
    }
}
