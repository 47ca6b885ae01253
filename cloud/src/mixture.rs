//! One decision of the pool: the agent's own path, with every expert within reach, and each model behind the scheduler.
//!
//! pictures (decoded on a model thread) -> encoders -> gate -> choice -> experts, each where and when it fits -> combine

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use millgate_shared::array::{Array, ArrayError};
use millgate_shared::bundle::manifest::{ExpertInput, InputKind, Manifest};
use millgate_shared::competence::Answer;
use millgate_shared::deciding::{DecidingError, Mode, Policy};
use millgate_shared::decision::{Context, Decision, Missing, Note, Run, Timings};
use millgate_shared::gate::Place;
use millgate_shared::index::{By, EncoderIx, ExpertIx};
use millgate_shared::local::{Ask, choose, prices};
use millgate_shared::runner::{RunError, encoder_input, pixels};
use millgate_shared::sample::{Origin, Sample};

use crate::failure::Failure;
use crate::hosted::{Hosted, Ran, ask, embed};
use crate::serving::Serving;
use crate::serving::request::Call;

pub(crate) mod task;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) task: &'a str,
    pub(crate) policy: Policy,
    pub(crate) origin: Origin,
    /// Of the pictures, as they came.
    pub(crate) bytes: usize,
}

/// What came, read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) sample: Sample,
    /// What was assumed of its pictures.
    pub(crate) notes: Vec<Note>,
    /// Of the first picture that is there, as it came: lower-case hex.
    pub(crate) sha256: String,
}

/// A sample, ready for the encoders.
struct Prepared {
    sample: Sample,
    notes: Vec<Note>,
    sha256: String,
    /// `None` where its modality is absent, or nobody takes what it gives.
    inputs: By<EncoderIx, Option<Array>>,
    decode: Duration,
}

/// A sample and its embeddings.
struct Seen {
    sample: Sample,
    embedded: By<EncoderIx, Option<Array>>,
}

/// Decides. `pictures` reads what came; it runs on a model thread, and fills in the origin's digest. `place` is this node, as decisions name it.
pub(crate) async fn decide(
    hosted: &Arc<Hosted>,
    serving: &Serving,
    place: &str,
    question: Question<'_>,
    pictures: impl FnOnce(&Manifest) -> Result<Read, Failure> + Send + 'static,
    call: Call,
) -> Result<Decision, Failure> {
    let manifest = hosted.manifest();
    let Question { task, policy, origin, bytes } = question;
    let spec = manifest.task(task);
    let spec =
        spec.ok_or_else(|| Failure::field("sample.task", format!("`{task}` is not a task of this bundle")))?;
    let (known, needed) = (Arc::clone(manifest), needed(manifest, &policy.mode));
    let is_encoded = needed.contains(&true);
    let prepared = serving.on_thread(call, bytes, move || prepare(&known, &needed, pictures)).await?;
    let Prepared { sample, notes, sha256, inputs, decode } = prepared;
    let origin = Origin { sha256, notes, ..origin };

    let (mut encode, mut gate) = (Duration::ZERO, Duration::ZERO);
    let is_pinned = matches!(policy.mode, Mode::Pinned(_));
    let embedded = if is_encoded {
        let started = Instant::now();
        let embedded = embeddings(hosted, serving, inputs, call).await?;
        encode = started.elapsed();
        embedded
    } else {
        By::default()
    };
    let scores = if is_pinned {
        By::filled(manifest.experts.len(), 0.0)
    } else {
        let started = Instant::now();
        let scores = scores(hosted, serving, &embedded, &sample, call).await?;
        gate = started.elapsed();
        scores
    };

    let places = By::filled(manifest.experts.len(), Place::Local);
    let ask = Ask { task, policy, places, prices: prices(manifest) };
    let mut deciding = choose(manifest, &sample, scores, ask, call.arrived)?;
    let (seen, started) = (Arc::new(Seen { sample, embedded }), Instant::now());
    let (mut runs, mut first_failure) = (BTreeMap::new(), None);
    let mut todo = deciding.start();
    let mut under_way = FuturesUnordered::new();
    loop {
        for expert in todo.local.drain(..) {
            under_way.push(one(hosted, serving, expert, Arc::clone(&seen), call));
        }
        let Some((expert, answer)) = under_way.next().await else { break };
        todo = match answer {
            Ok((answer, ran)) => {
                let run = Run {
                    place: place.to_owned(),
                    latency_us: ran.phases.compute.as_micros() as u64,
                    engine: ran.served.choice.name(),
                    batch: ran.phases.batch.try_into().unwrap_or(u32::MAX),
                };
                runs.insert(expert, run);
                deciding.answered(answer, Instant::now())
            }
            Err(failure) => {
                let missing = match &failure {
                    Failure::Refused { .. } => Missing::Shed,
                    Failure::Deadline => Missing::Deadline,
                    _ => {
                        let name = &manifest.experts[expert].name;
                        tracing::warn!(expert = name, error = %failure, "expert failed");
                        Missing::Failed
                    }
                };
                first_failure.get_or_insert(failure);
                deciding.failed(expert, missing)
            }
        };
    }
    drop(under_way);
    let local = started.elapsed();
    let combining = Instant::now();
    let outcome = match (deciding.finish(), first_failure) {
        // Nobody answered, and the first one says best why.
        (Err(DecidingError::NoAnswer(_)), Some(failure)) => return Err(failure),
        (outcome, _) => outcome?,
    };
    let micros = |time: Duration| time.as_micros() as u64;
    let timings = Timings {
        decode: micros(decode),
        encode: micros(encode),
        gate: micros(gate),
        local: micros(local),
        uplink: 0,
        combine: micros(combining.elapsed()),
        total: micros(call.arrived.elapsed()),
    };
    let context = Context {
        id: uuid::Uuid::now_v7().to_string(),
        manifest,
        digest: hosted.digest(),
        task: spec,
        sample: &seen.sample,
        origin,
        runs,
        uplink_bytes: 0,
        timings,
    };
    Ok(Decision::record(outcome, context))
}

