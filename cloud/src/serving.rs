//! Models as a server's clients see them: by name and version, loaded, proved, batched.
//!
//! request -> [`served`] (checked against the file's own signature) -> `threads` (scheduler) -> `batch` -> answer

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use futures_util::future::try_join_all;
use millgate_shared::array::Array;
use millgate_shared::engine::OnnxFile;
use tokio::sync::oneshot;

use crate::engines::{Engines, Loaded};
use crate::failure::Failure;
use crate::scheduling::{Curve, Profile};
use entry::{Bucket, Done, Entry};
use request::{InferRequest, InferResponse, Named, Parameter, Parameters, Phases};
use served::{Served, Traits};
use statistics::Statistics;
use threads::Threads;

mod batch;
mod entry;
pub(crate) mod request;
pub(crate) mod served;
pub(crate) mod statistics;
mod threads;

/// Priority of a request that names none: explicit ones up to 127 go first.
const DEFAULT_PRIORITY: u8 = 128;
/// Parameters that are ours; all others part the batches.
const OWN_PARAMETERS: [&str; 2] = ["priority", "timeout"];

/// Entries that one request may become.
const MOST_PARTS: usize = 16;

/// How a model is batched, where its configuration says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batching {
    pub(crate) delay: std::time::Duration,
    pub(crate) preferred: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Slot {
    Ready(Arc<Served>),
    Unavailable(String),
}

/// A model in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why it cannot be asked, if it cannot.
    pub(crate) reason: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Serving {
    engines: Engines,
    threads: Threads,
    models: RwLock<BTreeMap<String, Slot>>,
}

impl Serving {
    pub(crate) fn start(threads: usize, queue: usize, engines: Engines) -> Self {
        Self { engines, threads: Threads::start(threads, queue), models: RwLock::default() }
    }

    /// Loads, tries and serves a model, in the place of one of that name; blocks for as long as that takes.
    pub(crate) fn load(
        &self,
        name: &str,
        version: u64,
        file: &OnnxFile,
        traits: Traits,
        batching: Batching,
    ) -> Result<(), Failure> {
        let refuse = |reason: String| Failure::NotReady { model: name.to_owned(), reason };
        let loaded = self.engines.load(name, file, &traits.config).map_err(refuse)?;
        let Loaded { model, trial, choice } = loaded;
        let rows_are_independent = trial.rows_are_independent && traits.max_rows != Some(0);
        let curve = Curve::new(trial.times);
        let most_rows = match traits.max_rows {
            _ if !rows_are_independent => 1,
            Some(most) => most,
            None => usize::MAX,
        };
        let knee = curve.knee().min(most_rows);
        let profile = Profile { curve, most_rows, delay: batching.delay, preferred: batching.preferred };
        tracing::debug!(model = name, version, knee, rows_are_independent, "loaded");
        let id = self.threads.add(profile);
        let (name, statistics) = (name.to_owned(), Statistics::default());
        let served = Served {
            name: name.clone(),
            version,
            model,
            choice,
            rows_are_independent,
            knee,
            id,
            traits,
            statistics,
        };
        self.put(name, Slot::Ready(Arc::new(served)));
        Ok(())
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Keeps the reason for the index. What belongs to the bundle stays as it is.
    pub(crate) fn unavailable(&self, name: &str, reason: String) {
        if !self.is_fixed(name) {
            self.put(name.to_owned(), Slot::Unavailable(reason));
        }
    }

    /// It belongs to the bundle.
    pub(crate) fn is_fixed(&self, name: &str) -> bool {
        self.find(name, "").is_ok_and(|served| served.traits.is_fixed)
    }

    fn put(&self, name: String, slot: Slot) {
        let before = self.models.write().unwrap_or_else(PoisonError::into_inner).insert(name, slot);
        if let Some(Slot::Ready(before)) = before {
            self.threads.remove(before.id, &before.name);
        }
    }

    pub(crate) fn unload(&self, name: &str) -> Result<(), Failure> {
        if self.find(name, "")?.traits.is_fixed {
            return Err(Failure::Unsupported(format!("`{name}` belongs to the bundle and stays")));
        }
        self.unavailable(name, "unloaded".to_owned());
        Ok(())
    }

    /// The model, if it is ready; an empty version means whichever is.
    pub(crate) fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Failure> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        match models.get(name) {
            None => Err(Failure::UnknownModel(name.to_owned())),
            Some(Slot::Unavailable(reason)) => {
                Err(Failure::NotReady { model: name.to_owned(), reason: reason.clone() })
            }
            Some(Slot::Ready(served)) if version.is_empty() || version == served.version.to_string() => {
                Ok(Arc::clone(served))
            }
            Some(Slot::Ready(_)) => {
                Err(Failure::UnknownVersion { model: name.to_owned(), version: version.to_owned() })
            }
        }
    }

