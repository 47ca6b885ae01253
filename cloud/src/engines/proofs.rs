//! Which bundles have been lived through: every model loaded and run in a worker that did not end, so that tract may run
//! them in this process. What has been proved once is not proved again, by what its bytes and this program are.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::{bounded, files};
use serde::{Deserialize, Serialize};

/// In the state folder.
const FILE: &str = "proved.json";
/// Proofs that are kept, the latest ones.
const MOST: usize = 16;

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// What was proved, the latest last.
    proved: Vec<Proof>,
}

/// A bundle, and the program that has lived through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    /// SHA-256 over all files of the bundle, in hex.
    bundle: String,
    program: String,
}

/// The proofs of a state folder.
#[derive(Debug)]
pub(crate) struct Proofs {
    file: PathBuf,
    program: String,
}

impl Proofs {
    /// `program`: what workers are started as.
    pub(crate) fn of(state_dir: &Path, program: Option<&Path>) -> Self {
        Self { file: state_dir.join(FILE), program: face(program) }
    }

    fn proof(&self, bundle: BundleDigest) -> Proof {
        Proof { bundle: bundle.to_string(), program: self.program.clone() }
    }

    /// What cannot be read was never proved.
    fn kept(&self) -> Kept {
        let text = bounded::read(&self.file, bounded::RECORD).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(crate) fn has(&self, bundle: BundleDigest) -> bool {
        self.kept().proved.contains(&self.proof(bundle))
    }

    /// Notes that a bundle is proved. Where that cannot be kept, it is proved again at the next start.
    pub(crate) fn add(&self, bundle: BundleDigest) {
        let (mut kept, proof) = (self.kept(), self.proof(bundle));
        kept.proved.retain(|known| *known != proof);
        kept.proved.push(proof);
        let over = kept.proved.len().saturating_sub(MOST);
        kept.proved.drain(..over);
        let text = serde_json::to_vec_pretty(&kept).unwrap_or_default();
        let folder = self.file.parent().map_or(Ok(()), files::make_private_folder);
        if let Err(error) = folder.and_then(|()| files::replace(&self.file, &text, files::PRIVATE)) {
            tracing::debug!(file = %self.file.display(), %error, "a proof cannot be kept");
        }
    }
}

/// What tells this program from another build of it.
fn face(program: Option<&Path>) -> String {
    let metadata = program.and_then(|program| std::fs::metadata(program).ok());
    let (length, time) = metadata.map_or((0, 0), |it| (it.len(), it.mtime()));
    format!("{} {length} {time}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> BundleDigest {
        BundleDigest::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_proof_holds_for_these_bytes_and_this_program_and_the_latest_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let program = state.path().join("program");
        std::fs::write(&program, "one").unwrap();
        let proofs = || Proofs::of(&state.path().join("state"), Some(&program));
        assert!(!proofs().has(digest(1)));
        proofs().add(digest(1));
        assert!(proofs().has(digest(1)) && !proofs().has(digest(2)));
        std::fs::write(&program, "another").unwrap();
        assert!(!proofs().has(digest(1)), "another program has to live through it itself");
        for byte in 0..=MOST as u8 {
            proofs().add(digest(byte));
        }
        assert!(!proofs().has(digest(0)) && proofs().has(digest(1)) && proofs().has(digest(MOST as u8)));
        std::fs::write(state.path().join("state").join(FILE), "{ no JSON").unwrap();
        assert!(!proofs().has(digest(1)));
        proofs().add(digest(1));
        assert!(proofs().has(digest(1)));
    }
}
