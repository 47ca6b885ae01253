//! What this node serves: the bundle's models and mixture, if it hosts a bundle, and plain ONNX models from folders.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::bundle::{Bundle, BundleDigest};

use crate::config::CloudConfig;
use crate::engines::Engines;
use crate::engines::missing::Missing;
use crate::failure::Failure;
use crate::hosted::held::Held;
use crate::hosted::{Hosted, HostedError};
use crate::mixture::task;
use crate::repository::RepositoryError;
use crate::repository::loading::Repositories;
use crate::serving::Serving;
use crate::serving::run::Deployed;
use crate::strikes::Strikes;

/// Why a pool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("bundle {}: {source}{}", bundle.display(), instead(source))]
    Bundle { bundle: PathBuf, source: Box<HostedError> },
    #[error("`model_repository`: {0}")]
    Repository(#[from] RepositoryError),
}

impl PoolError {
    fn bundle(bundle: PathBuf, source: HostedError) -> Self {
        Self::Bundle { bundle, source: Box::new(source) }
    }
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
    held: Option<RwLock<Held<Arc<Hosted>>>>,
    /// Folders of plain ONNX models that are served besides.
    repositories: Repositories,
    loaded_in: Duration,
    /// The configured tenants, by name.
    tenants: Vec<String>,
}

/// A bundle that was opened, and where it was found.
#[derive(Debug)]
pub struct Given {
    pub path: PathBuf,
    pub bundle: Bundle,
}

impl Given {
    /// Opens a bundle and checks its digests. Blocks.
    pub fn open(path: &Path) -> Result<Self, PoolError> {
        let opened = Bundle::open(path);
        let bundle = opened.map_err(|error| PoolError::bundle(path.to_owned(), error.into()))?;
        Ok(Self { path: path.to_owned(), bundle })
    }
}

/// What the bundle before is to whoever looks at it.
#[derive(Debug)]
pub(crate) struct Before {
    pub(crate) hosted: Arc<Hosted>,
    /// How long nobody has asked for it.
    pub(crate) idle: Duration,
}

impl Pool {
    /// Loads and proves the bundle, if there is to be one, then the models of the configuration's repositories: blocks for
    /// as long as that takes. What cannot be served of a repository is in the index, with its reason; what ends the pool
    /// while it is loaded is remembered in `state_dir`.
    pub fn open(config: &CloudConfig, engines: Engines, bundle: Option<&Given>) -> Result<Self, PoolError> {
        let started = Instant::now();
        // Where nothing can end what runs it, there is nothing to remember.
        let strikes = match config.model_repository.is_empty() && !engines.guests().are_apart() {
            true => Strikes::default(),
            false => Strikes::open(&config.state_dir, &config.node),
        };
        let serving = Serving::start(
            (config.thread_count(), config.queue),
            engines,
            &config.cache,
            config.stall_patience(),
            strikes,
        );
        let held = match bundle {
            None => None,
            Some(Given { path, bundle }) => {
                let hosted =
                    Hosted::load(bundle, &serving).map_err(|error| PoolError::bundle(path.clone(), error))?;
                let hosted = Arc::new(hosted);
                serving.exchange(&models(&hosted, &serving, &config.node));
                Some(RwLock::new(Held::new(hosted)))
            }
        };
        let loaded_in = started.elapsed();
        let (node, roots) = (config.node.clone(), &config.model_repository);
        let repositories = Repositories::knowing(roots, serving.strikes());
        repositories.load_all(&serving)?;
        let life = uuid::Uuid::now_v7().to_string();
        let tenants = config.tenants.iter().map(|tenant| tenant.name.clone()).collect();
        Ok(Self { node, life, serving, held, repositories, loaded_in, tenants })
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

    fn held(&self) -> Option<RwLockReadGuard<'_, Held<Arc<Hosted>>>> {
        Some(self.held.as_ref()?.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn held_to_change(&self) -> Option<RwLockWriteGuard<'_, Held<Arc<Hosted>>>> {
        Some(self.held.as_ref()?.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The active bundle; `None` where this node only serves plain models. Whoever holds it keeps it, whatever is switched
    /// to meanwhile.
    pub fn hosted(&self) -> Option<Arc<Hosted>> {
        Some(Arc::clone(self.held()?.active()))
    }

    /// The bundle before the active one, while it is still answered.
    pub(crate) fn before(&self) -> Option<Before> {
        let held = self.held()?;
        Some(Before { hosted: Arc::clone(held.before()?), idle: held.idle(Instant::now())? })
    }

    /// The active bundle's manifest.
    pub(crate) fn manifest(&self) -> Option<Arc<Manifest>> {
        self.held().map(|held| Arc::clone(held.active().manifest()))
    }

    /// The active bundle, for calls that make no sense without one.
    pub(crate) fn bundle(&self) -> Result<Arc<Hosted>, Failure> {
        self.hosted().ok_or(Failure::NoBundle)
    }

    /// The bundle with this digest, if it is answered here.
    pub(crate) fn bundle_of(&self, asked: BundleDigest) -> Result<Arc<Hosted>, Failure> {
        let held = self.held().ok_or(Failure::NoBundle)?;
        let found = held.find(asked, Instant::now()).cloned();
        let before = held.before().map(|before| before.digest());
        found.ok_or(Failure::Bundle { asked, held: held.active().digest(), before })
    }

    /// Loads and proves another bundle, and does not answer for it yet: blocks for as long as that takes.
    pub(crate) fn load_bundle(&self, bundle: &Bundle) -> Result<Arc<Hosted>, HostedError> {
        Hosted::load(bundle, &self.serving).map(Arc::new)
    }

    /// A name of the bundle's that a plain model has, if there is one.
    pub(crate) fn taken_name(&self, hosted: &Hosted) -> Option<String> {
        let manifest = hosted.manifest();
        let models = hosted.models().iter().map(|model| model.name.as_str());
        let mut names = models.chain(manifest.tasks.iter().map(|task| task.name.as_str()));
        let is_plain = |name: &&str| self.serving.find(name, "").is_ok_and(|found| !found.traits.is_fixed);
        names.find(is_plain).map(str::to_owned)
    }

    /// Makes a bundle the active one: calls that begin from now on are answered by it, and so are clients that ask for
    /// models by name. Gives the bundle that is answered no more, if there is one.
    pub(crate) fn activate(&self, hosted: Arc<Hosted>) -> Option<Arc<Hosted>> {
        let models = models(&hosted, &self.serving, &self.node);
        let mut held = self.held_to_change()?;
        let gone = held.switch(hosted, Instant::now());
        self.serving.exchange(&models);
        gone
    }

    /// Lets the bundle before go, if nobody has asked for it for `patience`; its memory is free once the last call that
    /// began with it is over and the result is dropped.
    pub(crate) fn let_go(&self, patience: Duration) -> Option<Arc<Hosted>> {
        self.held_to_change()?.let_go(Instant::now(), patience)
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// The configured tenants, by name.
    pub(crate) fn tenants(&self) -> &[String] {
        &self.tenants
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

/// A bundle's models and tasks, as clients ask for them by name.
fn models(hosted: &Arc<Hosted>, serving: &Serving, node: &str) -> Vec<Arc<Deployed>> {
    let tasks = task::models(hosted, serving, &place(node));
    hosted.models().iter().cloned().chain(tasks).collect()
}

fn place(node: &str) -> String {
    format!("cloud:{node}")
}
