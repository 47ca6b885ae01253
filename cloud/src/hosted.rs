//! The bundle that this node hosts: proved on its golden samples, and its models behind the scheduler.

use std::collections::HashMap;
use std::sync::Arc;

use millgate_shared::array::Array;
use millgate_shared::banks::Banks;
use millgate_shared::bundle::manifest::{EMBEDDING, Manifest, model_path};
use millgate_shared::bundle::{Bundle, BundleDigest, BundleError};
use millgate_shared::engine::fixed::FixedModel;
use millgate_shared::engine::{EngineError, OnnxFile, Tract};
use millgate_shared::index::{By, EncoderIx, ExpertIx};
use millgate_shared::inputs::InputError;
use millgate_shared::proof::golden::{self, Passed};
use millgate_shared::proto::inference::ModelConfig;
use millgate_shared::runner::{Holding, Models};

use crate::engines::{Home, Kind, LoadError};
use crate::failure::Failure;
use crate::guests::Household;
use crate::serving::request::{Call, Phases};
use crate::serving::run::Deployed;
use crate::serving::served::Traits;
use crate::serving::{Batching, Serving};
use held::Bundled;

pub(crate) mod held;
pub(crate) mod proving;
mod variants;

/// How the bundle's models are known where other models of the same name may be: a repository's have no such name.
const OF_BUNDLES: &str = "bundle/";

/// Why a bundle is not hosted.
#[derive(Debug, thiserror::Error)]
pub enum HostedError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Serve(#[from] Failure),
}

/// A hosted bundle cannot exist with a model that fails its golden samples, so whoever holds one may answer.
#[derive(Debug)]
pub struct Hosted {
    manifest: Arc<Manifest>,
    digest: BundleDigest,
    passed: Passed,
    encoders: By<EncoderIx, Arc<Deployed>>,
    gate: Arc<Deployed>,
    experts: By<ExpertIx, Arc<Deployed>>,
    /// All of these, once each.
    models: Vec<Arc<Deployed>>,
    banks: Arc<Banks>,
}

impl Bundled for Arc<Hosted> {
    fn digest(&self) -> BundleDigest {
        self.digest
    }
}

/// One model's answer for one sample.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) served: Arc<Deployed>,
    /// Outputs in the signature's order.
    pub(crate) outputs: Vec<Array>,
    pub(crate) phases: Phases,
}

impl Ran {
    pub(crate) fn output(&self, name: &str) -> Option<&Array> {
        self.outputs.get(self.served.signature().output(name)?)
    }
}

