//! One decision of the pool: the agent's own path, with every expert within reach, and each model behind the scheduler.
//!
//! parts (read on a model thread) -> encoders -> gate -> choice -> experts, each where and when it fits -> combine

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use millgate_shared::array::Array;
use millgate_shared::bundle::manifest::{InputKind, Manifest};
use millgate_shared::competence::Answer;
use millgate_shared::deciding::{DecidingError, Mode, Policy};
use millgate_shared::decision::{Context, Decision, Missing, Run, Timings};
use millgate_shared::embedding::{Embedding, Embeddings};
use millgate_shared::gate::Place;
use millgate_shared::index::{By, EncoderIx, ExpertIx};
use millgate_shared::inputs::{GATE_INPUTS, encoder_input, expert_inputs, gate_inputs};
use millgate_shared::local::{Ask, choose, prices};
use millgate_shared::part::{Limits, Part};
use millgate_shared::sample::{self, Origin, Read, Sample, Unread};

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
}

/// A sample, ready for the encoders.
struct Prepared {
    read: Read,
    /// `None` where its modality is absent, or nobody takes what it gives.
    inputs: By<EncoderIx, Option<Array>>,
    decode: Duration,
}

/// A sample and its embeddings.
struct Seen {
    sample: Sample,
    embeddings: Embeddings,
}

/// Decides on a sample of these parts, which are read on a model thread; `refuse` says what is wrong with one of them.
/// `place` is this node, as decisions name it.
pub(crate) async fn decide(
    hosted: &Arc<Hosted>,
    serving: &Serving,
    place: &str,
    question: Question<'_>,
    parts: Vec<Part>,
    refuse: impl FnOnce(Unread) -> Failure + Send + 'static,
    call: Call,
) -> Result<Decision, Failure> {
    let manifest = hosted.manifest();
    let Question { task, policy, origin } = question;
    let spec = manifest.task(task);
    let spec =
        spec.ok_or_else(|| Failure::field("sample.task", format!("`{task}` is not a task of this bundle")))?;
    let (known, needed) = (Arc::clone(manifest), needed(manifest, &policy.mode));
    let is_encoded = needed.contains(&true);
    let bytes = parts.iter().map(|part| part.bytes.len()).sum();
    let read = move || prepare(&known, &needed, parts, refuse);
    let prepared = serving.on_thread(call, bytes, read).await?;
    let Prepared { read: Read { sample, notes, sha256 }, inputs, decode } = prepared;
    let origin = Origin { sha256, notes, ..origin };

    let (mut encode, mut gate) = (Duration::ZERO, Duration::ZERO);
    let is_pinned = matches!(policy.mode, Mode::Pinned(_));
    let embeddings = if is_encoded {
        let started = Instant::now();
        let embeddings = embeddings(hosted, serving, inputs, call).await?;
        encode = started.elapsed();
        embeddings
    } else {
        Embeddings::default()
    };
    let scores = if is_pinned {
        By::filled(manifest.experts.len(), 0.0)
    } else {
        let started = Instant::now();
        let scores = scores(hosted, serving, &embeddings, &sample, call).await?;
        gate = started.elapsed();
        scores
    };

    let places = By::filled(manifest.experts.len(), Place::Local);
    let ask = Ask { task, policy, places, prices: prices(manifest) };
    let mut deciding = choose(manifest, &sample, scores, ask, call.arrived)?;
    let (seen, started) = (Arc::new(Seen { sample, embeddings }), Instant::now());
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
    parts: Vec<Part>,
    refuse: impl FnOnce(Unread) -> Failure,
) -> Result<Prepared, Failure> {
    let started = Instant::now();
    let read = sample::read(&manifest.modalities, &parts, &Limits::default()).map_err(refuse)?;
    // What came is not sent on.
    let read = Read { sample: read.sample.without_originals(), ..read };
    let decode = started.elapsed();
    let encoders = manifest.encoders.iter().zip(needed);
    let input = |(encoder, needed): (_, &bool)| match needed {
        true => encoder_input(manifest, encoder, &read.sample),
        false => Ok(None),
    };
    let inputs = encoders.map(input).collect::<Result<_, _>>()?;
    Ok(Prepared { read, inputs, decode })
}

/// `None` where a modality is absent.
async fn embeddings(
    hosted: &Hosted,
    serving: &Serving,
    inputs: By<EncoderIx, Option<Array>>,
    call: Call,
) -> Result<Embeddings, Failure> {
    let runs = inputs.into_pairs().map(|(encoder, input)| async move {
        let Some(input) = input else { return Ok(None) };
        let embedding = embed(hosted, serving, encoder, input, call).await?;
        Ok::<_, Failure>(Some(Embedding::of_encoder(embedding)))
    });
    Ok(Embeddings::new(try_join_all(runs).await?.into()))
}

/// A logit per expert.
async fn scores(
    hosted: &Hosted,
    serving: &Serving,
    embeddings: &Embeddings,
    sample: &Sample,
    call: Call,
) -> Result<By<ExpertIx, f64>, Failure> {
    let manifest = hosted.manifest();
    let inputs = GATE_INPUTS.into_iter().zip(gate_inputs(manifest, sample, embeddings)?).collect();
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
        let inputs = move || Ok(expert_inputs(&manifest, expert, &seen.sample, &seen.embeddings)?);
        let inputs = serving.on_thread(call, 0, inputs).await?;
        let ran = hosted.expert(serving, expert, inputs, call).await?;
        let answer = Answer::from_logits(expert, labels, values(&ran, "logits")?);
        let answer =
            answer.map_err(|error| Failure::Model(format!("expert `{}` {error}", ran.served.name)))?;
        Ok((answer, ran))
    };
    Box::pin(async move { (expert, work.await) })
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
