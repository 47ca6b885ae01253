//! One sample's way from the gate's scores to a verdict: a state machine that takes events and `now`, and says what to
//! do next. It reads no clock, does no IO and runs no model.
//!
//! ```text
//! Deciding::new ── start() ──> run these here, ask those of the pool (modes gate, always, pinned)
//!        answered / failed ──> substitutes to run
//!        to_compare() ──> compared(): once the local answers are in; the pool to ask (mode confidence)
//!        wait_until()      ──> None: close() now; Some(t): wait for answers until t, then close()
//! ```
//!
//! The gate proposes, confidence disposes: chosen local experts run first, and the chosen cloud expert is called only if
//! the calibrated risk of the local answer is over the threshold certified for the product and the risk asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use millgate_sample::index::{By, ExpertIx, ModalityIx, TaskIx};

use crate::combine::{Mixed, Weighed, combine};
use crate::competence::{Answer, competence};
use crate::decision::{Degraded, FailedCheck, Missing, MissingExpert, Outcome, State, Why};
use crate::gate::{Place, Ranking};
use crate::manifest::{Manifest, Task, product_of};
use crate::novelty::Novelty;
use crate::scope::ScopeError;

mod comparing;
mod open;
mod policy;
#[cfg(test)]
mod tests;

pub use comparing::Compared;
pub use open::{AmendError, Open, OpenAnswer, Wanted};
pub use policy::{Mode, Policy, PolicyError, Wish, are_false_alarms};

/// Why there can be no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecidingError {
    #[error("no expert answers task `{task}` for a sample with {}", list(.present))]
    NoExpert { task: String, present: Vec<String> },
    #[error("`{0}` is not an expert of this bundle")]
    UnknownExpert(String),
    #[error("pinned expert `{expert}` cannot be asked: {reason}")]
    Pinned { expert: String, reason: String },
    #[error("`labels`: {0}")]
    Scope(#[from] ScopeError),
    #[error("no expert answered: {}", missing_list(.0))]
    NoAnswer(Vec<MissingExpert>),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no modality".to_owned() } else { names.join(", ") }
}

fn missing_list(missing: &[MissingExpert]) -> String {
    let each = missing.iter().map(|missing| format!("{} ({})", missing.name, missing.reason.as_str()));
    each.collect::<Vec<_>>().join(", ")
}

/// Experts to be started now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Todo {
    pub local: Vec<ExpertIx>,
    /// In one call to the pool.
    pub remote: Vec<ExpertIx>,
}

impl Todo {
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }
}

/// The state of one sample.
#[derive(Debug)]
pub struct Deciding {
    manifest: Arc<Manifest>,
    task: TaskIx,
    ranking: Ranking,
    policy: Policy,
    deadline: Instant,
    local: Vec<ExpertIx>,
    remote: Vec<ExpertIx>,
    pending_local: Vec<ExpertIx>,
    pending_remote: Vec<ExpertIx>,
    asked_remote: bool,
    /// A picture failed a check before anybody was asked, so that the pool is not.
    held_back: bool,
    local_settled: bool,
    tried: Vec<ExpertIx>,
    answers: Vec<Weighed>,
    missing: Vec<(ExpertIx, Missing)>,
    first_remote_answer: Option<Instant>,
    rule: String,
    local_risk: Option<f64>,
    threshold: Option<f64>,
    /// The local answers together, until they have been compared with what is known.
    to_compare: Option<Mixed>,
    novelty: Option<Novelty>,
    checks: Vec<FailedCheck>,
}

impl Deciding {
    /// `ranking` is from the gate's scores (or zeros, in mode `pinned`).
    pub fn new(
        manifest: &Arc<Manifest>,
        task: TaskIx,
        presence: &By<ModalityIx, bool>,
        ranking: Ranking,
        policy: Policy,
        now: Instant,
    ) -> Result<Self, DecidingError> {
        let mut this = Self {
            manifest: Arc::clone(manifest),
            task,
            ranking,
            deadline: now + policy.deadline,
            policy,
            local: Vec::new(),
            remote: Vec::new(),
            pending_local: Vec::new(),
            pending_remote: Vec::new(),
            asked_remote: false,
            held_back: false,
            local_settled: false,
            tried: Vec::new(),
            answers: Vec::new(),
            missing: Vec::new(),
            first_remote_answer: None,
            rule: String::new(),
            local_risk: None,
            threshold: None,
            to_compare: None,
            novelty: None,
            checks: Vec::new(),
        };
        this.policy.scope.check(this.task())?;
        match this.policy.mode.clone() {
            Mode::Pinned(names) => this.choose_pinned(&names)?,
            Mode::Confidence | Mode::Gate | Mode::Always | Mode::Never => this.choose(),
        }
        if this.local.is_empty() && this.remote.is_empty() {
            let names = manifest.modalities.iter().map(|modality| &modality.name);
            let present = names.zip(presence).filter(|(_, present)| **present).map(|(name, _)| name.clone());
            return Err(DecidingError::NoExpert {
                task: this.task().name.clone(),
                present: present.collect(),
            });
        }
        Ok(this)
    }

