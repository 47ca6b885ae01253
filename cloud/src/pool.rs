//! The experts that this node holds: loaded, proved on the bundle's golden samples, timed, and put on threads.
//!
//! A [`Pool`] cannot exist with a model that fails its golden samples, so whoever holds one may answer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millgate_shared::bundle::golden::{self, Passed};
use millgate_shared::bundle::manifest::{Manifest, model_path};
use millgate_shared::bundle::{Bundle, BundleDigest, BundleError};
use millgate_shared::engine::OnnxFile;
use millgate_shared::proto::inference::model_config::SchedulingChoice;
use millgate_shared::proto::inference::{ModelConfig, ModelDynamicBatching};
use millgate_shared::runner::{Holding, Models, RunError, Runner};
use millgate_shared::tensor::Tensor;
use millgate_shared::workers::Workers;

use crate::engines::Engines;
use crate::failure::Failure;
use crate::repository::{self, RepositoryError};
use crate::serving::served::Traits;
use crate::serving::{Batching, Serving};

/// Timed runs per expert at load, after one that warms up; the fastest counts.
const TIMED_RUNS: usize = 3;
/// No retry is asked for sooner: a refused call has cost both sides about this much already.
const SHORTEST_RETRY: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Serve(#[from] Failure),
}

/// Every expert of one bundle, ready to run.
#[derive(Debug)]
pub struct Pool {
    node: String,
    workers: Workers,
    serving: Serving,
    /// Folders of plain ONNX models that are served besides.
    repositories: OnceLock<Vec<PathBuf>>,
    /// By expert index, for one sample.
    latencies: Vec<Duration>,
    passed: Passed,
    loaded_in: Duration,
}

impl Pool {
    /// Opens, loads, proves and times a bundle: blocks for as long as that takes. `queue` bounds the jobs that wait.
    pub fn open(
        bundle: &Path,
        node: &str,
        threads: usize,
        queue: usize,
        engines: Engines,
    ) -> Result<Self, PoolError> {
        let started = Instant::now();
        let bundle = Bundle::open(bundle)?;
        let models = Arc::new(Models::load(&bundle, Holding::All)?);
        let passed = golden::check(&bundle, &models)?;
        let mut runner = models.runner()?;
        let experts = 0..models.manifest().experts.len();
        let latencies = experts.map(|expert| time(&mut runner, expert)).collect::<Result<_, _>>()?;
        let workers = Workers::start(&models, threads, queue)?;
        let serving = Serving::start(threads, queue, engines);
        for name in models.all().map(|(name, _)| name) {
            offer_own(&serving, &bundle, name)?;
        }
        let (node, repositories) = (node.to_owned(), OnceLock::new());
        Ok(Self { node, workers, serving, repositories, latencies, passed, loaded_in: started.elapsed() })
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
        self.serving.load(name, found.version, &found.file, traits, batching)
    }

    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        self.workers.models().manifest()
    }

    pub fn digest(&self) -> BundleDigest {
        self.workers.models().digest()
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// This node, as decisions name it.
    pub fn place(&self) -> String {
        format!("cloud:{}", self.node)
    }

    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What an expert took for one sample when it was loaded.
    pub fn latency(&self, expert: usize) -> Duration {
        self.latencies.get(expert).copied().unwrap_or_default()
    }

    /// The golden samples that passed.
    pub fn passed(&self) -> Passed {
        self.passed
    }

    pub fn loaded_in(&self) -> Duration {
        self.loaded_in
    }

    /// About how long the queue takes to empty: a caller that comes back then finds room.
    pub fn retry_after(&self) -> Duration {
        let mean = self.latencies.iter().sum::<Duration>() / self.latencies.len().max(1) as u32;
        drained_in(self.workers.queued(), mean, self.workers.threads())
    }
}

/// A bundle's own model, for clients that ask by name.
fn offer_own(serving: &Serving, bundle: &Bundle, name: &str) -> Result<(), PoolError> {
    let path = model_path(name);
    let onnx = bundle.read(&path)?;
    let refuse = |source| BundleError::Model { file: path.clone(), source };
    let file = OnnxFile::read(bytes::Bytes::copy_from_slice(&onnx), None).map_err(refuse)?;
    let traits = Traits { finite_only: true, is_fixed: true, ..Traits::default() };
    Ok(serving.load(name, 1, &file, traits, Batching::default())?)
}

fn drained_in(queued: usize, each: Duration, threads: usize) -> Duration {
    each.mul_f64(queued as f64 / threads.max(1) as f64).max(SHORTEST_RETRY)
}

fn time(runner: &mut Runner, expert: usize) -> Result<Duration, RunError> {
    let models = Arc::clone(runner.models());
    let spec = &models.manifest().experts[expert];
    let ports = models.expert(expert).ok_or_else(|| RunError::NotHeld(spec.name.clone()))?.inputs();
    let blank = || -> Vec<Tensor> {
        let tensor = |shape: &Vec<usize>| Tensor::new(shape.clone(), vec![0.0; shape.iter().product()]);
        ports.iter().filter_map(|port| tensor(&port.shape).ok()).collect()
    };
    runner.outputs(expert, blank())?;
    let mut fastest = Duration::MAX;
    for _ in 0..TIMED_RUNS {
        let inputs = blank();
        let started = Instant::now();
        runner.outputs(expert, inputs)?;
        fastest = fastest.min(started.elapsed());
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_drains_by_its_threads() {
        let each = Duration::from_millis(4);
        assert_eq!(drained_in(100, each, 2), Duration::from_millis(200));
        assert_eq!(drained_in(0, each, 2), SHORTEST_RETRY);
        assert_eq!(drained_in(3, each, 0), Duration::from_millis(12));
    }
}