impl Hosted {
    /// Loads and proves a bundle, and does not answer for it yet: blocks for as long as that takes.
    ///
    /// Where there are workers, one lives through all of it first, once for each bundle: shapes are fixed, so that tract
    /// does nothing here then that was not seen to go well.
    pub(crate) fn load(bundle: &Bundle, serving: &Serving) -> Result<Self, HostedError> {
        let (guests, proofs) = (serving.engines().guests(), serving.engines().proofs());
        if guests.are_apart() && !proofs.has(bundle.digest()) {
            proving::prove(bundle, guests)?;
            proofs.add(bundle.digest());
        }
        let household = guests.household("bundle");
        let models = Arc::new(Models::load(bundle, Holding::All, &Tract)?);
        let passed = golden::check(bundle, &models)?;
        let manifest = Arc::clone(models.manifest());
        let mut served = HashMap::new();
        for (name, fixed) in models.all() {
            served.insert(name.to_owned(), prepare(serving, bundle, name, (fixed, &household))?);
        }
        let of = |name: &str| served.get(name).cloned().ok_or_else(|| Failure::UnknownModel(name.to_owned()));
        let encoders = manifest.encoders.iter().map(|encoder| of(&encoder.name));
        let encoders = encoders.collect::<Result<_, _>>()?;
        let gate = of(&manifest.gate.name)?;
        let experts = manifest.experts.iter().map(|expert| of(&expert.name)).collect::<Result<_, _>>()?;
        let banks = Arc::clone(models.banks());
        let models = served.into_values().collect();
        Ok(Self { banks, manifest, digest: bundle.digest(), passed, encoders, gate, experts, models })
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub fn digest(&self) -> BundleDigest {
        self.digest
    }

    /// The golden samples that passed.
    pub fn passed(&self) -> Passed {
        self.passed
    }

    /// What is known of the bundle's products.
    pub(crate) fn banks(&self) -> &Arc<Banks> {
        &self.banks
    }

    pub(crate) fn gate(&self) -> &Arc<Deployed> {
        &self.gate
    }

    /// Every model of the bundle, for clients that ask by name.
    pub(crate) fn models(&self) -> &[Arc<Deployed>] {
        &self.models
    }

    pub(crate) fn experts(&self) -> &By<ExpertIx, Arc<Deployed>> {
        &self.experts
    }

    /// An expert's answer for one sample; `inputs` in the manifest's order.
    pub(crate) async fn expert(
        &self,
        serving: &Serving,
        expert: ExpertIx,
        inputs: Vec<Array>,
        call: Call,
    ) -> Result<Ran, Failure> {
        let names = self.manifest.experts[expert].inputs.iter().map(|input| input.name.as_str());
        ask(serving, &self.experts[expert], names.zip(inputs).collect(), call).await
    }
}

/// What an encoder makes of its modality, `[1, dims]`.
pub(crate) async fn embed(
    hosted: &Hosted,
    serving: &Serving,
    encoder: EncoderIx,
    input: Array,
    call: Call,
) -> Result<Array, Failure> {
    let (spec, served) = (&hosted.manifest.encoders[encoder], &hosted.encoders[encoder]);
    let ran = ask(serving, served, vec![(spec.modality.as_str(), input)], call).await?;
    let embedding = ran.output(EMBEDDING).cloned();
    embedding.ok_or_else(|| Failure::Model(format!("model `{}` gave no `{EMBEDDING}`", served.name)))
}

/// A model's answer for one sample, by its inputs' names.
pub(crate) async fn ask(
    serving: &Serving,
    served: &Arc<Deployed>,
    inputs: Vec<(&str, Array)>,
    call: Call,
) -> Result<Ran, Failure> {
    let mut inputs = inputs;
    let mut ordered = Vec::with_capacity(inputs.len());
    for port in &served.signature().inputs {
        let at = inputs.iter().position(|(name, _)| *name == port.name);
        let at = at.ok_or_else(|| InputError::Absent(port.name.clone()))?;
        ordered.push(inputs.swap_remove(at).1);
    }
    let done = serving.compute(served, ordered, String::new(), call).await?;
    Ok(Ran { served: Arc::clone(served), outputs: done.outputs, phases: done.phases })
}

/// A bundle's own model, for the mixture and for clients that ask by name. `fixed` is the same one, proved.
fn prepare(
    serving: &Serving,
    bundle: &Bundle,
    name: &str,
    (fixed, household): (&FixedModel, &Household),
) -> Result<Arc<Deployed>, HostedError> {
    let path = model_path(name);
    let onnx = bundle.read(&path)?;
    let refuse = |error: EngineError| BundleError::Model { file: path.clone(), source: error.into() };
    let file = OnnxFile::read(onnx.into(), None).map_err(refuse)?;
    let not_ready = |error: LoadError| Failure::Unservable { model: name.to_owned(), reason: error.reason };
    let (engines, config) = (serving.engines(), ModelConfig::default());
    let (known_as, face) = (format!("{OF_BUNDLES}{name}"), bundle.digest().to_string());
    let home = Home::of_bundle(name, household, true);
    let mut loaded = match serving.strikes().aside(&known_as, &face) {
        None => engines.load(name, &file, &config, &[], &home).map_err(not_ready)?,
        Some(why) => engines.load_with(Kind::TRACT, name, &file, &home, why).map_err(not_ready)?,
    };
    if loaded.model.engine() != Tract::NAME
        && let Err(error) =
            golden::check_model(bundle, name, &Arc::new(fixed.run_by(Arc::clone(&loaded.model))))
    {
        tracing::warn!(model = name, engine = loaded.model.engine(), %error, "tract runs it instead");
        let why = format!("{} fails its golden samples: {error}", loaded.model.engine());
        loaded = engines.load_with(Kind::TRACT, name, &file, &home, why).map_err(not_ready)?;
    }
    if loaded.model.engine() == Tract::NAME && !loaded.model.takes_known_memory() {
        // What its values decide was not lived through.
        let home = Home::of_bundle(name, household, false);
        loaded = engines.load_with(Kind::TRACT, name, &file, &home, loaded.choice.why).map_err(not_ready)?;
    }
    // A variant was not proved beside its expert.
    let variants = Home::of_bundle(name, household, false);
    let expert = bundle.manifest().experts.iter().find(|expert| expert.name == name);
    if let Some(variant) =
        expert.and_then(|expert| variants::best(engines, bundle, expert, &loaded, &variants))
    {
        loaded = variant;
    }
    let labels = expert.map(|expert| ("logits".to_owned(), expert.labels.clone())).into_iter().collect();
    let traits = Traits { finite_only: true, is_fixed: true, labels, ..Traits::default() };
    let record = serving.strikes().record(&known_as, &face);
    Ok(serving.adopt(name, 1, loaded, traits, Batching::default(), record))
}