/// Which encoders are run. The gate takes all of them, named experts what they name.
fn needed(manifest: &Manifest, mode: &Mode) -> By<EncoderIx, bool> {
    let Mode::Pinned(names) = mode else { return By::filled(manifest.encoders.len(), true) };
    let pinned = manifest.experts.iter().filter(|expert| names.contains(&expert.name));
    let inputs = pinned.flat_map(|expert| &expert.inputs);
    let taken: Vec<EncoderIx> = inputs
        .filter(|input| input.kind == InputKind::Embedding)
        .filter_map(|input| manifest.encoder_index(&input.modality))
        .collect();
    By::from_fn(manifest.encoders.len(), |encoder| taken.contains(&encoder))
}

fn prepare(
    manifest: &Manifest,
    needed: &By<EncoderIx, bool>,
    pictures: impl FnOnce(&Manifest) -> Result<Read, Failure>,
) -> Result<Prepared, Failure> {
    let started = Instant::now();
    let Read { sample, notes, sha256 } = pictures(manifest)?;
    let decode = started.elapsed();
    let encoders = manifest.encoders.iter().zip(needed);
    let input = |(encoder, needed): (_, &bool)| needed.then(|| encoder_input(manifest, encoder, &sample))?;
    let inputs = encoders.map(input).collect();
    Ok(Prepared { sample, notes, sha256, inputs, decode })
}

/// `None` where a modality is absent.
async fn embeddings(
    hosted: &Hosted,
    serving: &Serving,
    inputs: By<EncoderIx, Option<Array>>,
    call: Call,
) -> Result<By<EncoderIx, Option<Array>>, Failure> {
    let runs = inputs.into_pairs().map(|(encoder, input)| async move {
        match input {
            Some(input) => embed(hosted, serving, encoder, input, call).await.map(Some),
            None => Ok(None),
        }
    });
    try_join_all(runs).await.map(By::from)
}

