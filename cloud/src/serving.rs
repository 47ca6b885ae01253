//! Models as a server's clients see them: by name and version, loaded, proved, batched.
//!
//! request -> [`served`] (checked against the file's own signature) -> `rows` (cut where that pays) -> `threads` (scheduler)
//! -> `batch` -> answer. A [`composite`] model is one whose parts go this way.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use millgate_shared::array::Array;
use millgate_shared::engine::{OnnxFile, Port};

use crate::engines::appetite::Appetite;
use crate::engines::choice::Choice;
use crate::engines::{Engines, Home, LoadError, Loaded};
use crate::failure::Failure;
use crate::readiness::Readiness;
use crate::scheduling::{Curve, Profile};
use crate::strikes::{Record, Strikes};
use cache::{Cache, Usage};
use catalogue::{Catalogue, Listed, Slot, Versions};
use composite::Composite;
use config::CacheConfig;
use request::{Call, InferRequest, InferResponse, Named, Parameter, Parameters, Phases};
use room::Room;
use run::{Deployed, Run};
use served::{Served, Traits};
use span::Inference;
use statistics::{Outcome, Statistics};
use threads::{Pressure, Threads, Times};

pub(crate) mod batch;
pub(crate) mod buckets;
pub(crate) mod cache;
pub(crate) mod catalogue;
mod classes;
mod classification;
pub(crate) mod composite;
pub(crate) mod config;
pub(crate) mod entry;
mod job;
pub(crate) mod policy;
pub(crate) mod request;
mod room;
mod rows;
pub(crate) mod run;
pub(crate) mod served;
mod span;
pub(crate) mod statistics;
mod threads;

/// Parameters that are ours; all others part the batches.
const OWN_PARAMETERS: [&str; 2] = [PRIORITY, "timeout"];
/// The rank that is asked for; and the one at which an answer was served that had no right to the former.
const PRIORITY: &str = "priority";
const PRIORITY_GRANTED: &str = "priority_granted";
/// Whether an answer was kept, where answers are; a parameter of it.
const CACHE_HIT: &str = "cache_hit";

/// How a model is batched, where its configuration says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batching {
    pub(crate) delay: Duration,
    pub(crate) preferred: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Serving {
    engines: Engines,
    threads: Arc<Threads>,
    models: Catalogue,
    /// `None`: no answers are kept.
    cache: Option<Cache>,
    /// Requests so far that share with no other one.
    alone: AtomicU64,
    readiness: Readiness,
    strikes: Strikes,
    room: Room,
}

impl Serving {
    /// `queue` bounds what may wait; answers are kept if `cache` grants any bytes for them. `patience`: how long work
    /// may wait while none gets finished, until no more is wanted. `strikes` know what models have ended.
    pub(crate) fn start(
        (threads, queue): (usize, usize),
        engines: Engines,
        cache: &CacheConfig,
        patience: Duration,
        strikes: Strikes,
    ) -> Self {
        let readiness = Readiness::default();
        let times = Times { longest_run: engines.longest_run(), patience };
        let room = Room::of(engines.guests());
        let threads = Arc::new(Threads::start(threads, queue, times, &readiness));
        let (models, cache, alone) = (Catalogue::default(), Cache::new(cache), AtomicU64::new(0));
        Self { engines, threads, models, cache, alone, readiness, strikes, room }
    }

    /// What models have ended.
    pub(crate) fn strikes(&self) -> &Strikes {
        &self.strikes
    }

    /// Whether work is wanted.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// `None` where no answers are kept.
    pub(crate) fn cache_usage(&self) -> Option<Usage> {
        self.cache.as_ref().map(Cache::usage)
    }

    /// What waits.
    pub(crate) fn pressure(&self) -> Pressure {
        self.threads.pressure()
    }

    /// Loads and tries a model, and does not serve it yet; blocks for as long as that takes. `given`: inputs that its
    /// configuration brings, for its trial.
    pub(crate) fn prepare(
        &self,
        name: &str,
        version: u64,
        file: &OnnxFile,
        (traits, batching): (Traits, Batching),
        given: &[Arc<Vec<Array>>],
        record: Record,
    ) -> Result<Arc<Deployed>, LoadError> {
        let loaded = self.engines.load(name, file, &traits.config, given, &Home::own(name))?;
        Ok(self.adopt(name, version, loaded, traits, batching, record))
    }

