//! Sends requests and notes how each ended: in a closed loop, or when a schedule says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::proto::inference::ModelInferResponse;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use millgate_shared::shutdown::Tasks;
use tonic::{Code, Request};

use crate::LoadError;
use crate::random::Random;
use crate::requests::{Requests, is_same};
use crate::summary::{End, Sample};
use crate::target::Client;

/// A call without a deadline is given up after this.
const PATIENCE: Duration = Duration::from_secs(30);
/// An open loop keeps no more calls in flight; a request that is due beyond them is not sent, and counted as that.
const MOST_IN_FLIGHT: usize = 8192;

/// What is sent, and to whom.
#[derive(Debug)]
pub struct Load {
    pub clients: Vec<Client>,
    pub models: Vec<Requests>,
    /// Relative weight of each model.
    pub weights: Vec<f64>,
    /// Share of poisoned requests.
    pub poison: f64,
    pub deadline: Option<Duration>,
    /// Whether to collect the numbers that the server sends along with its answers.
    pub phases: bool,
    pub seed: u64,
}

/// Sum and count of each number among the answers' parameters.
pub type Phases = BTreeMap<String, (f64, u64)>;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub samples: Vec<Sample>,
    pub phases: Phases,
}

impl Seen {
    fn add(&mut self, sample: Sample, phases: Vec<(String, f64)>) {
        self.samples.push(sample);
        for (name, value) in phases {
            let (sum, count) = self.phases.entry(name).or_default();
            *sum += value;
            *count += 1;
        }
    }

