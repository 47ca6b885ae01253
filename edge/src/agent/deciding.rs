//! One input's way through the agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::deciding::{Compared, Policy, Todo};
use millgate_shared::decision::{Context, Decision, FailedCheck, Note, Timings};
use millgate_shared::driver::{Ask as Choose, Closed, Driver, Experts, Gate, Reply, Standing};
use millgate_shared::embedding::Embeddings;
use millgate_shared::gate::Place;
use millgate_shared::index::{By, ExpertIx};
use millgate_shared::local::{Local, Spent, to_the_end};
use millgate_shared::modality::image::BIT_DEPTH;
use millgate_shared::part::{Attributes, Limits, Part};
use millgate_shared::runner::{RunError, Runner};
use millgate_shared::sample::{self, Origin, Read, Sample, View};
use millgate_shared::workers::Ticket;
use tokio::sync::mpsc;

use super::asking::{Asking, Calls};
use super::payload::{self, Outgoing, Seen};
use super::regions;
use super::stuck::Stuck;
use super::{Agent, Ask, Audit, DecideError, Decided, Epoch, Late};
use crate::crash::Held;
use crate::input::{Input, draw_id};

/// A sample, read.
#[derive(Debug)]
struct Arrived {
    sample: Sample,
    /// The regions of it that are looked at; none: all of it.
    views: Vec<View>,
    id: String,
    origin: Origin,
    decode: Duration,
}

/// A sample after its visit to a model thread.
#[derive(Debug)]
struct Visited {
    driver: Driver,
    sample: Sample,
    embeddings: Option<Embeddings>,
    id: String,
    origin: Origin,
    decode: Duration,
    spent: Spent,
}

/// What a visit to a model thread is made with.
struct Visit<'a> {
    task: String,
    policy: Policy,
    places: By<ExpertIx, Place>,
    started: Instant,
    outgoing: Outgoing<'a>,
    send: &'a mpsc::Sender<Calls>,
    /// How often the same picture may come before the camera is stuck, and where that is counted.
    stuck: (u32, &'a Mutex<Stuck>),
}

/// A sample on a model thread, from which its calls to the pool go out.
struct OnThread<'a> {
    local: Local<'a>,
    manifest: &'a Manifest,
    outgoing: Outgoing<'a>,
    send: &'a mpsc::Sender<Calls>,
    /// The camera is stuck.
    stuck: Option<FailedCheck>,
}

pub(super) async fn decide(
    agent: &Agent,
    epoch: &Arc<Epoch>,
    input: Input,
    ask: Ask,
    held: Option<Held>,
) -> Result<Decided, DecideError> {
    let started = Instant::now();
    let manifest = epoch.manifest();
    let asked = epoch.asked(input.source.as_deref());
    let task = ask.task.unwrap_or_else(|| asked.task.clone());
    let policy = ask.policy.unwrap_or_else(|| asked.policy.clone());
    let places = agent.places(epoch);
    let depths = &agent.parts.config.bit_depths;
    let depth = input.source.as_ref().and_then(|source| depths.get(source));
    let depth = depth.map(|depth| (BIT_DEPTH.to_owned(), depth.bits().to_string()));
    let attributes = depth.into_iter().chain(asked.attributes.clone()).collect();

    // Where the mode asks the pool for every sample, its calls go out before the local experts run: at most one list
    // before them and one after.
    let (send, mut calls) = mpsc::channel(2);
    let (upload, ledger) = (Arc::clone(epoch.upload_policy()), agent.parts.ledger.clone());
    let (stuck_after, counted) = (asked.stuck_after, Arc::clone(&agent.parts));
    let visit = move |runner: &mut Runner, ticket: Ticket<'_>| {
        let _in_hand = held;
        let outgoing = Outgoing { policy: &upload, ledger: &ledger };
        let arrived = arrive(runner.models().manifest(), input, attributes)?;
        let stuck = (stuck_after, &counted.stuck);
        let visit = Visit { task, policy, places, started, outgoing, send: &send, stuck };
        visit.run(runner, arrived, &|| ticket.is_cancelled())
    };
    let parts = &agent.parts;
    let (uplink, live, ledger) = (parts.uplink.clone(), parts.live.clone(), parts.ledger.clone());
    let mut asking = Asking::new(manifest, uplink, epoch.digest(), live, ledger);
    let visiting = epoch.workers.run(visit);
    tokio::pin!(visiting);
    let visited = loop {
        tokio::select! {
            visited = &mut visiting => break visited,
            Some(calls) = calls.recv() => asking.start(calls),
        }
    };
    let mut visited = visited??;
    while let Ok(calls) = calls.try_recv() {
        asking.start(calls);
    }
    visited.driver.run(&mut asking).await;
    asking.ended();
    close(agent, epoch, visited, asking, started)
}

