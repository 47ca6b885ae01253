//! What commands are told of bundles, as text and as JSON.

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use millgate_shared::bundle::report::{Named, Report};
use millgate_shared::bundle::store::{self, StoreError};
use serde::{Deserialize, Serialize};

/// The bundle before the active one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    #[serde(flatten)]
    pub(crate) named: Named,
    /// Seconds in which nobody has asked for it; absent: it is answered no more, and is kept on disk for a rollback.
    pub(crate) idle_seconds: Option<u64>,
}

/// Which bundles a pool has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Absent: the pool was started without a bundle, or was never started with this state directory.
    pub(crate) active: Option<Named>,
    pub(crate) previous: Option<Before>,
    /// The configured bundle's path; absent: none is configured.
    pub(crate) configured: Option<PathBuf>,
    /// What lay there when it was last looked at.
    pub(crate) configured_digest: Option<String>,
    /// A switch is under way.
    pub(crate) is_under_way: bool,
    pub(crate) is_running: bool,
}

impl State {
    /// Reads what the state directory of a pool says that does not run.
    pub(crate) fn of_stopped(state_dir: &Path) -> Result<Self, StoreError> {
        let record = store::look(state_dir)?;
        let named = |digest| Ok(Named::kept(store::manifest_in(state_dir, digest)?.as_ref(), digest));
        let previous = record.and_then(|record| record.previous).map(named).transpose()?;
        Ok(Self {
            active: record.map(|record| named(record.active)).transpose()?,
            previous: previous.map(|named| Before { named, idle_seconds: None }),
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
            None => write!(f, "active      none")?,
        }
        if let Some(Before { named, idle_seconds }) = &self.previous {
            write!(f, "\nprevious    {named}, ")?;
            match idle_seconds {
                Some(seconds) => write!(f, "answered, last asked for {seconds} s ago")?,
                None => write!(f, "kept on disk, not answered")?,
            }
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
            write!(f, "\nthe pool is not running")?;
        }
        Ok(())
    }
}
