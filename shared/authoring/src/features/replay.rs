//! Decisions over what the models made of samples before: the driver that decides on a device, without running a model.
//!
//! A manifest with other numbers (competence, thresholds, sharpness) and another scope are so tried at once on thousands of
//! samples.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_mixture::driver::{Ask, Driver, DriverError, Experts, Gate, Reply, Standing};
use millgate_mixture::local::to_the_end;
use millgate_model::competence::Answer;
use millgate_model::deciding::{Compared, Mode, Policy, Todo};
use millgate_model::decision::{Missing, Outcome, Run};
use millgate_model::gate::{Place, tier_places};
use millgate_model::manifest::Manifest;
use millgate_model::scope::Scope;
use millgate_sample::index::{By, ExpertIx};

use super::Seen;

/// The engine that answers are said to come from.
const ENGINE: &str = "replay";

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Experts of tier `edge` alone, as on a device without a pool.
    Device,
    /// Those of tier `cloud` too, each if the certified threshold asks for it.
    Both,
    /// Those of tier `cloud` for every sample, besides those of the device.
    Always,
}

/// What a device would decide, by what the models made of the sample. `task` and `risk` are the operator's.
pub fn decide(
    manifest: &Arc<Manifest>,
    task: &str,
    scope: &Scope,
    risk: f64,
    who: Who,
    seen: &Seen,
) -> Result<Outcome, DriverError<Infallible>> {
    let (mode, cloud) = match who {
        Who::Device => (Mode::Never, Place::Absent(Missing::Offline)),
        Who::Both => (Mode::Confidence, Place::Remote),
        Who::Always => (Mode::Always, Place::Remote),
    };
    let policy = Policy {
        mode,
        risk,
        deadline: Duration::from_secs(3600),
        scope: scope.clone(),
        // What is known is known here.
        false_alarms: Some(0.0),
        ..Policy::for_bundle(manifest)
    };
    let started = Instant::now();
    let ask =
        Ask { task, policy, places: tier_places(manifest, cloud), presence: seen.presence.clone(), started };
    let mut recorded = Recorded { manifest, seen, queue: Vec::new(), now: started };
    to_the_end(async {
        let mut driver = Driver::begin(manifest, &mut recorded, ask).await?;
        driver.run(&mut recorded).await;
        Ok(driver.close()?.outcome)
    })
}

/// Experts whose answers are known.
#[derive(Debug)]
struct Recorded<'a> {
    manifest: &'a Manifest,
    seen: &'a Seen,
    queue: Vec<ExpertIx>,
    now: Instant,
}

impl Experts for Recorded<'_> {
    fn ask(&mut self, todo: Todo, _: Standing) -> Vec<String> {
        self.queue.extend(todo.local.into_iter().chain(todo.remote).rev());
        Vec::new()
    }

    fn next(&mut self, _: Instant) -> impl Future<Output = Option<Reply>> + Send {
        let reply = self.queue.pop().map(|expert| {
            let labels = self.manifest.experts[expert].labels.len();
            let answered = self.seen.experts[expert].as_ref();
            let answer = answered.and_then(|one| Answer::from_logits(expert, labels, &one.logits).ok());
            let answer = answer.map(|answer| (answer, Run::here(0, ENGINE))).ok_or(Missing::Failed);
            Reply { expert, at: self.now, answer }
        });
        ready(reply)
    }

    /// What is replayed is known: labelled samples are of their product.
    fn compare(&mut self, _: &str) -> impl Future<Output = Compared> + Send {
        ready(Compared::default())
    }
}

impl Gate for Recorded<'_> {
    type Error = Infallible;

    fn embed(&mut self) -> impl Future<Output = Result<(), Infallible>> + Send {
        ready(Ok(()))
    }

    fn score(&mut self) -> impl Future<Output = Result<By<ExpertIx, f64>, Infallible>> + Send {
        ready(Ok(self.seen.scores.clone()))
    }
}
