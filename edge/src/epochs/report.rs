//! What commands are told of bundles, as text and as JSON.

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use millgate_shared::bundle::report::{Named, Report};
use millgate_shared::bundle::store::{self, StoreError};
use serde::{Deserialize, Serialize};

use super::SwitchError;

/// Why a switch was refused, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    /// The bundle that was given is at fault.
    pub(crate) is_bad_input: bool,
}

/// Which bundles an agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Absent: no agent has ever been started with this state directory.
    pub(crate) active: Option<Named>,
    pub(crate) previous: Option<Named>,
    /// Where the configuration's bundle lies, if that is known.
    pub(crate) configured: Option<PathBuf>,
    /// What lay there when it was last followed.
    pub(crate) configured_digest: Option<String>,
    /// A switch is under way.
    pub(crate) is_under_way: bool,
    pub(crate) is_running: bool,
}

impl Refusal {
    pub(crate) fn of(error: &SwitchError) -> Self {
        Self { error: error.to_string(), is_bad_input: error.is_bad_input() }
    }
}

impl State {
    /// Reads what the state directory of an agent that does not run says.
    pub(crate) fn of_stopped(state_dir: &Path) -> Result<Self, StoreError> {
        let record = store::look(state_dir)?;
        let named =
            |digest| Named::kept(store::manifest_in(state_dir, digest).ok().flatten().as_ref(), digest);
        Ok(Self {
            active: record.map(|record| named(record.active)),
            previous: record.and_then(|record| record.previous).map(named),
            configured: None,
            configured_digest: record.map(|record| record.configured.to_string()),
            is_under_way: false,
            is_running: false,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.active {
            Some(active) => write!(f, "active      {active}")?,
            None => write!(f, "active      none: no agent was started with this state directory")?,
        }
        if let Some(previous) = &self.previous {
            write!(f, "\nprevious    {previous}")?;
        }
        match (&self.configured, &self.configured_digest) {
            (Some(path), Some(digest)) => write!(f, "\nconfigured  {} ({digest})", path.display())?,
            (Some(path), None) => write!(f, "\nconfigured  {}", path.display())?,
            (None, Some(digest)) => write!(f, "\nconfigured  {digest}")?,
            (None, None) => {}
        }
        if self.is_under_way {
            write!(f, "\na switch is under way")?;
        }
        if !self.is_running {
            write!(f, "\nthe agent is not running")?;
        }
        Ok(())
    }
}