    fn task(&self) -> &Task {
        &self.manifest.tasks[self.task]
    }

    /// The task's index in the manifest.
    pub fn task_index(&self) -> TaskIx {
        self.task
    }

    /// The calibrated risk of the local answers, once they are in.
    pub fn local_risk(&self) -> Option<f64> {
        self.local_risk
    }

    /// Says more on the rule that fired: why an expert that it wants was not asked.
    pub fn note(&mut self, note: &str) {
        self.rule.push_str("; ");
        self.rule.push_str(note);
    }

    /// By when the decision is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the pool is asked before any local answer is in, though there will be one: then pictures are to be checked first, and
    /// [`Self::hold_back`] called if one fails.
    pub fn asks_unseen(&self) -> bool {
        let at_once = matches!(self.policy.mode, Mode::Gate | Mode::Always | Mode::Pinned(_));
        at_once && !self.remote.is_empty() && !self.local.is_empty()
    }

    /// The product of the sample, where the restriction leaves only one.
    pub fn only_product(&self) -> Option<&str> {
        self.policy.scope.product(self.task())
    }

    /// Leaves the pool out: it knows no more of a picture that fails a check. Call before [`Self::start`].
    pub fn hold_back(&mut self) {
        self.held_back = true;
    }

    /// What to start first. Call once.
    pub fn start(&mut self) -> Todo {
        let at_once = match self.policy.mode {
            Mode::Confidence | Mode::Never => self.local.is_empty(),
            Mode::Gate | Mode::Always | Mode::Pinned(_) => !self.held_back,
        };
        self.rule = match &self.policy.mode {
            Mode::Gate => "mode gate".to_owned(),
            Mode::Always => "mode always".to_owned(),
            Mode::Pinned(_) => "mode pinned".to_owned(),
            Mode::Never => "mode never".to_owned(),
            Mode::Confidence => "asked_cloud: no local expert for this sample".to_owned(),
        };
        if self.held_back {
            self.note("the pool is not asked, since a picture fails a check");
        }
        let remote = if at_once && self.policy.mode != Mode::Never { self.ask_remote() } else { Vec::new() };
        self.pending_local = self.local.clone();
        self.tried.extend(&self.pending_local);
        Todo { local: self.pending_local.clone(), remote }
    }

    /// An expert has answered.
    pub fn answered(&mut self, answer: Answer, now: Instant) -> Todo {
        let expert = answer.expert;
        let Some(answer) = self.within_scope(answer) else { return self.failed(expert, Missing::Failed) };
        if !self.settle(expert) {
            return Todo::default();
        }
        if self.ranking.places[expert] == Place::Remote {
            self.first_remote_answer.get_or_insert(now);
        }
        let share = self.trusted_share(expert);
        let competence = competence(&self.manifest.experts[expert].competence, answer.confidence(), share);
        self.answers.push(Weighed { answer, competence });
        self.after_local()
    }

    /// The gate's share of an expert, as far as its competence goes by it: without a gate run there is none to go by.
    fn trusted_share(&self, expert: ExpertIx) -> f64 {
        match self.policy.mode {
            Mode::Pinned(_) => 1.0,
            Mode::Confidence | Mode::Gate | Mode::Always | Mode::Never => self.ranking.shares[expert],
        }
    }

    /// An expert will not answer.
    pub fn failed(&mut self, expert: ExpertIx, reason: Missing) -> Todo {
        if !self.settle(expert) {
            return Todo::default();
        }
        self.missing.push((expert, reason));
        if self.ranking.places[expert] == Place::Local
            && let Some(substitute) = self.substitute(expert)
        {
            self.tried.push(substitute);
            self.pending_local.push(substitute);
            return Todo { local: vec![substitute], remote: Vec::new() };
        }
        self.after_local()
    }

