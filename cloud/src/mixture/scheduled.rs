//! The models of a hosted bundle as one sample's driver asks them: each behind the scheduler, so that those of several
//! samples share batches where that pays.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use millgate_shared::array::Array;
use millgate_shared::banks::{self, EXPERT};
use millgate_shared::competence::Answer;
use millgate_shared::deciding::{Compared, Todo};
use millgate_shared::decision::{Missing, Run};
use millgate_shared::driver::{Experts, Gate, Reply, Standing};
use millgate_shared::embedding::{Embedding, Embeddings};
use millgate_shared::index::{By, EncoderIx, ExpertIx};
use millgate_shared::inputs::{GATE_INPUTS, expert_inputs, gate_inputs};
use millgate_shared::local::Spent;
use millgate_shared::looks;
use millgate_shared::sample::Sample;

use crate::failure::Failure;
use crate::hosted::{Hosted, Ran, ask, embed};
use crate::serving::Serving;
use crate::serving::request::Call;

/// A sample and its embeddings.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) sample: Arc<Sample>,
    /// Empty until the encoders have run.
    embeddings: Arc<Embeddings>,
}

type Answered = (ExpertIx, Result<(Answer, Ran), Failure>);

/// See the module's head. Dropping it takes back what waits.
pub(super) struct Scheduled<'a> {
    hosted: &'a Hosted,
    serving: &'a Serving,
    /// This node, as decisions name it.
    place: &'a str,
    call: Call,
    seen: Seen,
    /// What encoders take; `None` where a modality is absent, or nobody takes what its encoder gives.
    inputs: By<EncoderIx, Option<Array>>,
    /// Features of the experts that have answered; none where the bundle has no banks.
    features: BTreeMap<ExpertIx, Vec<f32>>,
    under_way: FuturesUnordered<BoxFuture<'a, Answered>>,
    first_failure: Option<Failure>,
    /// Why the sample could not be compared with known ones: then nobody knows whether it is one.
    not_compared: Option<Failure>,
    spent: Spent,
}

impl Seen {
    pub(super) fn new(sample: Sample) -> Self {
        Self { sample: Arc::new(sample), embeddings: Arc::default() }
    }
}

impl<'a> Scheduled<'a> {
    pub(super) fn new(
        hosted: &'a Hosted,
        serving: &'a Serving,
        place: &'a str,
        call: Call,
        seen: Seen,
        inputs: By<EncoderIx, Option<Array>>,
    ) -> Self {
        let (features, under_way, spent) = (BTreeMap::new(), FuturesUnordered::new(), Spent::default());
        Self {
            hosted,
            serving,
            place,
            call,
            seen,
            inputs,
            features,
            under_way,
            first_failure: None,
            not_compared: None,
            spent,
        }
    }

    /// The sample, the time that encoders and gate took, and why the first of the experts that failed did. Refuses where the
    /// sample was to be compared with known ones and was not.
    pub(super) fn into_parts(self) -> Result<(Seen, Spent, Option<Failure>), Failure> {
        self.not_compared.map_or(Ok((self.seen, self.spent, self.first_failure)), Err)
    }

    fn answer(&mut self, expert: ExpertIx, answered: Result<(Answer, Ran), Failure>) -> Reply {
        let answer = match answered {
            Ok((answer, ran)) => {
                let features = ran.output("nov").or_else(|| ran.output("feat"));
                let features = features.filter(|_| !self.hosted.banks().is_empty());
                if let Some(features) = features.and_then(|features| features.as_fp32().ok()) {
                    self.features.insert(expert, features.to_vec());
                }
                let run = Run {
                    place: self.place.to_owned(),
                    latency_us: ran.phases.compute.as_micros() as u64,
                    engine: ran.served.choice.name(),
                    batch: ran.phases.batch.try_into().unwrap_or(u32::MAX),
                };
                Ok((answer, run))
            }
            Err(failure) => {
                let missing = match &failure {
                    Failure::Refused { .. } => Missing::Shed,
                    Failure::Deadline => Missing::Deadline,
                    _ => {
                        let name = &self.hosted.manifest().experts[expert].name;
                        tracing::warn!(expert = name, error = %failure, "expert failed");
                        Missing::Failed
                    }
                };
                self.first_failure.get_or_insert(failure);
                Err(missing)
            }
        };
        Reply { expert, at: Instant::now(), answer }
    }
}

