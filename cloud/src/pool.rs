//! What this node serves: the bundle's models and mixture, if it hosts a bundle, and plain ONNX models from folders.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::bundle::manifest::Manifest;

use crate::config::CloudConfig;
use crate::engines::Engines;
use crate::engines::missing::Missing;
use crate::failure::Failure;
use crate::hosted::{Hosted, HostedError};
use crate::mixture::task;
use crate::repository::RepositoryError;
use crate::repository::loading::Repositories;
use crate::serving::Serving;

/// Why a pool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("bundle {}: {source}{}", bundle.display(), instead(source))]
    Bundle { bundle: PathBuf, source: Box<HostedError> },
    #[error("`model_repository`: {0}")]
    Repository(#[from] RepositoryError),
}

/// What to do where there is no bundle.
fn instead(error: &HostedError) -> &'static str {
    match error {
        HostedError::Bundle(error) if error.is_absent() => {
            "; name one with --bundle PATH or the key `bundle`, or serve plain models alone with --no-bundle"
        }
        _ => "",
    }
}

/// Models, ready to run.
#[derive(Debug)]
pub struct Pool {
    node: String,
    /// Names this start of the pool; every start has another.
    life: String,
    serving: Serving,
    /// `None`: this node only serves plain models.
    hosted: Option<Arc<Hosted>>,
    /// Folders of plain ONNX models that are served besides.
    repositories: Repositories,
    loaded_in: Duration,
}

impl Pool {
    /// Loads and proves the configuration's bundle, if it names one, then the models of its repositories: blocks for as
    /// long as that takes. What cannot be served of a repository is in the index, with its reason; what ends the pool
    /// while it is loaded is remembered in `state_dir`.
    pub fn open(config: &CloudConfig, engines: Engines) -> Result<Self, PoolError> {
        let started = Instant::now();
        let serving = Serving::start(config.thread_count(), config.queue, engines, &config.cache);
        let refuse = |source| PoolError::Bundle { bundle: config.bundle.clone(), source: Box::new(source) };
        let hosted = config.bundle_path().map(|path| Hosted::load(path, &serving).map(Arc::new));
        let hosted = hosted.transpose().map_err(refuse)?;
        if let Some(hosted) = &hosted {
            task::offer(hosted, &serving, &place(&config.node));
        }
        let loaded_in = started.elapsed();
        let (node, roots) = (config.node.clone(), &config.model_repository);
        let repositories = match roots.is_empty() {
            true => Repositories::new(roots),
            false => Repositories::remembering(roots, &config.state_dir, &node),
        };
        repositories.load_all(&serving)?;
        let life = uuid::Uuid::now_v7().to_string();
        Ok(Self { node, life, serving, hosted, repositories, loaded_in })
    }

    /// Reads a model from its repository as it stands now, and serves that.
    pub(crate) fn load_model(&self, name: &str) -> Result<(), Failure> {
        self.repositories.load(&self.serving, name)
    }

    pub(crate) fn unload_model(&self, name: &str) -> Result<(), Failure> {
        self.repositories.unload(&self.serving, name)
    }

    /// What ONNX Runtime would do for the models, were it here.
    pub(crate) fn missing(&self) -> Missing {
        let (served, index) = (self.serving.all(), self.serving.index());
        let refused =
            index.iter().filter_map(|listed| Some((listed.name.as_str(), listed.reason.as_deref()?)));
        Missing::of(served.iter().map(|served| (served.name.as_str(), served.signature())), refused)
    }

    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The bundle that is hosted here.
    pub fn hosted(&self) -> Option<&Arc<Hosted>> {
        self.hosted.as_ref()
    }

    /// The manifest of the bundle that is hosted here.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.hosted().map(|hosted| hosted.manifest().as_ref())
    }

    /// The same, for calls that make no sense without one.
    pub(crate) fn bundle(&self) -> Result<&Arc<Hosted>, Failure> {
        self.hosted.as_ref().ok_or(Failure::NoBundle)
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// Another one at each start.
    pub(crate) fn life(&self) -> &str {
        &self.life
    }

    /// This node, as decisions name it.
    pub(crate) fn place(&self) -> String {
        place(&self.node)
    }

    pub fn threads(&self) -> usize {
        self.serving.threads()
    }

    /// Rows and jobs that wait for a thread.
    pub fn queued(&self) -> usize {
        self.serving.queued()
    }

    /// Models that answer.
    pub fn models(&self) -> usize {
        self.serving.all().len()
    }

    pub fn loaded_in(&self) -> Duration {
        self.loaded_in
    }
}

fn place(node: &str) -> String {
    format!("cloud:{node}")
}
