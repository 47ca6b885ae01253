//! What commands are told of bundles, as text and as JSON.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A bundle, as people and programs name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) digest: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, digest } = self;
        write!(f, "{name} {version} ({digest})")
    }
}

/// What came of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// False: the bundle was active already.
    pub(crate) changed: bool,
    pub(crate) active: Named,
    /// What `rollback` would go back to; absent: nothing.
    pub(crate) previous: Option<Named>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.changed {
            true => write!(f, "switched to {}", self.active)?,
            false => write!(f, "already active: {}", self.active)?,
        }
        match &self.previous {
            Some(previous) => write!(f, "; before: {previous}"),
            None => Ok(()),
        }
    }
}

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
    /// Absent: the pool was started without a bundle.
    pub(crate) active: Option<Named>,
    pub(crate) previous: Option<Before>,
    /// Where the configuration's bundle lies.
    pub(crate) configured: Option<PathBuf>,
    /// What lay there when it was last looked at.
    pub(crate) configured_digest: Option<String>,
    /// A switch is under way.
    pub(crate) is_under_way: bool,
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
        if let Some(path) = &self.configured {
            write!(f, "\nconfigured  {}", path.display())?;
            if let Some(digest) = &self.configured_digest {
                write!(f, " ({digest})")?;
            }
        }
        if self.is_under_way {
            write!(f, "\na switch is under way")?;
        }
        Ok(())
    }
}
