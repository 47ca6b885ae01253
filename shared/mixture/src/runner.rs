//! A bundle's models at work: sample → embeddings → gate scores, and sample → an expert's logits.
//!
//! [`Models`] is loaded once and shared; each computing thread holds a [`Runner`]. A runner is the only thing that
//! touches a model, and it runs on threads made for that, never on an async one.

use std::sync::Arc;

use millgate_array::Array;
use millgate_bundle::{Bundle, BundleDigest, BundleError};
use millgate_engine::fixed::{FixedModel, FixedPort, FixedSession};
use millgate_engine::{Engine, EngineError};
use millgate_model::manifest::{Manifest, Tier, model_path};
use millgate_sample::index::{By, EncoderIx, ExpertIx};
use millgate_sample::sample::Sample;

use crate::embedding::{Embedding, Embeddings};
use crate::inputs::{GATE_INPUTS, InputError, encoder_input, expert_inputs, gate_inputs};
use crate::novelty::Banks;

/// Choice of experts that a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Experts of tier `edge` alone.
    Edge,
    All,
}

/// Models of one bundle, loaded.
#[derive(Debug)]
pub struct Models {
    manifest: Arc<Manifest>,
    digest: BundleDigest,
    encoders: By<EncoderIx, Arc<FixedModel>>,
    gate: Arc<FixedModel>,
    /// Model of each expert; `None` where this process does not hold it.
    experts: By<ExpertIx, Option<Loaded>>,
    banks: Arc<Banks>,
}

#[derive(Debug)]
struct Loaded {
    model: Arc<FixedModel>,
    logits: usize,
    /// The output by which samples are compared: `nov` where the model has it, else `feat`.
    features: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("expert `{0}` is not held here")]
    NotHeld(String),
    #[error("model `{model}` {source}")]
    Engine { model: String, source: EngineError },
    #[error("model `{model}` gave a value that is not finite")]
    NotFinite { model: String },
}

impl Models {
    /// Loads the models; their golden samples are not run here (see [`crate::proof::golden`]).
    pub fn load(bundle: &Bundle, holding: Holding, engine: &dyn Engine) -> Result<Self, BundleError> {
        let manifest = Arc::new(bundle.manifest().clone());
        let load = |name: &str, inputs: &[FixedPort]| {
            let file = model_path(name);
            let onnx = bundle.read(&file)?;
            let model = FixedModel::load(engine, &onnx, inputs)
                .map_err(|error| BundleError::Model { file, source: error.into() })?;
            Ok::<_, BundleError>(Arc::new(model))
        };
        let require = |name: &str, model: &FixedModel, output: &str, shape: &[usize]| {
            model
                .require_output(output, shape)
                .map_err(|error| BundleError::Model { file: model_path(name), source: error.into() })
        };

        let mut encoders = By::default();
        for encoder in &manifest.encoders {
            let model = load(&encoder.name, &[port(&encoder.modality, &encoder.shape)])?;
            require(&encoder.name, &model, "embedding", &[1, encoder.dims])?;
            encoders.push(model);
        }
        let dims = manifest.encoders.first().map_or(0, |encoder| encoder.dims);
        let [embeddings, presence] = GATE_INPUTS;
        let embeddings = port(embeddings, &[encoders.len(), dims]);
        let presence = port(presence, &[manifest.modalities.len()]);
        let gate = load(&manifest.gate.name, &[embeddings, presence])?;
        require(&manifest.gate.name, &gate, "scores", &[1, manifest.experts.len()])?;

        let mut experts = By::default();
        for expert in &manifest.experts {
            if holding == Holding::Edge && expert.tier == Tier::Cloud {
                experts.push(None);
                continue;
            }
            let ports: Vec<FixedPort> =
                expert.inputs.iter().map(|input| port(&input.name, &input.shape)).collect();
            let model = load(&expert.name, &ports)?;
            let logits = require(&expert.name, &model, "logits", &[1, expert.labels.len()])?;
            let feat = require(&expert.name, &model, "feat", &[1, expert.feature_dims])?;
            let features = model.output_index("nov").unwrap_or(feat);
            experts.push(Some(Loaded { model, logits, features }));
        }
        let banks = Arc::new(Banks::load(bundle)?);
        banks.check_widths(&manifest, |name| {
            let loaded = experts.get(manifest.expert_index(name)?)?.as_ref()?;
            loaded.model.outputs().get(loaded.features)?.shape.last().copied()
        })?;
        Ok(Self { manifest, digest: bundle.digest(), encoders, gate, experts, banks })
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub fn digest(&self) -> BundleDigest {
        self.digest
    }

    /// What is known of the products.
    pub fn banks(&self) -> &Arc<Banks> {
        &self.banks
    }

    pub fn holds(&self, expert: ExpertIx) -> bool {
        self.experts.get(expert).is_some_and(Option::is_some)
    }

    /// Gives the model of an expert that is held here; `None` for any other.
    pub fn expert(&self, expert: ExpertIx) -> Option<&Arc<FixedModel>> {
        self.experts.get(expert)?.as_ref().map(|loaded| &loaded.model)
    }

    /// Names the engine that runs an expert here; empty where the expert is not held.
    pub fn engine_of(&self, expert: ExpertIx) -> &'static str {
        self.expert(expert).map_or("", |model| model.engine())
    }