    /// Makes a model that was loaded and tried ready to be served, and does not serve it yet.
    pub(crate) fn adopt(
        &self,
        name: &str,
        version: u64,
        loaded: Loaded,
        traits: Traits,
        batching: Batching,
        record: Record,
    ) -> Arc<Deployed> {
        let Loaded { model, trial, choice, appetite } = loaded;
        let rows_are_independent = trial.rows_are_independent && traits.max_rows != Some(0);
        let curve = Curve::new(trial.times);
        let most_rows = match traits.max_rows {
            _ if !rows_are_independent => 1,
            Some(most) => most,
            None => usize::MAX,
        };
        let knee = curve.knee().min(most_rows);
        let most_waiting = traits.queue.most_waiting();
        let profile =
            Profile { curve, most_rows, delay: batching.delay, preferred: batching.preferred, most_waiting };
        tracing::debug!(model = name, version, knee, rows_are_independent, "loaded");
        let run = Run::Queue(self.threads.register(name, profile));
        let served = Served {
            name: name.to_owned(),
            version,
            model,
            is_composite: false,
            choice,
            unproven: trial.unproven,
            rows_are_independent,
            knee,
            statistics: if traits.is_fixed { self.bundles_statistics(name) } else { Arc::default() },
            traits,
            record,
            appetite,
        };
        Arc::new(Deployed { served: Arc::new(served), run })
    }

    /// Makes a model of others, which belongs to the bundle, and does not serve it yet.
    pub(crate) fn compose(&self, name: &str, composite: Arc<dyn Composite>, traits: Traits) -> Arc<Deployed> {
        let served = Arc::new(Served {
            name: name.to_owned(),
            version: 1,
            model: composite.model(),
            choice: Choice::whole(composite.model().engine()),
            unproven: None,
            is_composite: true,
            rows_are_independent: true,
            knee: 1,
            traits: Traits { is_fixed: true, ..traits },
            statistics: self.bundles_statistics(name),
            record: Record::default(),
            appetite: Appetite::default(),
        });
        Arc::new(Deployed { served, run: Run::Composite(composite) })
    }

    /// A name's statistics, which go on when another bundle brings a model of the same name.
    fn bundles_statistics(&self, name: &str) -> Arc<Statistics> {
        let known = self.find(name, "").ok().filter(|known| known.traits.is_fixed);
        known.map_or_else(Arc::default, |known| Arc::clone(&known.statistics))
    }

    /// Serves the models of a bundle from now on, under their names, in place of those that belong to a bundle now; all
    /// at once. What is asked of one of before is still answered by it.
    pub(crate) fn exchange(&self, models: &[Arc<Deployed>]) {
        let gone = self.models.exchange(models);
        let Some(cache) = &self.cache else { return };
        gone.iter().filter_map(|gone| gone.id()).for_each(|id| cache.forget(id));
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.count()
    }

    /// What waits for a thread.
    pub(crate) fn queued(&self) -> usize {
        self.threads.queued()
    }

    /// What a row takes alone.
    pub(crate) fn expected(&self, deployed: &Deployed) -> Duration {
        deployed.id().map_or(Duration::ZERO, |id| self.threads.expected(id))
    }

    /// The versions of `name` are these from now on. What is asked of one of before is still answered by it.
    pub(crate) fn replace(&self, name: &str, versions: Versions) {
        self.put(name, versions, String::new());
    }

    fn put(&self, name: &str, versions: Versions, reason: String) {
        let before = self.versions(name);
        self.models.put(name, versions, reason);
        let Some(cache) = &self.cache else { return };
        let after = self.versions(name);
        for gone in before.iter().filter(|before| after.iter().all(|after| after.id() != before.id())) {
            gone.id().into_iter().for_each(|id| cache.forget(id));
        }
    }

    /// A model could not be loaded. What is served of it stays; otherwise the index says why nothing is. What belongs
    /// to the bundle stays as it is.
    pub(crate) fn unavailable(&self, name: &str, versions: Versions, reason: String) {
        if self.models.versions(name).is_empty() {
            self.models.put(name, versions, reason);
        }
    }