/// Reads what came. `attributes` are those of the sample's source.
fn arrive(manifest: &Manifest, input: Input, attributes: Attributes) -> Result<Arrived, DecideError> {
    let decoding = Instant::now();
    let id = if input.id.is_empty() { draw_id() } else { input.id };
    let mut parts = input.parts;
    complete(manifest, &mut parts, &input.attributes);
    complete(manifest, &mut parts, &attributes);
    let read = sample::read_views(&manifest.modalities, &parts, &Limits::default());
    let (Read { sample, notes, sha256 }, views) = read.map_err(|unread| DecideError::Part {
        is_main: manifest.main_modality().is_some_and(|main| main.name == unread.modality),
        unread,
    })?;
    drop(parts);
    let decode = decoding.elapsed();
    let origin = Origin {
        path: input.path,
        source: input.source,
        part_id: input.part_id,
        captured_at: input.captured_at,
        sha256,
        notes: input.notes.into_iter().chain(notes).collect(),
        ..Origin::default()
    };
    Ok(Arrived { sample, views, id, origin, decode })
}

/// Says that some regions of a picture were not looked at.
fn regions_skipped(manifest: &Manifest, skipped: usize) -> Note {
    Note {
        modality: manifest.main_modality().map_or_else(String::new, |main| main.name.clone()),
        code: "regions_skipped".to_owned(),
        message: format!("there was no time to look at {skipped} of its regions"),
    }
}

