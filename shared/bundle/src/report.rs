//! What commands are told of a process's bundles, as text and as JSON: the same words on the device and in the pool.

use std::fmt;

use millgate_model::digest::BundleDigest;
use millgate_model::manifest::Manifest;
use serde::{Deserialize, Serialize};

/// A bundle, as people and programs name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub version: String,
    /// `sha256:<hex>`
    pub digest: String,
}

/// What came of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// False if the bundle was active already.
    pub changed: bool,
    pub active: Named,
    /// What `rollback` would go back to; absent: nothing.
    pub previous: Option<Named>,
}

impl Named {
    pub fn new(manifest: &Manifest, digest: BundleDigest) -> Self {
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        Self { name, version, digest: digest.to_string() }
    }

    /// A bundle whose manifest was read from the state directory; one that has none there has no name.
    pub fn kept(manifest: Option<&Manifest>, digest: BundleDigest) -> Self {
        match manifest {
            Some(manifest) => Self::new(manifest, digest),
            None => Self { digest: digest.to_string(), ..Self::default() },
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, digest } = self;
        write!(f, "{name} {version} ({digest})")
    }
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
