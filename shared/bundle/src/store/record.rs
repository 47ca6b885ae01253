//! Which bundle is active: what the store remembers, and the rule by which a switch and the configuration agree.
//!
//! The rule: a switch or a rollback holds, also through restarts, until the *configured* bundle becomes another one. What
//! counts is the digest of the bundle at the configured path, not the path.

use std::fmt;

use millgate_base::toml_file::{self, TomlError};
use serde::Deserialize;

use super::RECORD_NAME;
use crate::BundleDigest;

/// The only `format` this version reads.
const FORMAT: u32 = 1;

/// Which bundles a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What decides.
    pub active: BundleDigest,
    /// What decided before, for a rollback; `None` until the first switch.
    pub previous: Option<BundleDigest>,
    /// What the configuration named when it was last followed.
    pub configured: BundleDigest,
}

/// Why a file is no record of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARecord {
    #[error("is no text: {0}")]
    NotText(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Malformed(#[from] TomlError),
    #[error("`format` is {0}, this version reads {FORMAT}")]
    Format(u32),
    #[error("`{key}`: `{text}` is no digest")]
    Digest { key: &'static str, text: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    active: String,
    previous: Option<String>,
    configured: String,
}

impl Record {
    /// The first record of a store: the configured bundle is active.
    pub fn first(configured: BundleDigest) -> Self {
        Self { active: configured, previous: None, configured }
    }

    /// What holds where the configuration names the bundle `configured`, at a start or when the configuration is read
    /// again: this record as it is, unless the configured bundle has become another one, which is then switched to.
    #[must_use]
    pub fn follow(self, configured: BundleDigest) -> Self {
        if self.configured == configured { self } else { Self { configured, ..self.switched(configured) } }
    }

    /// What holds after an explicit switch. A switch to the active bundle changes nothing.
    #[must_use]
    pub fn switched(self, to: BundleDigest) -> Self {
        if self.active == to { self } else { Self { active: to, previous: Some(self.active), ..self } }
    }

    /// What holds after a rollback, which a second one undoes; `None` where there is nothing to go back to.
    pub fn rolled_back(self) -> Option<Self> {
        self.previous.map(|previous| self.switched(previous))
    }

    /// The bundles that must be kept.
    pub fn bundles(&self) -> impl Iterator<Item = BundleDigest> + use<> {
        [Some(self.active), self.previous].into_iter().flatten()
    }

    /// Reads a record's file.
    pub fn read(bytes: &[u8]) -> Result<Self, NotARecord> {
        let written: Written = toml_file::parse(RECORD_NAME, std::str::from_utf8(bytes)?)?;
        if written.format != FORMAT {
            return Err(NotARecord::Format(written.format));
        }
        let digest =
            |key: &'static str, text: String| text.parse().map_err(|_| NotARecord::Digest { key, text });
        Ok(Self {
            active: digest("active", written.active)?,
            previous: written.previous.map(|text| digest("previous", text)).transpose()?,
            configured: digest("configured", written.configured)?,
        })
    }
}

/// A record's file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format = {FORMAT}\nactive = \"{}\"", self.active)?;
        if let Some(previous) = &self.previous {
            writeln!(f, "previous = \"{previous}\"")?;
        }
        writeln!(f, "configured = \"{}\"", self.configured)
    }
}