/// Gives parts the attributes that their kind has and that they do not bring.
fn complete(manifest: &Manifest, parts: &mut [Part], attributes: &Attributes) {
    for part in parts {
        let spec = manifest.modality_index(&part.modality).map(|index| &manifest.modalities[index]);
        let known = spec.map_or(&[][..], |spec| spec.modality().attributes());
        for (name, value) in attributes.iter().filter(|(name, _)| known.contains(&name.as_str())) {
            part.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

impl Visit<'_> {
    /// Gate, choice, calls to the pool and local experts; no further expert is run once `is_cancelled`.
    fn run(
        self,
        runner: &mut Runner,
        arrived: Arrived,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Visited, DecideError> {
        let manifest = Arc::clone(runner.models().manifest());
        let Self { task, mut policy, places, started, outgoing, send, stuck: (after, counted) } = self;
        let Arrived { mut sample, views, id, mut origin, decode } = arrived;
        if !views.is_empty() {
            origin.regions = u32::try_from(views.len()).ok();
            policy.regions = origin.regions.unwrap_or(1);
            // The other half of the time is for the one that is chosen, and for the pool.
            let until = started + policy.deadline / 2;
            let view = regions::most_suspicious(runner, &task, &policy, views, until, is_cancelled);
            if let Some((View { region, sample: chosen }, skipped)) = view {
                (origin.region, sample) = (Some(region), chosen);
                if skipped > 0 {
                    origin.notes.push(regions_skipped(&manifest, skipped));
                }
            }
        }
        let ask = Choose { task: &task, policy, places, presence: sample.presence(), started };
        let local = Local::new(runner, sample, is_cancelled);
        let main = manifest.main_modality().map_or("", |main| main.name.as_str());
        let stuck = origin.source.as_ref().and_then(|source| {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.came(source, main, &origin.sha256, after)
        });
        let mut here = OnThread { local, manifest: &manifest, outgoing, send, stuck };
        let driver = to_the_end(async {
            let mut driver = Driver::begin(&manifest, &mut here, ask).await?;
            payload::prepare(&manifest, &mut here.local, outgoing.policy);
            driver.run(&mut here).await;
            Ok(driver)
        });
        let driver = driver.map_err(DecideError::Driver)?;
        let (sample, embeddings, spent) = here.local.into_parts();
        Ok(Visited { driver, sample, embeddings, id, origin, decode, spent })
    }
}

impl Experts for OnThread<'_> {
    /// Sends what the pool is to be asked before a local expert is run.
    fn ask(&mut self, todo: Todo, standing: Standing) -> Vec<String> {
        let Todo { local, remote } = todo;
        let mut notes = Vec::new();
        if !remote.is_empty() {
            let none = Embeddings::default();
            let embeddings = self.local.known_embeddings().unwrap_or(&none);
            let seen = Seen { sample: self.local.sample(), embeddings };
            let calls;
            (calls, notes) = payload::calls(self.manifest, seen, remote, self.outgoing, standing);
            // There is room for both lists; the caller may have gone.
            let _gone = self.send.try_send(Calls { calls, deadline: standing.deadline }).is_err();
        }
        notes.extend(self.local.ask(Todo { local, remote: Vec::new() }, standing));
        notes
    }

    fn next(&mut self, until: Instant) -> impl Future<Output = Option<Reply>> + Send {
        self.local.next(until)
    }

    fn compare(&mut self, product: &str) -> impl Future<Output = Compared> + Send {
        let stuck = self.stuck.take();
        let compared = self.local.compare(product);
        async move {
            let mut compared = compared.await;
            compared.checks.extend(stuck);
            compared
        }
    }
}

impl Gate for OnThread<'_> {
    type Error = RunError;

    fn fails(&mut self, product: Option<&str>) -> bool {
        self.stuck.is_some() || self.local.fails(product)
    }

    fn embed(&mut self) -> impl Future<Output = Result<(), RunError>> + Send {
        self.local.embed()
    }

    fn score(&mut self) -> impl Future<Output = Result<By<ExpertIx, f64>, RunError>> + Send {
        self.local.score()
    }
}

/// Combine and record.
fn close(
    agent: &Agent,
    epoch: &Arc<Epoch>,
    visited: Visited,
    asking: Asking,
    started: Instant,
) -> Result<Decided, DecideError> {
    let manifest = epoch.manifest();
    let Visited { driver, sample, embeddings, id, origin, decode, spent } = visited;
    let combining = Instant::now();
    let closed = driver.close().map_err(|error| DecideError::Driver(error.into()))?;
    let Closed { task, outcome, open, runs } = closed;
    let micros = |time: Duration| time.as_micros() as u64;
    let context = Context {
        id,
        manifest,
        digest: epoch.digest(),
        task: &manifest.tasks[task],
        sample: &sample,
        origin,
        runs,
        uplink_bytes: asking.bytes,
        timings: Timings {
            decode: micros(decode),
            encode: micros(spent.encode),
            gate: micros(spent.gate),
            local: micros(spent.experts),
            uplink: micros(asking.waited),
            combine: 0,
            total: 0,
        },
    };
    let mut decision = Decision::record(outcome, context);
    decision.timings_us.combine = combining.elapsed().as_micros() as u64;
    if let Some(uplink) = &agent.parts.uplink {
        uplink.combined(combining.elapsed());
    }
    decision.timings_us.total = started.elapsed().as_micros() as u64;
    let (late, audit) = match open {
        Some(open) => (Some(Late { open, epoch: Arc::clone(epoch), sample, embeddings }), None),
        None => (None, Audit::of(agent, epoch, &decision, sample, embeddings)),
    };
    Ok(Decided { decision, late, audit })
}
