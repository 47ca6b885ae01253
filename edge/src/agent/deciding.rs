//! One input's way through the agent.

use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::sha256_hex;
use millgate_shared::deciding::Todo;
use millgate_shared::decision::{Context, Decision, Timings};
use millgate_shared::image::{Limits, decode};
use millgate_shared::local::{Ask as LocalAsk, LocalError, Stay};
use millgate_shared::proto::v1;
use millgate_shared::runner::Runner;
use millgate_shared::sample::{Origin, Sample};
use millgate_shared::wire::{ImageSource, write_images};
use millgate_shared::workers::Ticket;

use super::asking::Asking;
use super::{Agent, Ask, DecideError};
use crate::input::Input;

/// A sample after a visit to a model thread.
#[derive(Debug)]
struct Visited {
    stay: Stay,
    source: ImageSource,
    origin: Origin,
    /// Local experts that are still to be run, where the pool is asked in parallel.
    todo: Todo,
    /// What the pool gets, if it is asked.
    payload: Vec<v1::Image>,
    decode_us: u64,
}

pub(super) async fn decide(agent: &Agent, input: Input, ask: Ask) -> Result<Decision, DecideError> {
    let started = Instant::now();
    let workers = &agent.parts.workers;
    let task = ask.task.unwrap_or_else(|| agent.parts.task.clone());
    let policy = ask.policy.unwrap_or_else(|| agent.parts.policy.clone());
    let (places, prices) = (agent.places(), agent.prices());

    let first = move |runner: &mut Runner, ticket: Ticket<'_>| {
        let local = LocalAsk { task: &task, policy, places, prices };
        arrive(runner, input, local, started).map(|visited| work(runner, visited, &ticket))
    };
    let mut visited = workers.run(first).await??;

    let manifest = agent.models().manifest();
    let deadline = visited.stay.deciding.deadline();
    let mut asking = Asking::new(agent.parts.uplink.clone());
    asking.start(manifest, &std::mem::take(&mut visited.todo.remote), &visited.payload, deadline);
    if !visited.todo.local.is_empty() {
        let second = move |runner: &mut Runner, ticket: Ticket<'_>| work(runner, visited, &ticket);
        visited = workers.run(second).await?;
        asking.start(manifest, &std::mem::take(&mut visited.todo.remote), &visited.payload, deadline);
    }
    asking.collect(&mut visited.stay, manifest).await;
    close(agent, visited, asking, started)
}

/// Decode, gate, choice.
fn arrive(
    runner: &mut Runner,
    input: Input,
    ask: LocalAsk<'_>,
    started: Instant,
) -> Result<Visited, DecideError> {
    let manifest = Arc::clone(runner.models().manifest());
    let decoding = Instant::now();
    let mut sample = Sample { images: vec![None; manifest.modalities.len()] };
    let mut source = ImageSource { files: vec![None; manifest.modalities.len()] };
    let mut sha256 = String::new();
    for image in input.images {
        let Some(index) = manifest.modality_index(&image.modality) else {
            return Err(DecideError::UnknownModality(image.modality));
        };
        if sample.images[index].is_some() {
            return Err(DecideError::DoubleModality(image.modality));
        }
        let decoded = decode(&image.bytes, &Limits::default());
        sample.images[index] =
            Some(decoded.map_err(|source| DecideError::Decode { modality: image.modality, source })?);
        if sha256.is_empty() {
            sha256 = sha256_hex(&image.bytes);
        }
        source.files[index] = Some(image.bytes);
    }
    let decode_us = decoding.elapsed().as_micros() as u64;
    let origin = Origin {
        path: input.path,
        source: input.source,
        part_id: input.part_id,
        captured_at: input.captured_at,
        sha256,
    };
    let mut stay = Stay::begin(runner, sample, ask, started).map_err(DecideError::Local)?;
    let todo = stay.start();
    Ok(Visited { stay, source, origin, todo, payload: Vec::new(), decode_us })
}

/// Local experts; unless the pool is to be asked first, so that both run at once.
fn work(runner: &mut Runner, mut visited: Visited, ticket: &Ticket<'_>) -> Visited {
    if visited.todo.remote.is_empty() {
        let todo = std::mem::take(&mut visited.todo);
        visited.todo.remote = visited.stay.run(runner, todo, &|| ticket.is_cancelled());
    }
    if !visited.todo.remote.is_empty() && visited.payload.is_empty() {
        visited.payload = write_images(runner.models().manifest(), &visited.stay.sample, &visited.source);
    }
    visited
}

/// Combine and record.
fn close(agent: &Agent, visited: Visited, asking: Asking, started: Instant) -> Result<Decision, DecideError> {
    let models = agent.models();
    let manifest = models.manifest();
    let Visited { stay, origin, decode_us, .. } = visited;
    let combining = Instant::now();
    let task = stay.deciding.task_index();
    let outcome = stay.deciding.finish().map_err(|error| DecideError::Local(LocalError::Deciding(error)))?;
    let mut runs = stay.runs;
    runs.extend(asking.runs);
    let context = Context {
        id: uuid::Uuid::now_v7().to_string(),
        manifest,
        digest: models.digest(),
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
    decision.timings_us.total = started.elapsed().as_micros() as u64;
    Ok(decision)
}
