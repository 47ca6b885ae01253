//! How errors and drift stand, in a small file of the state directory, for commands that look beside a running agent.

use std::fmt;
use std::io;
use std::path::Path;

use millgate_shared::{bounded, files};
use serde::{Deserialize, Serialize};

use crate::drift::{Drift, Kind, interval};

/// The file's name in the state directory.
pub(crate) const FILE_NAME: &str = "drift.json";
/// Probability that the true share is outside of the interval, on either side.
const MISS: f64 = 0.025;

/// How all tests stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) streams: Vec<Standing>,
}

/// How one test stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) source: String,
    pub(crate) kind: Kind,
    /// Observations, and those that count against it.
    pub(crate) seen: u64,
    pub(crate) hits: u64,
    /// The share, with its limits at 95 %.
    pub(crate) share: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    /// The largest share that is as it should be.
    pub(crate) allowed: f64,
    /// Decimal logarithm of the evidence that it is over that; 2 is an alarm.
    pub(crate) evidence: f64,
    pub(crate) is_alarmed: bool,
    pub(crate) bundle: String,
}

impl State {
    pub(super) fn of(drift: &Drift) -> Self {
        let standing = |(source, kind, stream): (&str, Kind, &crate::drift::Stream)| Standing {
            source: source.to_owned(),
            kind,
            seen: stream.seen,
            hits: stream.hits,
            share: stream.hits as f64 / stream.seen.max(1) as f64,
            lower: interval::lower(stream.hits, stream.seen, MISS),
            upper: interval::upper(stream.hits, stream.seen, MISS),
            allowed: stream.evidence.rate(),
            evidence: stream.evidence.log() / std::f64::consts::LN_10,
            is_alarmed: stream.evidence.is_alarmed(),
            bundle: stream.bundle.clone(),
        };
        Self { streams: drift.streams().map(standing).collect() }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, seen, hits, allowed, evidence, .. } = self;
        let what = match self.kind {
            Kind::Error => "local answers wrong",
            Kind::Novelty => "samples unlike the known ones",
        };
        write!(
            f,
            "{source}: {hits} of {seen} {what}: {:.2} % ({:.2} to {:.2} %), at most {:.2} % is as it should be; \
             evidence against it {evidence:.1} (alarm at 2)",
            self.share * 100.0,
            self.lower * 100.0,
            self.upper * 100.0,
            allowed * 100.0
        )?;
        if self.is_alarmed { f.write_str(", ALARM") } else { Ok(()) }
    }
}

/// Writes it down.
pub(super) fn write(dir: &Path, state: &State) -> io::Result<()> {
    files::replace(&dir.join(FILE_NAME), &serde_json::to_vec(state)?, files::PRIVATE)
}

/// What was last written down; `None`: nothing ever was.
pub(crate) fn read(dir: &Path) -> io::Result<Option<State>> {
    match bounded::read(&dir.join(FILE_NAME), bounded::RECORD) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