    /// How long to wait for what is still out; `None` if there is nothing to wait for.
    pub fn wait_until(&self) -> Option<Instant> {
        if !self.pending_local.is_empty() {
            return Some(self.deadline);
        }
        if self.pending_remote.is_empty() {
            return None;
        }
        let enough = self.answers.len() >= self.manifest.combine.k_min;
        match self.first_remote_answer {
            Some(first) if enough => Some((first + self.policy.grace).min(self.deadline)),
            _ => Some(self.deadline),
        }
    }

    /// Closes the sample: what is still out is missing by deadline. Gives what a late answer of the pool needs to be
    /// worked in as well; `None` if there is nobody to ask later.
    pub fn close(mut self) -> Result<(Outcome, Option<Open>), DecidingError> {
        let late: Vec<ExpertIx> = self.pending_local.drain(..).chain(self.pending_remote.drain(..)).collect();
        self.missing.extend(late.into_iter().map(|expert| (expert, Missing::Deadline)));
        // Sums of floats depend on their order: the verdict must not depend on who was first to answer.
        self.answers.sort_by_key(|weighed| weighed.answer.expert);
        let mixed = combine(&self.manifest.combine, self.task(), &self.manifest.experts, &self.answers);
        let Some(mixed) = mixed.filter(|_| self.answers.len() >= self.manifest.combine.k_min) else {
            return Err(DecidingError::NoAnswer(self.missing_experts()));
        };
        let degraded = self.degraded();
        let open = self.open();
        let mut outcome = Outcome {
            state: if degraded.is_some() { State::Provisional } else { State::Final },
            degraded,
            why: self.why(),
            mixed,
            answers: self.answers,
            novelty: self.novelty,
            checks: self.checks,
            disposition: None,
        };
        outcome.dispose(&self.manifest, &self.manifest.tasks[self.task], self.policy.recipe.as_deref());
        Ok((outcome, open))
    }

    fn choose(&mut self) {
        let ranking = &self.ranking;
        let (local, remote): (Vec<ExpertIx>, Vec<ExpertIx>) =
            ranking.top(self.task().k).iter().partition(|expert| ranking.is_local(**expert));
        let best =
            |is_local: bool| ranking.order().iter().copied().find(|at| ranking.is_local(*at) == is_local);
        let (best_local, best_remote) = (best(true), best(false));
        self.local = or_best(local, best_local);
        self.remote = match self.policy.mode {
            Mode::Never => Vec::new(),
            Mode::Gate => remote,
            _ => or_best(remote, best_remote),
        };
    }

    fn choose_pinned(&mut self, names: &[String]) -> Result<(), DecidingError> {
        for name in names {
            let Some(expert) = self.manifest.expert_index(name) else {
                return Err(DecidingError::UnknownExpert(name.clone()));
            };
            if let Some(mask) = &self.ranking.masks[expert] {
                return Err(DecidingError::Pinned { expert: name.clone(), reason: mask.to_string() });
            }
            if self.ranking.is_local(expert) { &mut self.local } else { &mut self.remote }.push(expert);
        }
        let reachable = self.remote.iter().any(|expert| self.ranking.places[*expert] == Place::Remote);
        if self.local.is_empty() && !reachable {
            // Every pinned expert is out of reach: a local one keeps the factory its answer.
            let ranking = &self.ranking;
            self.local =
                or_best(Vec::new(), ranking.order().iter().copied().find(|at| ranking.is_local(*at)));
        }
        Ok(())
    }

    /// Takes an expert off the pending ones; false if it was not.
    fn settle(&mut self, expert: ExpertIx) -> bool {
        for pending in [&mut self.pending_local, &mut self.pending_remote] {
            if let Some(at) = pending.iter().position(|waiting| *waiting == expert) {
                pending.swap_remove(at);
                return true;
            }
        }
        false
    }

    fn substitute(&self, expert: ExpertIx) -> Option<ExpertIx> {
        let names = self.manifest.experts[expert].substitutes.iter();
        names.filter_map(|name| self.manifest.expert_index(name)).find(|index| {
            self.ranking.masks[*index].is_none()
                && self.ranking.places[*index] == Place::Local
                && !self.tried.contains(index)
        })
    }