    /// All that are ready, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let ready = |slot: &Slot| match slot {
            Slot::Ready(served) => Some(Arc::clone(served)),
            Slot::Unavailable(_) => None,
        };
        models.values().filter_map(ready).collect()
    }

    pub(crate) fn index(&self) -> Vec<Listed> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let listed = |(name, slot): (&String, &Slot)| match slot {
            Slot::Ready(served) => {
                Listed { name: name.clone(), version: served.version.to_string(), reason: None }
            }
            Slot::Unavailable(reason) => {
                Listed { name: name.clone(), version: String::new(), reason: Some(reason.clone()) }
            }
        };
        models.iter().map(listed).collect()
    }

    /// A model's own default timeout may bring the deadline forward.
    pub(crate) async fn infer(
        &self,
        request: InferRequest,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<InferResponse, Failure> {
        let served = self.find(&request.model, &request.version)?;
        let mut counted = Counted { served: &served, arrived, is_answered: false };
        let answer = self.answer(&served, request, arrived, deadline).await;
        counted.is_answered = answer.is_ok();
        answer
    }

    async fn answer(
        &self,
        served: &Arc<Served>,
        request: InferRequest,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<InferResponse, Failure> {
        let wanted = wanted(served, &request)?;
        let own = match request.timeout()? {
            None => served.traits.default_timeout.and_then(|timeout| arrived.checked_add(timeout)),
            Some(_) => None,
        };
        let deadline = own.map_or(deadline, |own| own.min(deadline));
        let priority = match request.parameters.get("priority") {
            None => DEFAULT_PRIORITY,
            Some(value) => match value.whole() {
                Some(0) => DEFAULT_PRIORITY,
                Some(priority) => u8::try_from(priority).unwrap_or(u8::MAX),
                None => return Err(Failure::field("parameters `priority`", "must be a whole number")),
            },
        };
        let bucket_parameters = bucket_parameters(&request.parameters);
        let inputs = ordered(served, request.inputs)?;
        served.check(&inputs)?;
        let rows = served.rows(&inputs)?;
        // What does not pay together is spread over the threads, in few parts: each takes a place in the queue.
        let sizes = match served.rows_are_independent {
            true => sizes(rows, served.knee.max(rows.div_ceil(MOST_PARTS))),
            false => vec![rows],
        };
        let skipped = usize::from(served.rows_are_independent);
        let shapes =
            inputs.iter().map(|input| input.shape().get(skipped..).unwrap_or(&[]).to_vec()).collect();
        let bucket = Bucket { shapes, parameters: bucket_parameters };
        let mut replies = Vec::with_capacity(sizes.len());
        for (inputs, rows) in parts(inputs, &sizes)?.into_iter().zip(&sizes) {
            let (reply, answer) = oneshot::channel();
            let entry = Entry { served: Arc::clone(served), inputs, rows: *rows, arrived, reply };
            self.threads.submit(priority, deadline, bucket.clone(), entry)?;
            replies.push(async { answer.await.unwrap_or_else(|_| Err(lost(&served.name))) });
        }
        let done = tokio::time::timeout_at(deadline.into(), try_join_all(replies)).await;
        let (mut outputs, phases) = whole_answer(done.unwrap_or(Err(Failure::Deadline))?)?;
        let ports = &served.signature().outputs;
        let mut named = Vec::with_capacity(wanted.len());
        for at in wanted {
            let array = outputs.get_mut(at).and_then(Option::take);
            let array = array.ok_or_else(|| Failure::Model("an output is missing".to_owned()))?;
            named.push(Named { name: ports[at].name.clone(), array });
        }
        Ok(InferResponse {
            model: served.name.clone(),
            version: served.version.to_string(),
            id: request.id,
            parameters: phase_parameters(&phases),
            outputs: named,
        })
    }
}

/// Counts a request out, answered or dropped.
struct Counted<'a> {
    served: &'a Served,
    arrived: Instant,
    is_answered: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.served.statistics.request(self.arrived.elapsed(), self.is_answered);
    }
}

fn lost(model: &str) -> Failure {
    Failure::Model(format!("model `{model}` lost the request"))
}