    /// Lists every model that is held here, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Arc<FixedModel>)> {
        let encoders = self.manifest.encoders.iter().map(|encoder| encoder.name.as_str()).zip(&self.encoders);
        let gate = [(self.manifest.gate.name.as_str(), &self.gate)];
        let experts = self.manifest.experts.iter().zip(&self.experts);
        let experts =
            experts.filter_map(|(expert, loaded)| Some((expert.name.as_str(), &loaded.as_ref()?.model)));
        encoders.chain(gate).chain(experts)
    }

    pub fn runner(self: &Arc<Self>) -> Result<Runner, RunError> {
        let session = |name: &str, model: &Arc<FixedModel>| {
            model.session().map_err(|source| RunError::Engine { model: name.to_owned(), source })
        };
        let encoders = self.manifest.encoders.iter().zip(&self.encoders);
        let experts = self.manifest.experts.iter().zip(&self.experts);
        Ok(Runner {
            encoders: encoders
                .map(|(encoder, model)| session(&encoder.name, model))
                .collect::<Result<_, _>>()?,
            gate: session(&self.manifest.gate.name, &self.gate)?,
            experts: experts
                .map(|(expert, loaded)| {
                    loaded.as_ref().map(|loaded| session(&expert.name, &loaded.model)).transpose()
                })
                .collect::<Result<_, _>>()?,
            models: Arc::clone(self),
        })
    }
}

/// State of one thread for the models of a bundle.
#[derive(Debug)]
pub struct Runner {
    models: Arc<Models>,
    encoders: By<EncoderIx, FixedSession>,
    gate: FixedSession,
    experts: By<ExpertIx, Option<FixedSession>>,
}

impl Runner {
    pub fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// Runs the encoders on what is present.
    pub fn embeddings(&mut self, sample: &Sample) -> Result<Embeddings, RunError> {
        let manifest = &self.models.manifest;
        let mut embeddings = By::default();
        for (encoder, session) in manifest.encoders.iter().zip(&mut self.encoders) {
            let Some(input) = encoder_input(manifest, encoder, sample)? else {
                embeddings.push(None);
                continue;
            };
            let mut outputs = run(&encoder.name, session, vec![input])?;
            let index = session.model().output_index("embedding").filter(|index| *index < outputs.len());
            let output = index.map(|index| outputs.swap_remove(index));
            let output = output.ok_or_else(|| RunError::Engine {
                model: encoder.name.clone(),
                source: EngineError::MissingOutput("embedding".to_owned()),
            })?;
            embeddings.push(Some(Embedding::of_encoder(output)));
        }
        Ok(Embeddings::new(embeddings))
    }

    /// Runs the gate on what the encoders made of the sample: a logit for each expert.
    pub fn scores(
        &mut self,
        sample: &Sample,
        embeddings: &Embeddings,
    ) -> Result<By<ExpertIx, f64>, RunError> {
        let manifest = &self.models.manifest;
        let inputs = gate_inputs(manifest, sample, embeddings)?.into();
        let outputs = run(&manifest.gate.name, &mut self.gate, inputs)?;
        Ok(named(&self.gate, &outputs, "scores").iter().map(|score| f64::from(*score)).collect())
    }

    /// Runs an expert on a sample and gives its logits, and the features by which samples are compared.
    pub fn answer(
        &mut self,
        expert: ExpertIx,
        sample: &Sample,
        embeddings: &Embeddings,
    ) -> Result<[Vec<f32>; 2], RunError> {
        let inputs = expert_inputs(&self.models.manifest, expert, sample, embeddings)?;
        let outputs = self.outputs(expert, inputs)?;
        let loaded = self.models.experts[expert].as_ref();
        let (logits, features) = loaded.map_or((0, 0), |loaded| (loaded.logits, loaded.features));
        let name = &self.models.manifest.experts[expert].name;
        let numbers = |at: usize| Ok::<_, RunError>(fp32(name, &outputs[at])?.to_vec());
        Ok([numbers(logits)?, numbers(features)?])
    }

    /// Runs an expert on inputs in the manifest's order, and gives all outputs in its model's order.
    pub fn outputs(&mut self, expert: ExpertIx, inputs: Vec<Array>) -> Result<Vec<Array>, RunError> {
        let name = &self.models.manifest.experts[expert].name;
        let session = self.experts[expert].as_mut().ok_or_else(|| RunError::NotHeld(name.clone()))?;
        run(name, session, inputs)
    }
}

/// Makes a port of a shape without the batch axis.
pub(crate) fn port(name: &str, shape: &[usize]) -> FixedPort {
    FixedPort { name: name.to_owned(), shape: [1].iter().chain(shape).copied().collect() }
}

fn run(name: &str, session: &mut FixedSession, inputs: Vec<Array>) -> Result<Vec<Array>, RunError> {
    let outputs =
        session.run(inputs).map_err(|source| RunError::Engine { model: name.to_owned(), source })?;
    if !outputs.iter().all(Array::is_finite) {
        return Err(RunError::NotFinite { model: name.to_owned() });
    }
    Ok(outputs)
}

/// Reads a model's own FP32 output; [`FixedSession::run`] gives no others.
fn fp32<'a>(model: &str, output: &'a Array) -> Result<&'a [f32], RunError> {
    output.as_fp32().map_err(|source| RunError::Engine { model: model.to_owned(), source: source.into() })
}

/// Finds an output that was required when the model was loaded.
fn named<'a>(session: &FixedSession, outputs: &'a [Array], name: &str) -> &'a [f32] {
    let index = session.model().output_index(name);
    index.and_then(|index| outputs.get(index)).map_or(&[], |output| output.as_fp32().unwrap_or(&[]))
}
