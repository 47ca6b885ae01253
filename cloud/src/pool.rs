//! What this node serves: the bundle's models and mixture, if it hosts a bundle, and plain ONNX models from folders.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleError;
use millgate_shared::proto::inference::model_config::SchedulingChoice;
use millgate_shared::proto::inference::{ModelConfig, ModelDynamicBatching};

use crate::config::CloudConfig;
use crate::failure::Failure;
use crate::hosted::{self, Hosted};
use crate::mixture::task::TaskModel;
use crate::repository::{self, RepositoryError};
use crate::serving::served::Traits;
use crate::serving::{Batching, Serving};

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
    serving: Serving,
    /// `None`: this node only serves plain models.
    hosted: Option<Arc<Hosted>>,
    /// Folders of plain ONNX models that are served besides.
    repositories: OnceLock<Vec<PathBuf>>,
    loaded_in: Duration,
}

impl Pool {
    /// Loads and proves the configuration's bundle, if it names one: blocks for as long as that takes.
    pub fn open(config: &CloudConfig) -> Result<Self, PoolError> {
        let started = Instant::now();
        let serving = Serving::start(config.thread_count(), config.queue);
        let hosted =
            config.bundle_path().map(|path| Hosted::load(path, &serving).map(Arc::new)).transpose()?;
        if let Some(hosted) = &hosted {
            let place = place(&config.node);
            hosted::offer_tasks(hosted, &serving, |task| {
                Arc::new(TaskModel::new(hosted, task, place.clone()))
            });
        }
        let (node, repositories) = (config.node.clone(), OnceLock::new());
        Ok(Self { node, serving, hosted, repositories, loaded_in: started.elapsed() })
    }

    /// Serves every model in these folders; what cannot be served is in the index, with its reason. Once.
    pub fn serve_repositories(&self, roots: &[PathBuf]) -> Result<(), RepositoryError> {
        let roots = self.repositories.get_or_init(|| roots.to_vec());
        for root in roots {
            for name in repository::names(root)? {
                if let Err(failure) = self.load_model(&name) {
                    tracing::warn!(model = name, error = %failure, "not served");
                    let reason = match failure {
                        Failure::NotReady { reason, .. } => reason,
                        other => other.to_string(),
                    };
                    self.serving.unavailable(&name, reason);
                }
            }
        }
        Ok(())
    }

    /// Reads a model from its repository as it stands now, and serves that.
    pub(crate) fn load_model(&self, name: &str) -> Result<(), Failure> {
        if self.serving.is_fixed(name) {
            return Err(Failure::Unsupported(format!("`{name}` belongs to the bundle and stays")));
        }
        let roots = self.repositories.get().map_or(&[][..], Vec::as_slice);
        let holders: Vec<&PathBuf> = roots.iter().filter(|root| repository::has(root, name)).collect();
        let root = match holders.as_slice() {
            [] => return Err(Failure::UnknownModel(name.to_owned())),
            [root] => root,
            _ => {
                let reason = "it is in more than one repository".to_owned();
                return Err(Failure::NotReady { model: name.to_owned(), reason });
            }
        };
        let refuse =
            |error: RepositoryError| Failure::NotReady { model: name.to_owned(), reason: error.to_string() };
        let found = repository::read(root, name).map_err(refuse)?;
        let config = found.config.unwrap_or_default();
        let dynamic = match &config.scheduling_choice {
            Some(SchedulingChoice::DynamicBatching(dynamic)) => dynamic.clone(),
            _ => ModelDynamicBatching::default(),
        };
        let preferred = dynamic.preferred_batch_size.iter().filter_map(|size| usize::try_from(*size).ok());
        let batching = Batching {
            delay: Duration::from_micros(dynamic.max_queue_delay_microseconds),
            preferred: preferred.collect(),
        };
        let timeout = dynamic.default_queue_policy.map_or(0, |policy| policy.default_timeout_microseconds);
        let most = usize::try_from(config.max_batch_size).unwrap_or(0);
        let traits = Traits {
            max_rows: (config != ModelConfig::default()).then_some(most),
            default_timeout: (timeout > 0).then(|| Duration::from_micros(timeout)),
            config,
            ..Traits::default()
        };
        self.serving.load(name, found.version, &found.file, traits, batching).map(|_| ())
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