    /// Whether a model of this name is served that belongs to the bundle.
    pub(crate) fn is_fixed(&self, name: &str) -> bool {
        self.find(name, "").is_ok_and(|served| served.traits.is_fixed)
    }

    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.models.slots(name).is_some()
    }

    /// Takes every version out; what was asked before is still answered.
    pub(crate) fn unload(&self, name: &str) -> Result<(), Failure> {
        if self.is_fixed(name) {
            return Err(Failure::Unsupported(format!("`{name}` belongs to the bundle and stays")));
        }
        let before = self.models.slots(name).ok_or_else(|| Failure::UnknownModel(name.to_owned()))?;
        let gone = |(version, slot)| match slot {
            Slot::Ready(_) => (version, Slot::Unloaded),
            slot => (version, slot),
        };
        self.put(name, before.into_iter().map(gone).collect(), "unloaded".to_owned());
        Ok(())
    }

    /// The model, if it is ready; an empty version means the highest that is.
    pub(crate) fn find(&self, name: &str, version: &str) -> Result<Arc<Deployed>, Failure> {
        self.models.find(name, version)
    }

    /// Like [`Self::find`], but an empty version gives every one that is ready, lowest first.
    pub(crate) fn find_all(&self, name: &str, version: &str) -> Result<Vec<Arc<Deployed>>, Failure> {
        let found = self.find(name, version)?;
        Ok(if version.is_empty() { self.versions(name) } else { vec![found] })
    }

    /// Every version that is ready, lowest first; none of a name that is not here.
    pub(crate) fn versions(&self, name: &str) -> Vec<Arc<Deployed>> {
        self.models.versions(name)
    }

    /// All that are ready, by name and version.
    pub(crate) fn all(&self) -> Vec<Arc<Deployed>> {
        self.models.all()
    }

    pub(crate) fn index(&self) -> Vec<Listed> {
        self.models.index()
    }

    /// A model's own default timeout may bring the deadline forward, and the request may ask for a rank.
    pub(crate) async fn infer(&self, request: InferRequest, call: Call) -> Result<InferResponse, Failure> {
        let Call { arrived, deadline, .. } = call;
        let served = self.find(&request.model, &request.version)?;
        let mut counted = Counted { served: &served.served, arrived, deadline, outcome: None };
        let mut traced = Inference::begin(&served, &request.id, arrived);
        let answer = self.answer(&served, request, call, &mut traced).await;
        counted.outcome = Some(answer.as_ref().map_or_else(Outcome::of, |_| Outcome::Ok));
        traced.end(answer.as_ref().err());
        answer
    }

    async fn answer(
        &self,
        served: &Arc<Deployed>,
        request: InferRequest,
        mut call: Call,
        traced: &mut Inference,
    ) -> Result<InferResponse, Failure> {
        let wanted = wanted(served, &request)?;
        let (priority, own) = served.traits.queue.of(request.priority()?);
        let own = own.and_then(|timeout| call.arrived.checked_add(timeout));
        call.deadline = own.map_or(call.deadline, |own| own.min(call.deadline));
        let is_ranked = call.rank(priority) || !request.parameters.contains_key(PRIORITY);
        let granted = (!is_ranked).then_some(call.priority);
        if !is_ranked {
            self.threads.outranked(&call);
        }
        if served.served.is_composite {
            call.parameters = Arc::new(request.parameters.clone());
        }
        let parameters = bucket_parameters(&request.parameters);
        let inputs = ordered(served, request.inputs)?;
        let cache = self.cache.as_ref().filter(|cache| cache.is_for(served)).zip(served.id());
        let looking = Instant::now();
        let (inputs, key) = match cache {
            None => (inputs, None),
            Some((cache, id)) => {
                let (key, inputs) = cache.key(id, &parameters, inputs).await?;
                if let Some(outputs) = cache.get(&key) {
                    served.statistics.cached(true, looking.elapsed());
                    traced.cached();
                    let mut parameters = phase_parameters(&Phases::default(), granted);
                    parameters.insert(CACHE_HIT.to_owned(), Parameter::Bool(true));
                    let output = |at: usize| outputs.get(at).cloned();
                    return response(&served.served, request.id, parameters, &wanted, output).await;
                }
                (inputs, Some((cache, key, looking.elapsed())))
            }
        };
        let done = self.compute(served, inputs, parameters, call).await?;
        traced.computed(std::iter::once(&done.phases));
        let mut parameters = phase_parameters(&done.phases, granted);
        if let Some((cache, key, looked)) = key {
            let keeping = Instant::now();
            cache.put(key, done.outputs.clone());
            served.statistics.cached(false, looked + keeping.elapsed());
            parameters.insert(CACHE_HIT.to_owned(), Parameter::Bool(false));
        }
        let mut outputs: Vec<Option<Array>> = done.outputs.into_iter().map(Some).collect();
        let output = |at: usize| outputs.get_mut(at).and_then(Option::take);
        response(&served.served, request.id, parameters, &wanted, output).await
    }

    /// Runs `work`, which is no model's but computes, on a model thread. `bytes` is what it holds while it waits.
    pub(crate) async fn on_thread<T, F>(&self, call: Call, bytes: usize, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Failure> + Send + 'static,
    {
        // Also once nobody waits for it any more.
        let kept = call.kept.clone();
        let work = move || {
            let _kept = kept;
            work()
        };
        let (job, result) = job::job(work);
        self.threads.submit_job(&call, bytes, job)?;
        let result = tokio::time::timeout_at(call.deadline.into(), result).await;
        result.map_err(|_| Failure::Deadline)?.unwrap_or(Err(Failure::Stopped))
    }
}

