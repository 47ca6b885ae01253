//! What an operator can say of engines: `[engines]` in the pool's configuration, and the keys of a model's own
//! `config.pbtxt` that speak of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millgate_shared::proto::inference::{ModelConfig, model_instance_group};
use serde::Deserialize;

use super::providers::{self, Provider};
use super::table::{Kind, Preference};

/// More threads for one run than any machine has cores.
const MOST_THREADS: usize = 256;

/// `[engines]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnginesConfig {
    /// For a model that says nothing else. Default `auto`.
    pub default: Preference,
    /// `libonnxruntime.so`, 1.24 or newer; from the working directory. Empty: none, and none is looked for. Default none:
    /// it is looked for, in the places that `docs/serving.md` lists; where it is not, tract runs everything.
    pub onnxruntime_library: Option<PathBuf>,
    /// What ONNX Runtime computes with, the first that can: `cpu`, `cuda`, `cuda:1`, `tensorrt`. Default `["cpu"]`.
    pub execution_providers: Vec<Provider>,
    /// By model name. Default none.
    pub models: BTreeMap<String, ModelEngine>,
}

impl Default for EnginesConfig {
    fn default() -> Self {
        Self {
            default: Preference::Auto,
            onnxruntime_library: None,
            execution_providers: vec![Provider::Cpu],
            models: BTreeMap::new(),
        }
    }
}

/// What is said of one model; what is absent is as for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelEngine {
    pub engine: Option<Preference>,
    /// Threads that one run of it may use in ONNX Runtime. Default 1: the pool's own threads are the parallelism.
    pub threads: Option<usize>,
    pub execution_providers: Option<Vec<Provider>>,
}

impl EnginesConfig {
    /// What cannot be used, as the key and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        providers::check(&self.execution_providers)
            .map_err(|message| ("engines.execution_providers", message))?;
        for (name, model) in &self.models {
            let refuse = |message: String| Err(("engines.models", format!("`{name}`: {message}")));
            if let Some(providers) = &model.execution_providers
                && let Err(message) = providers::check(providers)
            {
                return refuse(format!("execution_providers: {message}"));
            }
            if model.threads.is_some_and(|threads| !(1..=MOST_THREADS).contains(&threads)) {
                return refuse(format!("threads: must be 1 to {MOST_THREADS}"));
            }
        }
        Ok(())
    }

    /// The first key by which ONNX Runtime is asked for, so that a pool without it must not start.
    pub(super) fn wants_onnxruntime(&self) -> Option<String> {
        let is_beyond_cpu = |providers: &[Provider]| providers != [Provider::Cpu];
        if self.default == Preference::Only(Kind::ONNX_RUNTIME) {
            return Some("engines.default".to_owned());
        }
        let asking =
            self.models.iter().find(|(_, model)| model.engine == Some(Preference::Only(Kind::ONNX_RUNTIME)));
        if let Some((name, _)) = asking {
            return Some(format!("engines.models.{name}.engine"));
        }
        let of_models = self.models.values().filter_map(|model| model.execution_providers.as_deref());
        let mut lists = std::iter::once(&*self.execution_providers).chain(of_models);
        lists.any(is_beyond_cpu).then(|| "execution_providers".to_owned())
    }

    /// What holds for a model: what the pool's configuration says of it by name, else its own, else what is said of
    /// all.
    pub(super) fn of(&self, name: &str, own: &ModelConfig) -> Result<Wanted, String> {
        let named = self.models.get(name).cloned().unwrap_or_default();
        let own = OwnWish::read(own)?;
        let (engine, asked_by) = match (named.engine, own.engine) {
            (Some(engine), _) => (engine, "the pool's configuration of this model"),
            (None, Some(engine)) => (engine, "its config.pbtxt"),
            (None, None) => (self.default, "`engines.default`"),
        };
        // A repository made for another machine may name accelerators that are not here; what the pool's own
        // configuration names must be here.
        let (providers, may_lack) = match (named.execution_providers, own.providers) {
            (Some(providers), _) => (providers, false),
            (None, Some(providers)) => (providers, true),
            (None, None) => (self.execution_providers.clone(), false),
        };
        let threads = named.threads.or(own.threads).unwrap_or(1);
        Ok(Wanted { engine, asked_by, threads, providers, may_lack })
    }
}

/// What holds for a model, once everything that is said of it is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) engine: Preference,
    /// Where the engine was asked for, in words.
    pub(crate) asked_by: &'static str,
    /// Threads of one run.
    pub(crate) threads: usize,
    pub(crate) providers: Vec<Provider>,
    /// Providers that the library lacks are passed over with a warning.
    pub(crate) may_lack: bool,
}

/// What a model's `config.pbtxt` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct OwnWish {
    engine: Option<Preference>,
    threads: Option<usize>,
    providers: Option<Vec<Provider>>,
}

impl OwnWish {
    fn read(config: &ModelConfig) -> Result<Self, String> {
        let parameter = |name: &str| config.parameters.get(name).map(|value| value.string_value.as_str());
        let engine = parameter("engine").map(|name| {
            Preference::from_name(name).map_err(|message| format!("parameters `engine`: {message}"))
        });
        // Triton's name; 0 leaves it to the server.
        let threads = parameter("intra_op_thread_count").map(|count| match count.parse() {
            Ok(count @ 0..=MOST_THREADS) => Ok(count),
            _ => Err(format!("parameters `intra_op_thread_count`: `{count}` is not 0 to {MOST_THREADS}")),
        });
        let threads = threads.transpose()?.filter(|count| *count > 0);
        Ok(Self { engine: engine.transpose()?, threads, providers: own_providers(config)? })
    }
}

/// Triton's way of asking for a GPU: an instance group of that kind, with accelerators before it.
fn own_providers(config: &ModelConfig) -> Result<Option<Vec<Provider>>, String> {
    let group = config.instance_group.iter().find(|group| group.kind() == model_instance_group::Kind::Gpu);
    let device = group.and_then(|group| group.gpus.first()).copied().unwrap_or(0);
    let device = u32::try_from(device).map_err(|_| format!("instance_group.gpus: {device} is negative"))?;
    let accelerators = config.optimization.as_ref().and_then(|it| it.execution_accelerators.as_ref());
    let mut providers = Vec::new();
    for accelerator in accelerators.iter().flat_map(|all| &all.gpu_execution_accelerator) {
        match accelerator.name.as_str() {
            "tensorrt" => providers.push(Provider::TensorRt(device)),
            "cuda" => {}
            other => {
                return Err(format!(
                    "optimization.execution_accelerators: `{other}` is not tensorrt or cuda"
                ));
            }
        }
    }
    if group.is_none() && accelerators.is_none_or(|all| all.gpu_execution_accelerator.is_empty()) {
        return Ok(None);
    }
    providers.dedup();
    providers.extend([Provider::Cuda(device), Provider::Cpu]);
    Ok(Some(providers))
}

#[cfg(test)]
mod tests;
