//! One decision of the pool: the agent's own path, with every expert within reach, and each model behind the scheduler.
//!
//! parts (read on a model thread) -> encoders -> gate -> choice -> experts, each where and when it fits -> combine

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::array::Array;
use millgate_shared::bundle::manifest::{InputKind, Manifest};
use millgate_shared::deciding::{DecidingError, Mode, Policy};
use millgate_shared::decision::{Context, Decision, Outcome, Run, Timings};
use millgate_shared::driver::{Ask, Closed, Driver, Gate};
use millgate_shared::gate::Place;
use millgate_shared::index::{By, EncoderIx, ExpertIx};
use millgate_shared::inputs::encoder_input;
use millgate_shared::local::Spent;
use millgate_shared::part::{Limits, Part};
use millgate_shared::sample::{self, Note, Origin, Read, Sample, Unread, View};

use self::scheduled::{Scheduled, Seen};
use crate::failure::Failure;
use crate::hosted::Hosted;
use crate::serving::Serving;
use crate::serving::request::Call;

mod scheduled;
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
    /// The sample, or the regions of it that are looked at; at least one.
    looks: Vec<Look>,
    notes: Vec<Note>,
    sha256: String,
    decode: Duration,
}

/// What the experts are shown.
struct Look {
    /// `None`: all of the sample.
    region: Option<[u32; 4]>,
    sample: Sample,
    /// `None` where its modality is absent, or nobody takes what it gives.
    inputs: By<EncoderIx, Option<Array>>,
}

/// What the experts made of it.
struct Looked {
    region: Option<[u32; 4]>,
    seen: Seen,
    spent: Spent,
    local: Duration,
    outcome: Outcome,
    runs: BTreeMap<ExpertIx, Run>,
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
    // The gate is not run, and named experts take what encoders make.
    let is_embedded = needed.contains(&true) && matches!(policy.mode, Mode::Pinned(_));
    let bytes = parts.iter().map(|part| part.bytes.len()).sum();
    let read = move || prepare(&known, &needed, parts, refuse);
    let prepared = serving.on_thread(call.clone(), bytes, read).await?;
    let Prepared { looks, notes, sha256, decode } = prepared;
    let regions = looks.iter().filter(|look| look.region.is_some()).count();
    let regions = u32::try_from(regions).ok().filter(|regions| *regions > 0);
    let policy = Policy { regions: regions.unwrap_or(1), ..policy };
    let arrived = call.arrived;
    let mut most: Option<(f64, Looked)> = None;
    for shown in looks {
        let asked = (task, policy.clone());
        let looked = Box::pin(look(hosted, serving, place, asked, shown, is_embedded, call.clone())).await?;
        let suspicion = looked.outcome.suspicion(manifest, spec, policy.recipe.as_deref());
        if most.as_ref().is_none_or(|(known, _)| suspicion > *known) {
            most = Some((suspicion, looked));
        }
    }
    let combining = Instant::now();
    let looked = most.map(|(_, looked)| looked);
    let looked = looked.ok_or_else(|| Failure::Sample("there is nothing to look at".to_owned()))?;
    let Looked { region, seen, spent, local, outcome, runs } = looked;
    let origin = Origin { sha256, notes, region, regions, ..origin };
    let micros = |time: Duration| time.as_micros() as u64;
    let timings = Timings {
        decode: micros(decode),
        encode: micros(spent.encode),
        gate: micros(spent.gate),
        local: micros(local),
        uplink: 0,
        combine: micros(combining.elapsed()),
        total: micros(arrived.elapsed()),
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

/// Decides on what is shown; `is_embedded`: the encoders are run although the gate is not.
async fn look(
    hosted: &Arc<Hosted>,
    serving: &Serving,
    place: &str,
    (task, policy): (&str, Policy),
    shown: Look,
    is_embedded: bool,
    call: Call,
) -> Result<Looked, Failure> {
    let manifest = hosted.manifest();
    let Look { region, sample, inputs } = shown;
    let places = By::filled(manifest.experts.len(), Place::Local);
    let ask = Ask { task, policy, places, presence: sample.presence(), started: call.arrived };
    let mut scheduled = Scheduled::new(hosted, serving, place, call, Seen::new(sample), inputs);
    if is_embedded {
        scheduled.embed().await?;
    }
    let mut driver = Driver::begin(manifest, &mut scheduled, ask).await?;
    let started = Instant::now();
    driver.run(&mut scheduled).await;
    let local = started.elapsed();
    let (seen, spent, first_failure) = scheduled.into_parts()?;
    let Closed { outcome, runs, .. } = match (driver.close(), first_failure) {
        // Nobody answered, and the first one says best why.
        (Err(DecidingError::NoAnswer(_)), Some(failure)) => return Err(failure),
        (closed, _) => closed?,
    };
    Ok(Looked { region, seen, spent, local, outcome, runs })
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
    // Samples are compared with known ones by the embedding of the first modality.
    let is_compared = manifest.products.iter().any(|product| product.novelty.is_some());
    let main = manifest.main_modality().filter(|_| is_compared);
    let main = main.and_then(|main| manifest.encoder_index(&main.name));
    By::from_fn(manifest.encoders.len(), |encoder| taken.contains(&encoder) || main == Some(encoder))
}

fn prepare(
    manifest: &Manifest,
    needed: &By<EncoderIx, bool>,
    parts: Vec<Part>,
    refuse: impl FnOnce(Unread) -> Failure,
) -> Result<Prepared, Failure> {
    let started = Instant::now();
    let read = sample::read_views(&manifest.modalities, &parts, &Limits::default()).map_err(refuse)?;
    let (Read { sample, notes, sha256 }, views) = read;
    let decode = started.elapsed();
    let shown: Vec<(Option<[u32; 4]>, Sample)> = match views.is_empty() {
        // What came is not sent on.
        true => vec![(None, sample.without_originals())],
        false => views.into_iter().map(|View { region, sample }| (Some(region), sample)).collect(),
    };
    let look = |(region, sample)| {
        let encoders = manifest.encoders.iter().zip(needed);
        let input = |(encoder, needed): (_, &bool)| match needed {
            true => encoder_input(manifest, encoder, &sample),
            false => Ok(None),
        };
        let inputs: Result<By<EncoderIx, Option<Array>>, _> = encoders.map(input).collect();
        let inputs = inputs?;
        Ok(Look { region, sample, inputs })
    };
    let looks = shown.into_iter().map(look).collect::<Result<_, Failure>>()?;
    Ok(Prepared { looks, notes, sha256, decode })
}

#[cfg(test)]
mod tests {
    use millgate_shared::index::{ExpertIx, Ix};

    use super::*;

    #[test]
    fn named_experts_need_the_encoders_that_they_name_and_the_gate_all() {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        let x = ExpertIx::new;
        let mut manifest = Manifest::parse(&text).unwrap();
        assert!(!manifest.encoders.is_empty());
        // Where nothing is compared nobody else takes an embedding.
        manifest.products.clear();
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