impl Experts for Scheduled<'_> {
    fn ask(&mut self, todo: Todo, _: Standing) -> Vec<String> {
        // Every expert is within reach here, and none is anywhere else.
        for expert in todo.local.into_iter().chain(todo.remote) {
            let answer = answer(self.hosted, self.serving, expert, self.seen.clone(), self.call.clone());
            self.under_way.push(Box::pin(async move { (expert, answer.await) }));
        }
        Vec::new()
    }

    /// The scheduler itself keeps to the deadline, and says so.
    async fn next(&mut self, _: Instant) -> Option<Reply> {
        let (expert, answered) = self.under_way.next().await?;
        Some(self.answer(expert, answered))
    }

    /// On a model thread: statistics are taken of every pixel.
    async fn compare(&mut self, product: &str) -> Compared {
        let manifest = Arc::clone(self.hosted.manifest());
        if manifest.product(product).is_none() {
            return Compared::default();
        }
        let (banks, seen) = (Arc::clone(self.hosted.banks()), self.seen.clone());
        let (features, product) = (std::mem::take(&mut self.features), product.to_owned());
        let compare = move || {
            let checks = looks::failed(&manifest, &product, &seen.sample);
            let score = banks.of(&product).and_then(|bank| {
                banks::compare(&manifest, bank, |detector| match detector.strip_prefix(EXPERT) {
                    Some(expert) => features.get(&manifest.expert_index(expert)?).map(Cow::from),
                    None => banks::picture_features(&manifest, &seen.sample, &seen.embeddings).map(Cow::from),
                })
            });
            Ok(Compared { score, checks })
        };
        match self.serving.on_thread(self.call.clone(), 0, compare).await {
            Ok(compared) => compared,
            Err(failure) => {
                self.not_compared = Some(failure);
                Compared::default()
            }
        }
    }
}

impl Gate for Scheduled<'_> {
    type Error = Failure;

    async fn embed(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let (hosted, serving, call) = (self.hosted, self.serving, &self.call);
        let inputs = std::mem::take(&mut self.inputs);
        let runs = inputs.into_pairs().map(|(encoder, input)| async move {
            let Some(input) = input else { return Ok(None) };
            let embedding = embed(hosted, serving, encoder, input, call.clone()).await?;
            Ok::<_, Failure>(Some(Embedding::of_encoder(embedding)))
        });
        self.seen.embeddings = Arc::new(Embeddings::new(try_join_all(runs).await?.into()));
        self.spent.encode += started.elapsed();
        Ok(())
    }

    async fn score(&mut self) -> Result<By<ExpertIx, f64>, Failure> {
        let started = Instant::now();
        let Seen { sample, embeddings } = &self.seen;
        let inputs = gate_inputs(self.hosted.manifest(), sample, embeddings)?;
        let inputs = GATE_INPUTS.into_iter().zip(inputs).collect();
        let ran = ask(self.serving, self.hosted.gate(), inputs, self.call.clone()).await?;
        let scores = values(&ran, "scores")?.iter().map(|score| f64::from(*score)).collect();
        self.spent.gate += started.elapsed();
        Ok(scores)
    }
}

async fn answer(
    hosted: &Hosted,
    serving: &Serving,
    expert: ExpertIx,
    seen: Seen,
    call: Call,
) -> Result<(Answer, Ran), Failure> {
    let manifest = Arc::clone(hosted.manifest());
    let labels = manifest.experts[expert].labels.len();
    let inputs = move || Ok(expert_inputs(&manifest, expert, &seen.sample, &seen.embeddings)?);
    let inputs = serving.on_thread(call.clone(), 0, inputs).await?;
    let ran = hosted.expert(serving, expert, inputs, call).await?;
    let answer = Answer::from_logits(expert, labels, values(&ran, "logits")?);
    let answer = answer.map_err(|error| Failure::Model(format!("expert `{}` {error}", ran.served.name)))?;
    Ok((answer, ran))
}

fn values<'a>(ran: &'a Ran, output: &str) -> Result<&'a [f32], Failure> {
    let found = ran.output(output);
    let found =
        found.ok_or_else(|| Failure::Model(format!("model `{}` gave no `{output}`", ran.served.name)))?;
    found.as_fp32().map_err(|error| Failure::Model(format!("model `{}`: {error}", ran.served.name)))
}
