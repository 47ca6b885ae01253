//! One input's way through the agent.

use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::deciding::Todo;
use millgate_shared::decision::{Context, Decision, Timings};
use millgate_shared::index::ExpertIx;
use millgate_shared::local::{Ask as LocalAsk, LocalError, Stay, prices};
use millgate_shared::modality::image::BIT_DEPTH;
use millgate_shared::part::{Attributes, Limits, Part};
use millgate_shared::runner::Runner;
use millgate_shared::sample::{self, Origin, Read};
use millgate_shared::workers::Ticket;
use tokio::sync::mpsc;

use super::asking::{Asking, Calls};
use super::payload::{self, Outgoing};
use super::{Agent, Ask, DecideError, Decided, Epoch, Late};
use crate::crash::Held;
use crate::input::{Input, draw_id};

/// A sample after its visit to a model thread.
#[derive(Debug)]
struct Visited {
    stay: Stay,
    id: String,
    origin: Origin,
    todo: Todo,
    decode_us: u64,
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
    let task = ask.task.unwrap_or_else(|| epoch.task().to_owned());
    let policy = ask.policy.unwrap_or_else(|| epoch.policy().clone());
    let (places, prices) = (agent.places(epoch), prices(manifest));
    let depths = &agent.parts.config.bit_depths;
    let depth = input.source.as_ref().and_then(|source| depths.get(source));
    let attributes =
        depth.map(|depth| (BIT_DEPTH.to_owned(), depth.bits().to_string())).into_iter().collect();

    // Where the mode asks the pool for every sample, its calls go out before the local experts run: at most one list
    // before them and one after.
    let (send, mut calls) = mpsc::channel(2);
    let (upload, ledger) = (Arc::clone(epoch.upload_policy()), agent.parts.ledger.clone());
    let visit = move |runner: &mut Runner, ticket: Ticket<'_>| {
        let _in_hand = held;
        let local = LocalAsk { task: &task, policy, places, prices };
        let outgoing = Outgoing { policy: &upload, ledger: &ledger };
        let mut visited = arrive(runner, input, attributes, local, started)?;
        payload::prepare(runner, &mut visited.stay, outgoing.policy);
        Ok::<_, DecideError>(work(runner, visited, &ticket, outgoing, &send))
    };
    let parts = &agent.parts;
    let uplink = parts.uplink.clone();
    let mut asking = Asking::new(uplink, epoch.digest(), parts.live.clone(), parts.ledger.clone());
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
    asking.collect(&mut visited.stay, manifest).await;
    close(agent, epoch, visited, asking, started)
}

/// Decode, gate, choice. `attributes` are those of the sample's source.
fn arrive(
    runner: &mut Runner,
    input: Input,
    attributes: Attributes,
    ask: LocalAsk<'_>,
    started: Instant,
) -> Result<Visited, DecideError> {
    let manifest = Arc::clone(runner.models().manifest());
    let decoding = Instant::now();
    let id = if input.id.is_empty() { draw_id() } else { input.id };
    let mut parts = input.parts;
    complete(&manifest, &mut parts, &input.attributes);
    complete(&manifest, &mut parts, &attributes);
    let read = sample::read(&manifest.modalities, &parts, &Limits::default());
    let Read { sample, notes, sha256 } = read.map_err(|unread| DecideError::Part {
        is_main: manifest.main_modality().is_some_and(|main| main.name == unread.modality),
        unread,
    })?;
    drop(parts);
    let decode_us = decoding.elapsed().as_micros() as u64;
    let origin = Origin {
        path: input.path,
        source: input.source,
        part_id: input.part_id,
        captured_at: input.captured_at,
        sha256,
        notes: input.notes.into_iter().chain(notes).collect(),
    };
    let mut stay = Stay::begin(runner, sample, ask, started).map_err(DecideError::Local)?;
    let todo = stay.start();
    Ok(Visited { stay, id, origin, todo, decode_us })
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

/// The local experts, and what is to be asked of the pool before and after them.
fn work(
    runner: &mut Runner,
    mut visited: Visited,
    ticket: &Ticket<'_>,
    outgoing: Outgoing<'_>,
    send: &mpsc::Sender<Calls>,
) -> Visited {
    let Todo { local, remote } = std::mem::take(&mut visited.todo);
    ask(runner, &mut visited, remote, outgoing, send);
    let further = visited.stay.run(runner, Todo { local, remote: Vec::new() }, &|| ticket.is_cancelled());
    ask(runner, &mut visited, further, outgoing, send);
    visited
}

fn ask(
    runner: &Runner,
    visited: &mut Visited,
    experts: Vec<ExpertIx>,
    outgoing: Outgoing<'_>,
    send: &mpsc::Sender<Calls>,
) {
    if experts.is_empty() {
        return;
    }
    let manifest = runner.models().manifest();
    let calls = payload::calls(manifest, &mut visited.stay, experts, outgoing);
    let deadline = visited.stay.deciding.deadline();
    // There is room for both lists; the caller may have gone.
    let _gone = send.try_send(Calls { calls, deadline }).is_err();
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
    let Visited { stay, id, origin, decode_us, .. } = visited;
    let combining = Instant::now();
    let task = stay.deciding.task_index();
    let closed = stay.deciding.close();
    let (outcome, open) = closed.map_err(|error| DecideError::Local(LocalError::Deciding(error)))?;
    let mut runs = stay.runs;
    runs.extend(asking.runs);
    let context = Context {
        id,
        manifest,
        digest: epoch.digest(),
        task: &manifest.tasks[task],
        sample: &stay.sample,
        origin,
        runs,
        uplink_bytes: asking.bytes,
        timings: Timings {
            decode: decode_us,
            encode: stay.encode.as_micros() as u64,
            gate: stay.gate.as_micros() as u64,
            local: stay.local.as_micros() as u64,
            uplink: asking.waited.as_micros() as u64,
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
    let (sample, embeddings) = (stay.sample, stay.embeddings);
    let late = open.map(|open| Late { open, epoch: Arc::clone(epoch), sample, embeddings });
    Ok(Decided { decision, late })
}