fn bucket_parameters(parameters: &Parameters) -> String {
    let others: Vec<_> =
        parameters.iter().filter(|(name, _)| !OWN_PARAMETERS.contains(&name.as_str())).collect();
    if others.is_empty() { String::new() } else { format!("{others:?}") }
}

/// The outputs that are asked for, by index; each once.
fn wanted(served: &Served, request: &InferRequest) -> Result<Vec<usize>, Failure> {
    if request.outputs.is_empty() {
        return Ok((0..served.signature().outputs.len()).collect());
    }
    let mut wanted = Vec::with_capacity(request.outputs.len());
    for (at, output) in request.outputs.iter().enumerate() {
        let field = |what: &str| format!("outputs[{at}].{what}");
        let index = served.signature().output(&output.name).ok_or_else(|| {
            Failure::field(field("name"), format!("`{}` is not an output of `{}`", output.name, served.name))
        })?;
        if wanted.contains(&index) {
            return Err(Failure::field(field("name"), format!("`{}` stands twice", output.name)));
        }
        if output.parameters.contains_key("classification") {
            return Err(Failure::Unsupported(format!(
                "`{}`: classification is not offered",
                field("parameters")
            )));
        }
        wanted.push(index);
    }
    Ok(wanted)
}

/// Inputs in the signature's order; each must be there once.
fn ordered(served: &Served, inputs: Vec<Named>) -> Result<Vec<Array>, Failure> {
    let ports = &served.signature().inputs;
    let mut places: Vec<Option<Array>> = ports.iter().map(|_| None).collect();
    for (at, input) in inputs.into_iter().enumerate() {
        let field = format!("inputs[{at}].name");
        let Some(index) = served.signature().input(&input.name) else {
            let message = format!("`{}` is not an input of `{}`", input.name, served.name);
            return Err(Failure::field(field, message));
        };
        if places[index].replace(input.array).is_some() {
            return Err(Failure::field(field, format!("`{}` stands twice", input.name)));
        }
    }
    let missing = |(place, port): (Option<Array>, &millgate_shared::engine::Port)| {
        place.ok_or_else(|| Failure::field("inputs", format!("`{}` is missing", port.name)))
    };
    places.into_iter().zip(ports).map(missing).collect()
}

/// `rows` in parts of at most `most`.
fn sizes(rows: usize, most: usize) -> Vec<usize> {
    let mut sizes = vec![most; rows / most];
    sizes.extend((!rows.is_multiple_of(most)).then_some(rows % most));
    sizes
}

fn parts(inputs: Vec<Array>, sizes: &[usize]) -> Result<Vec<Vec<Array>>, Failure> {
    if let [_] = sizes {
        return Ok(vec![inputs]);
    }
    let mut parts: Vec<Vec<Array>> = sizes.iter().map(|_| Vec::new()).collect();
    for input in inputs {
        let split = input.split(sizes).map_err(|error| Failure::field("inputs", error.to_string()))?;
        for (part, array) in parts.iter_mut().zip(split) {
            part.push(array);
        }
    }
    Ok(parts)
}

/// The parts' outputs one after the other, and the longest of each phase.
fn whole_answer(parts: Vec<Done>) -> Result<(Vec<Option<Array>>, Phases), Failure> {
    let phases = parts.iter().map(|part| part.phases).fold(Phases::default(), |all, part| Phases {
        queue: all.queue.max(part.queue),
        join: all.join.max(part.join),
        compute: all.compute.max(part.compute),
        split: all.split.max(part.split),
        batch: all.batch.max(part.batch),
    });
    let mut by_output: Vec<Vec<Array>> = Vec::new();
    for part in parts {
        by_output.resize_with(part.outputs.len(), Vec::new);
        for (of_output, output) in by_output.iter_mut().zip(part.outputs) {
            of_output.push(output);
        }
    }
    let join = |mut parts: Vec<Array>| {
        if parts.len() == 1 {
            return Ok(parts.pop());
        }
        let joined = Array::join(&parts.iter().collect::<Vec<_>>());
        joined.map(Some).map_err(|error| Failure::Model(error.to_string()))
    };
    Ok((by_output.into_iter().map(join).collect::<Result<_, _>>()?, phases))
}

/// Where the time went, for the caller.
fn phase_parameters(phases: &Phases) -> Parameters {
    let micros = |time: std::time::Duration| Parameter::Int64(time.as_micros() as i64);
    [
        ("queue_us", micros(phases.queue)),
        ("join_us", micros(phases.join)),
        ("compute_us", micros(phases.compute)),
        ("split_us", micros(phases.split)),
        ("batch", Parameter::Int64(phases.batch as i64)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
