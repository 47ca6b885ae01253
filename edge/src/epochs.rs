//! The bundles of a running agent: the rules of earlier ones, as long as the spool has entries of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::bundle::store;

use crate::agent::{Agent, Rules};

/// Rules of earlier bundles that are held in memory; others are read again.
const MOST_RULES: usize = 8;

/// Handle to the agent's bundles. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Epochs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agent: Agent,
    state_dir: PathBuf,
    rules: Mutex<BTreeMap<BundleDigest, Arc<Rules>>>,
}

impl Epochs {
    pub(crate) fn new(agent: &Agent, state_dir: PathBuf) -> Self {
        Self(Arc::new(Inner { agent: agent.clone(), state_dir, rules: Mutex::default() }))
    }

    /// What an entry of a bundle is amended by; the error says why that is not to be had. Reads a file, the first time that
    /// it is asked for an earlier bundle.
    pub(crate) async fn rules(&self, digest: BundleDigest) -> Result<Arc<Rules>, String> {
        let epoch = self.0.agent.epoch();
        if epoch.digest() == digest {
            return Ok(Arc::new(epoch.rules().clone()));
        }
        if let Some(rules) = self.kept().get(&digest) {
            return Ok(Arc::clone(rules));
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let manifest =
                store::manifest_in(&this.0.state_dir, digest).map_err(|error| error.to_string())?;
            let manifest = manifest.ok_or_else(|| format!("nothing is kept here of the bundle {digest}"))?;
            let rules = this.0.agent.rules(digest, Arc::new(manifest)).map_err(|error| error.to_string())?;
            Ok(Arc::new(rules))
        });
        let rules = read.await.unwrap_or_else(|_| Err("reading its bundle panicked".to_owned()))?;
        let mut kept = self.kept();
        if kept.len() >= MOST_RULES {
            kept.pop_first();
        }
        kept.insert(digest, Arc::clone(&rules));
        Ok(rules)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<BundleDigest, Arc<Rules>>> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