    /// Once the last local answer is in: what is it worth, and is the cloud worth it?
    fn after_local(&mut self) -> Todo {
        if !self.pending_local.is_empty() || self.local_settled {
            return Todo::default();
        }
        self.local_settled = true;
        let is_local = |weighed: &&Weighed| self.ranking.places[weighed.answer.expert] == Place::Local;
        let local: Vec<Weighed> = self.answers.iter().filter(is_local).cloned().collect();
        let mixed = combine(&self.manifest.combine, self.task(), &self.manifest.experts, &local);
        self.local_risk = mixed.as_ref().map(|mixed| mixed.risk);
        if let Some(mixed) = mixed {
            // Who is asked next depends on how the sample compares with what is known.
            self.to_compare = Some(mixed);
            return Todo::default();
        }
        if self.asked_remote || (self.policy.mode != Mode::Confidence && !self.held_back) {
            return Todo::default();
        }
        self.rule = "asked_cloud: no local answer".to_owned();
        Todo { local: Vec::new(), remote: self.ask_remote() }
    }

    fn is_cloud_wanted(&mut self, local: &Mixed) -> bool {
        let product = product_of(&self.task().labels[local.verdict]).to_owned();
        let (risk, asked_for) = (local.risk, self.policy.risk);
        let certified = self.certified(&product).cloned();
        self.threshold = certified.as_ref().map(|certified| certified.threshold);
        let (wanted, rule) = match certified {
            Some(certified) => {
                let at = match certified.is_for(asked_for) {
                    true => format!("risk {asked_for}"),
                    false => {
                        format!("risk {}, the next stricter certified one for {asked_for}", certified.risk)
                    }
                };
                let threshold = certified.threshold;
                match risk <= threshold {
                    true => (false, format!("local: risk {risk:.4} <= threshold {threshold:.4} at {at}")),
                    false => {
                        (true, format!("asked_cloud: risk {risk:.4} > threshold {threshold:.4} at {at}"))
                    }
                }
            }
            None => (true, format!("asked_cloud: {}", self.uncertified(&product))),
        };
        self.rule = match rule.strip_prefix("asked_cloud: ") {
            Some(why) if self.remote.is_empty() => format!("local: {why}, but no cloud expert may be asked"),
            _ => rule,
        };
        wanted
    }

    /// The cloud is wanted: who can be asked, and who is missed.
    fn ask_remote(&mut self) -> Vec<ExpertIx> {
        self.asked_remote = true;
        for expert in self.remote.iter().copied() {
            match self.ranking.places[expert] {
                Place::Absent(reason) => self.missing.push((expert, reason)),
                Place::Local | Place::Remote => self.pending_remote.push(expert),
                // Masked, and so never chosen.
                Place::Withheld(_) => {}
            }
        }
        self.pending_remote.clone()
    }

    fn missing_experts(&self) -> Vec<MissingExpert> {
        let missing = self.missing.iter();
        missing
            .map(|(expert, reason)| MissingExpert {
                name: self.manifest.experts[*expert].name.clone(),
                reason: *reason,
            })
            .collect()
    }

    fn degraded(&self) -> Option<Degraded> {
        let (_, reason) = self.missing.first()?;
        let share = |expert: ExpertIx| self.ranking.shares[expert];
        let answered: f64 = self.answers.iter().map(|weighed| share(weighed.answer.expert)).sum();
        let missed: f64 = self.missing.iter().map(|(expert, _)| share(*expert)).sum();
        let wanted = answered + missed;
        let weight_mass = if wanted > 0.0 { answered / wanted } else { 0.0 };
        Some(Degraded { reason: *reason, missing: self.missing_experts(), weight_mass, later: None })
    }

    fn why(&self) -> Why {
        let name = |expert: ExpertIx| self.manifest.experts[expert].name.clone();
        let mut why = Why {
            rule: self.rule.clone(),
            gate: BTreeMap::new(),
            price: BTreeMap::new(),
            masked: BTreeMap::new(),
            local_risk: self.local_risk,
            threshold: self.threshold,
        };
        for expert in self.manifest.experts.indices() {
            if self.ranking.masks[expert].is_none() {
                why.gate.insert(name(expert), self.ranking.scores[expert]);
                if self.ranking.prices[expert] != 0.0 {
                    why.price.insert(name(expert), self.ranking.prices[expert]);
                }
            }
            if let Some(mask) = &self.ranking.masks[expert] {
                why.masked.insert(name(expert), mask.to_string());
            }
        }
        if matches!(self.policy.mode, Mode::Pinned(_)) {
            why.gate.clear();
        }
        why
    }
}

fn or_best(chosen: Vec<ExpertIx>, best: Option<ExpertIx>) -> Vec<ExpertIx> {
    if chosen.is_empty() { best.into_iter().collect() } else { chosen }
}