/// A logit per expert.
async fn scores(
    hosted: &Hosted,
    serving: &Serving,
    embedded: &By<EncoderIx, Option<Array>>,
    sample: &Sample,
    call: Call,
) -> Result<By<ExpertIx, f64>, Failure> {
    let manifest = hosted.manifest();
    let dims = manifest.encoders.first().map_or(0, |encoder| encoder.dims);
    let broken = |error: ArrayError| Failure::Model(format!("the gate's input {error}"));
    // One after the other; zeros where a modality is absent.
    let mut embeddings = Vec::with_capacity(embedded.len() * dims);
    for embedding in embedded {
        match embedding {
            Some(embedding) => embeddings.extend_from_slice(embedding.as_fp32().map_err(broken)?),
            None => embeddings.resize(embeddings.len() + dims, 0.0),
        }
    }
    let presence: Vec<f32> =
        sample.presence().iter().map(|present| if *present { 1.0 } else { 0.0 }).collect();
    let tensor = |shape: Vec<usize>, values: Vec<f32>| Array::new(shape, values.into()).map_err(broken);
    let presence = tensor(vec![1, presence.len()], presence)?;
    let embeddings = tensor(vec![1, manifest.encoders.len(), dims], embeddings)?;
    let inputs = vec![("embeddings", embeddings), ("presence", presence)];
    let ran = ask(serving, hosted.gate(), inputs, call).await?;
    Ok(values(&ran, "scores")?.iter().map(|score| f64::from(*score)).collect())
}

type One<'a> = BoxFuture<'a, (ExpertIx, Result<(Answer, Ran), Failure>)>;

fn one<'a>(
    hosted: &'a Hosted,
    serving: &'a Serving,
    expert: ExpertIx,
    seen: Arc<Seen>,
    call: Call,
) -> One<'a> {
    let work = async move {
        let manifest = Arc::clone(hosted.manifest());
        let labels = manifest.experts[expert].labels.len();
        let inputs = serving.on_thread(call, 0, move || inputs(&manifest, expert, &seen)).await?;
        let ran = hosted.expert(serving, expert, inputs, call).await?;
        let answer = Answer::from_logits(expert, labels, values(&ran, "logits")?);
        let answer =
            answer.map_err(|error| Failure::Model(format!("expert `{}` {error}", ran.served.name)))?;
        Ok((answer, ran))
    };
    Box::pin(async move { (expert, work.await) })
}

/// In the manifest's order.
fn inputs(manifest: &Manifest, expert: ExpertIx, seen: &Seen) -> Result<Vec<Array>, Failure> {
    let input = |input: &ExpertInput| match input.kind {
        InputKind::Pixels => Ok(pixels(manifest, input, &seen.sample)?),
        InputKind::Embedding => {
            let encoder = manifest.encoder_index(&input.modality);
            let embedding = encoder.and_then(|encoder| seen.embedded.get(encoder)).and_then(Option::as_ref);
            Ok(embedding.ok_or_else(|| RunError::Absent(input.name.clone()))?.clone())
        }
    };
    manifest.experts[expert].inputs.iter().map(input).collect()
}

fn values<'a>(ran: &'a Ran, output: &str) -> Result<&'a [f32], Failure> {
    let found = ran.output(output);
    let found =
        found.ok_or_else(|| Failure::Model(format!("model `{}` gave no `{output}`", ran.served.name)))?;
    found.as_fp32().map_err(|error| Failure::Model(format!("model `{}`: {error}", ran.served.name)))
}

#[cfg(test)]
mod tests {
    use millgate_shared::index::Ix;

    use super::*;

    #[test]
    fn named_experts_need_the_encoders_that_they_name_and_the_gate_all() {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        let x = ExpertIx::new;
        let mut manifest = Manifest::parse(&text).unwrap();
        assert!(!manifest.encoders.is_empty());
        let all = By::filled(manifest.encoders.len(), true);
        let none = By::filled(manifest.encoders.len(), false);
        assert_eq!(needed(&manifest, &Mode::Gate), all);
        let (taker, other) = (manifest.experts[x(0)].name.clone(), manifest.experts[x(1)].name.clone());
        assert_eq!(needed(&manifest, &Mode::Pinned(vec![taker.clone()])), none);
        let modality = manifest.encoders[EncoderIx::new(0)].modality.clone();
        let input = &mut manifest.experts[x(0)].inputs[0];
        (input.kind, input.modality) = (InputKind::Embedding, modality);
        assert!(needed(&manifest, &Mode::Pinned(vec![taker, other.clone()]))[EncoderIx::new(0)]);
        assert_eq!(needed(&manifest, &Mode::Pinned(vec![other])), none);
    }
}
