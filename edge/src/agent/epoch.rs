//! Epochs: one bundle in use and all that hangs on it.
//!
//! A decision takes the epoch of the moment at its start and keeps it to the end; a switch is one pointer. The old epoch's
//! model threads end with the last decision that holds it.

use std::path::Path;
use std::sync::Arc;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::bundle::{Bundle, BundleDigest};
use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::proof::golden;
use millgate_shared::runner::{Holding, Models};
use millgate_shared::workers::Workers;

use super::{AgentConfig, StartError};
use crate::uplink::upload::UploadPolicy;
use crate::wishes::{Asked, Policies};

/// One bundle in use: its models on their threads, and what the configuration comes to under it.
#[derive(Debug)]
pub struct Epoch {
    pub(super) policies: Policies,
    pub(super) workers: Workers,
    pub(super) rules: Rules,
}

/// What an amendment needs of the bundle that the first decision was made with, and no more.
#[derive(Debug, Clone)]
pub struct Rules {
    digest: BundleDigest,
    manifest: Arc<Manifest>,
    upload: Arc<UploadPolicy>,
}

impl Epoch {
    /// Loads a bundle's models, holds the configuration against them, runs the golden samples and starts the model threads.
    /// Errors name the bundle by `path`. Blocks while models load.
    pub(super) fn start(bundle: &Bundle, path: &Path, config: &AgentConfig) -> Result<Self, StartError> {
        let path = || path.to_path_buf();
        let refuse = |source| StartError::Bundle { path: path(), source: Box::new(source) };
        let models = Arc::new(Models::load(bundle, Holding::Edge, config.engine).map_err(refuse)?);
        let standard = policy(config, models.manifest())?;
        let policies = config.wishes.policies(&config.task, standard, models.manifest());
        let policies = policies.map_err(|refused| StartError::Wishes { path: path(), refused })?;
        let rules = Rules::new(models.digest(), Arc::clone(models.manifest()), config)?;
        golden::check(bundle, &models).map_err(refuse)?;
        let workers = Workers::start(&models, config.threads, config.queue)
            .map_err(|source| StartError::Models { path: path(), source: Box::new(source) })?;
        Ok(Self { policies, workers, rules })
    }

    /// What holds for samples that do not say otherwise, and whose source does not.
    pub fn policy(&self) -> &Policy {
        &self.policies.standard().policy
    }

    /// What holds for samples of a source that do not say otherwise.
    pub fn asked(&self, source: Option<&str>) -> &Asked {
        self.policies.of(source)
    }

    /// Sources that the configuration names.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.policies.sources()
    }

    pub fn models(&self) -> &Arc<Models> {
        self.workers.models()
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.rules.manifest
    }

    pub fn digest(&self) -> BundleDigest {
        self.rules.digest
    }

    /// What may leave the device.
    pub fn upload_policy(&self) -> &Arc<UploadPolicy> {
        &self.rules.upload
    }

    /// What an amendment needs of this epoch.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl Rules {
    /// Fails where the configuration names a modality that the bundle does not have.
    pub(super) fn new(
        digest: BundleDigest,
        manifest: Arc<Manifest>,
        config: &AgentConfig,
    ) -> Result<Self, StartError> {
        let upload = UploadPolicy::new(&config.bytes.send, &manifest)
            .map_err(|modality| StartError::UnknownModality { modality, bundle: manifest.name.clone() })?;
        Ok(Self { digest, manifest, upload: Arc::new(upload) })
    }

    pub fn digest(&self) -> BundleDigest {
        self.digest
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub(super) fn upload(&self) -> &Arc<UploadPolicy> {
        &self.upload
    }
}

fn policy(config: &AgentConfig, manifest: &Manifest) -> Result<Policy, StartError> {
    if manifest.task(&config.task).is_none() {
        return Err(StartError::UnknownTask {
            task: config.task.clone(),
            bundle: manifest.name.clone(),
            known: manifest.tasks.iter().map(|task| task.name.clone()).collect(),
        });
    }
    if let Mode::Pinned(names) = &config.mode
        && let Some(unknown) = names.iter().find(|name| manifest.expert_index(name).is_none())
    {
        return Err(StartError::UnknownExpert(unknown.clone()));
    }
    let risk = config.risk.unwrap_or(manifest.offload.default_risk);
    if !(risk > 0.0 && risk < 1.0) {
        return Err(StartError::Risk(risk));
    }
    let (mode, deadline, grace) = (config.mode.clone(), config.deadline, config.grace);
    Ok(Policy { mode, risk, deadline, grace, ..Policy::for_bundle(manifest) })
}
