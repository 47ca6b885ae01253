//! What commands are told of bundles, as text and as JSON.

use std::fmt;
use std::path::{Path, PathBuf};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::bundle::store::{self, StoreError};
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
    /// False if the bundle was active already.
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

impl Named {
    /// A bundle whose manifest was read from the state directory; one that cannot be read has no name.
    pub(super) fn kept(manifest: Option<Manifest>, digest: BundleDigest) -> Self {
        let (name, version) = manifest.map(|it| (it.name, it.version)).unwrap_or_default();
        Self { name, version, digest: digest.to_string() }
    }
}

impl State {
    /// Reads what the state directory of a pool says that does not run.
    pub(crate) fn of_stopped(state_dir: &Path) -> Result<Self, StoreError> {
        let record = store::look(state_dir)?;
        let named = |digest| Ok(Named::kept(store::manifest_in(state_dir, digest)?, digest));
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
