//! One input's way through the agent.

use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::deciding::Todo;
use millgate_shared::decision::{Context, Decision, Timings};
use millgate_shared::digest::sha256_hex;
use millgate_shared::image::{BitDepth, Limits};
use millgate_shared::index::{By, ExpertIx, ModalityIx};
use millgate_shared::local::{Ask as LocalAsk, LocalError, Stay, prices};
use millgate_shared::runner::Runner;
use millgate_shared::sample::{Origin, Read, Unread};
use millgate_shared::wire::ImageSource;
use millgate_shared::workers::Ticket;
use tokio::sync::mpsc;

use super::asking::{Asking, Calls};
use super::payload::{self, Outgoing};
use super::{Agent, Ask, DecideError, Decided, Epoch, Late};
use crate::crash::Held;
use crate::input::{Input, InputImage, draw_id};

/// A sample after its visit to a model thread.
#[derive(Debug)]
struct Visited {
    stay: Stay,
    source: ImageSource,
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
    let depth = input.source.as_ref().and_then(|source| depths.get(source)).copied();

    // Where the mode asks the pool for every sample, its calls go out before the local experts run: at most one list
    // before them and one after.
    let (send, mut calls) = mpsc::channel(2);
    let (upload, ledger) = (Arc::clone(epoch.upload_policy()), agent.parts.ledger.clone());
    let visit = move |runner: &mut Runner, ticket: Ticket<'_>| {
        let _in_hand = held;
        let local = LocalAsk { task: &task, policy, places, prices };
        let outgoing = Outgoing { policy: &upload, ledger: &ledger };
        let mut visited = arrive(runner, input, depth, local, started)?;
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

/// Decode, gate, choice. `depth` is that of the sample's source.
fn arrive(
    runner: &mut Runner,
    input: Input,
    depth: Option<BitDepth>,
    ask: LocalAsk<'_>,
    started: Instant,
) -> Result<Visited, DecideError> {
    let manifest = Arc::clone(runner.models().manifest());
    let decoding = Instant::now();
    let (id, images) = (if input.id.is_empty() { draw_id() } else { input.id }, input.images);
    let indices = modalities(&manifest, &images)?;
    let mut files = By::filled(manifest.modalities.len(), None);
    for (image, index) in images.iter().zip(&indices) {
        files[*index] = Some((&image.bytes[..], image.bit_depth.or(depth)));
    }
    let names = manifest.modalities.iter().map(|modality| modality.name.as_str());
    let refuse = |Unread { modality, source }| {
        let modality = manifest.modalities[modality].name.clone();
        DecideError::Decode { modality, source }
    };
    let Read { sample, notes, is_plain } =
        Read::of_files(names, &files, &Limits::default()).map_err(refuse)?;
    let sha256 = images.first().map_or_else(String::new, |image| sha256_hex(&image.bytes));
    let mut source = ImageSource { files: By::filled(manifest.modalities.len(), None) };
    for (image, index) in images.into_iter().zip(indices) {
        source.files[index] = is_plain[index].then_some(image.bytes);
    }
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
    Ok(Visited { stay, source, id, origin, todo, decode_us })
}

/// The modalities of pictures.
fn modalities(manifest: &Manifest, images: &[InputImage]) -> Result<Vec<ModalityIx>, DecideError> {
    let mut indices = Vec::with_capacity(images.len());
    for InputImage { modality, .. } in images {
        let index = manifest.modality_index(modality);
        let index = index.ok_or_else(|| DecideError::UnknownModality(modality.clone()))?;
        if indices.contains(&index) {
            return Err(DecideError::DoubleModality(modality.clone()));
        }
        indices.push(index);
    }
    Ok(indices)
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
    let calls = payload::calls(manifest, &mut visited.stay, &visited.source, experts, outgoing);
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
    let Visited { stay, source, id, origin, decode_us, .. } = visited;
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
    let late = open.map(|open| Late { open, epoch: Arc::clone(epoch), sample, embeddings, source });
    Ok(Decided { decision, late })
}
