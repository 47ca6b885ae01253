//! What this node serves: the bundle's models and mixture, if it hosts a bundle, and plain ONNX models from folders.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleError;

use crate::config::{CacheConfig, CloudConfig};
use crate::engines::Engines;
use crate::engines::missing::Missing;
use crate::failure::Failure;
use crate::hosted::{self, Hosted};
use crate::mixture::task::TaskModel;
use crate::repository::RepositoryError;
use crate::repository::loading::Repositories;
use crate::serving::Serving;

#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Serve(#[from] Failure),
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
    repositories: OnceLock<Repositories>,
    loaded_in: Duration,
}

impl Pool {
    /// Loads and proves the configuration's bundle, if it names one: blocks for as long as that takes.
    pub fn open(config: &CloudConfig, engines: Engines) -> Result<Self, PoolError> {
        let started = Instant::now();
        let serving = Serving::start(config.thread_count(), config.queue, engines);
        let hosted =
            config.bundle_path().map(|path| Hosted::load(path, &serving).map(Arc::new)).transpose()?;
        if let Some(hosted) = &hosted {
            let place = place(&config.node);
            hosted::offer_tasks(hosted, &serving, |task| {
                Arc::new(TaskModel::new(hosted, task, place.clone()))
            });
        }
        let (node, repositories) = (config.node.clone(), OnceLock::new());
        let life = uuid::Uuid::now_v7().to_string();
        Ok(Self { node, life, serving, hosted, repositories, loaded_in: started.elapsed() })
    }

    /// Serves every model in these folders; what cannot be served is in the index, with its reason. What ends the pool while
    /// it is loaded is remembered in `state_dir`. Once.
    pub fn serve_repositories(&self, roots: &[PathBuf], state_dir: &Path) -> Result<(), RepositoryError> {
        let repositories = || match roots.is_empty() {
            true => Repositories::new(roots),
            false => Repositories::remembering(roots, state_dir, &self.node),
        };
        self.repositories.get_or_init(repositories).load_all(&self.serving)
    }

    /// Reads a model from its repository as it stands now, and serves that.
    pub(crate) fn load_model(&self, name: &str) -> Result<(), Failure> {
        self.repositories.get_or_init(Repositories::default).load(&self.serving, name)
    }

    pub(crate) fn unload_model(&self, name: &str) -> Result<(), Failure> {
        self.repositories.get_or_init(Repositories::default).unload(&self.serving, name)
    }

    /// What ONNX Runtime would do for the models, were it here.
    pub(crate) fn missing(&self) -> Missing {
        let (served, index) = (self.serving.all(), self.serving.index());
        let refused =
            index.iter().filter_map(|listed| Some((listed.name.as_str(), listed.reason.as_deref()?)));
        Missing::of(served.iter().map(|served| (served.name.as_str(), served.signature())), refused)
    }

    /// Keeps served models' answers from now on. Once.
    pub fn keep_answers(&self, config: &CacheConfig) {
        self.serving.keep_answers(config);
    }

    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The bundle that is hosted here.
    pub fn hosted(&self) -> Option<&Arc<Hosted>> {
        self.hosted.as_ref()
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