/// An answer of the outputs that are `wanted`.
async fn response(
    served: &Arc<Served>,
    id: String,
    parameters: Parameters,
    wanted: &[Asked],
    mut output: impl FnMut(usize) -> Option<Array>,
) -> Result<InferResponse, Failure> {
    let mut outputs = Vec::with_capacity(wanted.len());
    for Asked { output: at, classes } in wanted {
        let array = output(*at);
        let mut array = array.ok_or_else(|| Failure::Model("an output is missing".to_owned()))?;
        if let Some(count) = classes {
            array = classes::best(served, *at, array, *count).await?;
        }
        outputs.push(Named { name: served.signature().outputs[*at].name.clone(), array });
    }
    let (model, version) = (served.name.clone(), served.version.to_string());
    Ok(InferResponse { model, version, id, parameters, outputs })
}

/// Counts a request out, answered or dropped.
struct Counted<'a> {
    served: &'a Served,
    arrived: Instant,
    deadline: Instant,
    outcome: Option<Outcome>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // Dropped unanswered: the deadline ended it, or its caller went away.
        let late = Instant::now() >= self.deadline;
        let outcome = self.outcome.unwrap_or(if late { Outcome::Expired } else { Outcome::Cancelled });
        self.served.statistics.request(self.arrived.elapsed(), outcome);
    }
}

fn bucket_parameters(parameters: &Parameters) -> String {
    let others: Vec<_> =
        parameters.iter().filter(|(name, _)| !OWN_PARAMETERS.contains(&name.as_str())).collect();
    if others.is_empty() { String::new() } else { format!("{others:?}") }
}

/// An output that is asked for, by index, and how many of its best classes, if it is those.
struct Asked {
    output: usize,
    classes: Option<usize>,
}

/// The outputs that are asked for; each once.
fn wanted(served: &Served, request: &InferRequest) -> Result<Vec<Asked>, Failure> {
    if request.outputs.is_empty() {
        let all = 0..served.signature().outputs.len();
        return Ok(all.map(|output| Asked { output, classes: None }).collect());
    }
    let mut wanted: Vec<Asked> = Vec::with_capacity(request.outputs.len());
    for (at, output) in request.outputs.iter().enumerate() {
        let field = |what: &str| format!("outputs[{at}].{what}");
        let index = served.signature().output(&output.name).ok_or_else(|| {
            Failure::field(field("name"), format!("`{}` is not an output of `{}`", output.name, served.name))
        })?;
        if wanted.iter().any(|asked| asked.output == index) {
            return Err(Failure::field(field("name"), format!("`{}` stands twice", output.name)));
        }
        let classes = classes::asked(served, index, &output.parameters)
            .map_err(|message| Failure::field(field("parameters `classification`"), message))?;
        wanted.push(Asked { output: index, classes });
    }
    Ok(wanted)
}

/// Inputs in the signature's order; each must be there once.
fn ordered(served: &Deployed, inputs: Vec<Named>) -> Result<Vec<Array>, Failure> {
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
    if let Run::Composite(composite) = &served.run {
        composite.complete(&mut places)?;
    }
    let missing = |(place, port): (Option<Array>, &Port)| {
        place.ok_or_else(|| Failure::field("inputs", format!("`{}` is missing", port.name)))
    };
    places.into_iter().zip(ports).map(missing).collect()
}

/// Where the time went, for the caller; and the rank at which it was served, if it asked for a better one in vain.
fn phase_parameters(phases: &Phases, granted: Option<u8>) -> Parameters {
    let granted = granted.map(|rank| (PRIORITY_GRANTED, Parameter::Int64(rank.into())));
    let micros = |time: Duration| Parameter::Int64(time.as_micros() as i64);
    [
        ("queue_us", micros(phases.queue)),
        ("join_us", micros(phases.join)),
        ("compute_us", micros(phases.compute)),
        ("split_us", micros(phases.split)),
        ("batch", Parameter::Int64(phases.batch as i64)),
    ]
    .into_iter()
    .chain(granted)
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