    fn join(&mut self, other: Self) {
        self.samples.extend(other.samples);
        for (name, (sum, count)) in other.phases {
            let total = self.phases.entry(name).or_default();
            *total = (total.0 + sum, total.1 + count);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Pick {
    model: usize,
    request: usize,
    is_poison: bool,
}

impl Load {
    fn pick(&self, random: &mut Random) -> Pick {
        let mut left = random.share() * self.weights.iter().sum::<f64>();
        let reached = |weight: &f64| {
            left -= weight;
            left < 0.0
        };
        let model = self.weights.iter().position(reached).unwrap_or_default();
        let is_poison = self.poison > 0.0 && random.share() < self.poison;
        let of_model = &self.models[model];
        let among = if is_poison { of_model.poisoned.len() } else { of_model.good.len() };
        Pick { model, request: random.below(among), is_poison }
    }

    /// `due` and the times noted are from `start`.
    async fn send(
        &self,
        connection: usize,
        pick: Pick,
        start: Instant,
        due: Duration,
    ) -> (Sample, Vec<(String, f64)>) {
        let sent = start.elapsed();
        let of_model = &self.models[pick.model];
        let note = |end, done| Sample { model: pick.model, is_poison: pick.is_poison, due, sent, done, end };
        let left = match self.deadline {
            None => PATIENCE,
            // The deadline, too, counts from when the request was due.
            Some(deadline) => deadline.saturating_sub(sent.saturating_sub(due)),
        };
        if left.is_zero() {
            return (note(End::Unsent, sent), Vec::new());
        }
        let among = if pick.is_poison { &of_model.poisoned } else { &of_model.good };
        let mut request = Request::new(among[pick.request].clone());
        request.set_timeout(left);
        let mut client = self.clients[connection % self.clients.len()].clone();
        // The server is told the deadline; one that does not keep it is not waited for.
        let answer = tokio::time::timeout(left, client.model_infer(request)).await;
        let done = start.elapsed();
        match answer {
            Err(_) => (note(End::Failed(Code::DeadlineExceeded), done), Vec::new()),
            // The channel keeps the deadline too, and calls it a cancellation.
            Ok(Err(status)) if status.code() == Code::Cancelled && done.saturating_sub(sent) >= left => {
                (note(End::Failed(Code::DeadlineExceeded), done), Vec::new())
            }
            Ok(Err(status)) => (note(End::Failed(status.code()), done), Vec::new()),
            Ok(Ok(answer)) => {
                let answer = answer.get_ref();
                let expected = of_model.expected.get(pick.request).filter(|_| !pick.is_poison);
                let is_right = expected.is_none_or(|expected| is_same(expected, answer));
                let end = if is_right { End::Ok } else { End::Wrong };
                (note(end, done), if self.phases { numbers(answer) } else { Vec::new() })
            }
        }
    }

    /// Each good request alone, one after the other: what it should be answered ever after.
    pub async fn learn(&mut self) -> Result<(), LoadError> {
        let Some(client) = self.clients.first_mut() else { return Ok(()) };
        for model in &mut self.models {
            for request in &model.good {
                let failed = crate::target::failed(format!("ModelInfer of `{}`", model.name));
                let answer = client.model_infer(request.clone()).await.map_err(failed)?;
                model.expected.push(answer.into_inner());
            }
        }
        Ok(())
    }
}

fn numbers(answer: &ModelInferResponse) -> Vec<(String, f64)> {
    let number = |choice: &ParameterChoice| match choice {
        ParameterChoice::Int64Param(value) => Some(*value as f64),
        ParameterChoice::Uint64Param(value) => Some(*value as f64),
        ParameterChoice::DoubleParam(value) => Some(*value),
        ParameterChoice::BoolParam(_) | ParameterChoice::StringParam(_) => None,
    };
    let of = |(name, value): (&String, &millgate_shared::proto::inference::InferParameter)| {
        Some((name.clone(), value.parameter_choice.as_ref().and_then(number)?))
    };
    answer.parameters.iter().filter_map(of).collect()
}

/// `concurrency` clients until `end`, each sending the next request when the last has ended.
pub async fn closed(
    load: &Arc<Load>,
    concurrency: usize,
    start: Instant,
    end: Duration,
) -> Result<Seen, LoadError> {
    let tasks = Tasks::new();
    let client = |number: usize| {
        let load = Arc::clone(load);
        async move {
            let mut random = Random::new(load.seed.wrapping_add(1 + number as u64));
            let mut seen = Seen::default();
            loop {
                let due = start.elapsed();
                if due >= end {
                    return seen;
                }
                let pick = load.pick(&mut random);
                let (sample, phases) = load.send(number, pick, start, due).await;
                seen.add(sample, phases);
            }
        }
    };
    let clients: Vec<_> = (0..concurrency).map(|number| tasks.spawn(client(number))).collect();
    let mut seen = Seen::default();
    for client in clients {
        seen.join(client.await?);
    }
    Ok(seen)
}

/// Each request when it is due, whatever became of those before. Returns when all have ended.
pub async fn open(load: &Arc<Load>, times: Vec<Duration>, start: Instant) -> Result<Seen, LoadError> {
    let (seen, in_flight) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicUsize::new(0)));
    let (tasks, runtime) = (Tasks::new(), tokio::runtime::Handle::current());
    let add = |seen: &Mutex<Seen>, sample, phases| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).add(sample, phases);
    };
    let pace = {
        let (load, seen, in_flight, tasks) =
            (Arc::clone(load), Arc::clone(&seen), Arc::clone(&in_flight), tasks.clone());
        move || {
            let _runtime = runtime.enter();
            let mut random = Random::new(load.seed.wrapping_add(1));
            for (number, due) in times.into_iter().enumerate() {
                // The runtime's own timers go by milliseconds, which is longer than some answers take.
                std::thread::sleep(due.saturating_sub(start.elapsed()));
                let pick = load.pick(&mut random);
                if in_flight.fetch_add(1, Ordering::Relaxed) >= MOST_IN_FLIGHT {
                    in_flight.fetch_sub(1, Ordering::Relaxed);
                    let now = start.elapsed();
                    let (model, is_poison) = (pick.model, pick.is_poison);
                    add(
                        &seen,
                        Sample { model, is_poison, due, sent: now, done: now, end: End::Unsent },
                        Vec::new(),
                    );
                    continue;
                }
                let (load, seen, in_flight) = (Arc::clone(&load), Arc::clone(&seen), Arc::clone(&in_flight));
                drop(tasks.spawn(async move {
                    let (sample, phases) = load.send(number, pick, start, due).await;
                    in_flight.fetch_sub(1, Ordering::Relaxed);
                    add(&seen, sample, phases);
                }));
            }
        }
    };
    tokio::task::spawn_blocking(pace).await?;
    // Every call ends by itself within its deadline or the patience.
    tasks.drain(PATIENCE + Duration::from_secs(1)).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(seen)
}
