//! The step between the local answers and the pool: is the sample like anything known, and do its pictures look as they should?
//!
//! A sample that is unknown has no certificate: thresholds hold for samples drawn as the calibration samples were.

use super::{Deciding, Mode, Todo};
use crate::competence::Answer;
use crate::decision::FailedCheck;
use crate::manifest::{Threshold, product_of};
use crate::novelty::{Novelty, Score};

/// What comparing a sample with the known ones of a product gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compared {
    /// `None` where the bundle has no bank for the product, or none that fits who answered.
    pub score: Option<Score>,
    /// What its pictures fail.
    pub checks: Vec<FailedCheck>,
}

impl Deciding {
    /// The product that the local answers speak of, once they are all in: compare the sample with what is known of it, and
    /// tell [`Self::compared`].
    pub fn to_compare(&self) -> Option<&str> {
        let mixed = self.to_compare.as_ref()?;
        Some(product_of(&self.task().labels[mixed.verdict]))
    }

    /// Takes what the comparison gave, and says whether the pool is to be asked.
    pub fn compared(&mut self, compared: Compared) -> Todo {
        let Some(mixed) = self.to_compare.take() else { return Todo::default() };
        let Compared { score, checks } = compared;
        let likeliest = self.task().labels[mixed.verdict].clone();
        let product = product_of(&likeliest).to_owned();
        let bank = self.manifest.product(&product).and_then(|product| product.novelty.as_ref());
        let whole = self.policy.false_alarms.or(bank.map(|bank| bank.false_alarms)).unwrap_or(0.0);
        // A good part is called unknown if one of its regions is: together they may be no more often than one.
        let regions = self.policy.regions.max(1);
        let bound = whole / f64::from(regions);
        // Nobody knows whether the sample is a known one, though the bundle could tell for others of its product.
        let is_blind = score.is_none() && bank.is_some() && bound > 0.0;
        self.novelty = score.map(|Score { p, detector, nearest }| {
            let likeliest = (p <= bound || !checks.is_empty()).then_some(likeliest);
            Novelty { p, bound, product, detector, nearest, likeliest }
        });
        self.checks = checks;
        let unknown = self.unknown();
        if self.policy.mode != Mode::Confidence || self.asked_remote {
            if let Some(unknown) = unknown {
                self.rule = format!("{unknown}; {}", self.rule);
            }
            return Todo::default();
        }
        let wanted = match &unknown {
            None if is_blind => {
                let why = "the sample could not be compared with known ones, so the certificate does not hold for it";
                self.rule = match self.remote.is_empty() {
                    true => format!("local: {why}, but no cloud expert may be asked"),
                    false => format!("asked_cloud: {why}"),
                };
                true
            }
            None => self.is_cloud_wanted(&mixed),
            // The pool knows no more of a picture that shows nothing.
            Some(unknown) if !self.checks.is_empty() => {
                self.rule = unknown.clone();
                false
            }
            Some(unknown) => {
                self.rule = match self.remote.is_empty() {
                    true => format!("{unknown}; no cloud expert may be asked"),
                    false => format!("{unknown}; asked_cloud"),
                };
                true
            }
        };
        if regions > 1 {
            self.note(&format!("the most suspicious of {regions} regions, and a certificate is of one"));
        }
        let remote = if wanted { self.ask_remote() } else { Vec::new() };
        Todo { local: Vec::new(), remote }
    }

    /// Says why the sample is unknown, if it is.
    fn unknown(&self) -> Option<String> {
        const VOID: &str = "the certificate does not hold for it";
        if let Some(FailedCheck { modality, check, value, bounds: [least, most] }) = self.checks.first() {
            let found = format!("{check} {value:.4} is not within {least:.4} to {most:.4}");
            return Some(format!("unknown: `{modality}` fails the picture check: {found}; {VOID}"));
        }
        let novelty = self.novelty.as_ref().filter(|novelty| novelty.is_unknown())?;
        let Novelty { p, bound, product, detector, .. } = novelty;
        Some(format!("unknown: p {p:.4} <= {bound} among known samples of {product} ({detector}); {VOID}"))
    }

    /// The certified threshold for a verdict of this product under the scope.
    pub(super) fn certified(&self, product: &str) -> Option<&Threshold> {
        let (scope, task) = (&self.policy.scope, self.task());
        let restricted = match (scope.is_whole(task), scope.product(task)) {
            (true, _) => false,
            (false, Some(only)) if only == product => true,
            (false, _) => return None,
        };
        self.manifest.certified(product, self.policy.risk, restricted)
    }

    /// Says why there is no certified threshold.
    pub(super) fn uncertified(&self, product: &str) -> String {
        let (scope, task, risk) = (&self.policy.scope, self.task(), self.policy.risk);
        match scope.is_whole(task) {
            true => format!("no certified threshold for {product} at risk {risk}"),
            false => format!(
                "no certified threshold for {product} at risk {risk} where only {scope} may be the answer"
            ),
        }
    }

    /// The answer with the labels that may be the answer; `None` if none of them has any probability.
    pub(super) fn within_scope(&self, answer: Answer) -> Option<Answer> {
        let (scope, labels) = (&self.policy.scope, &self.manifest.experts[answer.expert].labels);
        if scope.is_open() || labels.iter().all(|label| scope.allows(label)) {
            return Some(answer);
        }
        answer.within(|at| labels.get(at).is_some_and(|label| scope.allows(label)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use millgate_sample::index::{By, ExpertIx, Ix, TaskIx};
    use proptest::prelude::*;

    use super::*;
    use crate::deciding::Policy;
    use crate::decision::{Missing, Outcome, State};
    use crate::gate::{Place, Ranking};
    use crate::manifest::tests::manifest;
    use crate::manifest::{Manifest, Product, Threshold};
    use crate::recipe::{Disposition, Recipe};
    use crate::scope::Scope;

    const UP: [Place; 3] = [Place::Local, Place::Local, Place::Remote];

    /// With a recipe for product `a`.
    fn with_recipe() -> Manifest {
        let mut manifest = manifest();
        let dispositions = [("a/good", Disposition::Accept), ("a/bad", Disposition::Reject)];
        manifest.products.push(Product {
            name: "a".to_owned(),
            dispositions: dispositions.map(|(label, what)| (label.to_owned(), what)).into(),
            costs: None,
            checks: Vec::new(),
            novelty: None,
        });
        manifest
    }

    fn begun(manifest: Manifest, policy: Policy, places: [Place; 3]) -> Deciding {
        let (manifest, task) = (Arc::new(manifest), TaskIx::new(0));
        let presence = By::from([true, true]);
        let scores = [2.0, -1.0, 2.0].into();
        let spec = &manifest.tasks[task];
        let ranking = Ranking::new(&manifest, spec, &policy.scope, &presence, scores, places.into());
        let mut deciding =
            Deciding::new(&manifest, task, &presence, ranking, policy, Instant::now()).unwrap();
        deciding.start();
        deciding
    }

    fn asked(labels: &[&str]) -> Policy {
        Policy { scope: Scope::of(labels.iter().copied()), ..Policy::for_bundle(&manifest()) }
    }

    fn says(expert: usize, probabilities: &[f64]) -> Answer {
        Answer { expert: ExpertIx::new(expert), probabilities: probabilities.to_vec() }
    }

    fn odd(p: f64) -> Compared {
        let score = Score { p, detector: "picture".to_owned(), nearest: Vec::new() };
        Compared { score: Some(score), checks: Vec::new() }
    }

    fn closed(deciding: Deciding) -> Outcome {
        deciding.close().unwrap().0
    }

    #[test]
    fn an_odd_sample_is_unknown_however_sure_the_expert_and_asks_the_pool() {
        let policy = Policy { false_alarms: Some(0.02), ..asked(&[]) };
        let mut deciding = begun(with_recipe(), policy, UP);
        assert_eq!(deciding.answered(says(0, &[0.999, 0.001]), Instant::now()), Todo::default());
        assert_eq!(deciding.to_compare(), Some("a"));
        let todo = deciding.compared(odd(0.01));
        assert_eq!((todo.local.len(), todo.remote.len()), (0, 1));
        deciding.answered(says(2, &[0.999, 0.001]), Instant::now());
        let outcome = closed(deciding);
        assert!(outcome.is_unknown());
        assert_eq!((outcome.state, outcome.disposition), (State::Final, Some(Disposition::Review)));
        assert_eq!(outcome.novelty.unwrap().likeliest.as_deref(), Some("a/good"));
        let rule = "unknown: p 0.0100 <= 0.02 among known samples of a (picture); the certificate does not hold for it; asked_cloud";
        assert_eq!(outcome.why.rule, rule);
    }

    #[test]
    fn regions_share_what_may_be_called_unknown() {
        let policy = |regions| Policy { false_alarms: Some(0.02), regions, ..asked(&[]) };
        for (regions, is_unknown) in [(1, true), (4, false)] {
            let mut deciding = begun(with_recipe(), policy(regions), UP);
            deciding.answered(says(0, &[0.95, 0.05]), Instant::now());
            deciding.compared(odd(0.01));
            let outcome = closed(deciding);
            assert_eq!(outcome.is_unknown(), is_unknown);
            assert_eq!(outcome.why.rule.contains("the most suspicious of 4 regions"), regions == 4);
        }
    }

    #[test]
    fn who_cannot_be_compared_has_no_certificate() {
        let mut manifest = with_recipe();
        manifest.products[0].novelty = Some(crate::manifest::NoveltyBank {
            file: "novelty/a.safetensors".to_owned(),
            neighbours: 5,
            detectors: vec!["expert:a-s".to_owned()],
            false_alarms: 0.02,
            calibration_samples: 100,
        });
        let mut deciding = begun(manifest.clone(), asked(&[]), UP);
        deciding.answered(says(0, &[0.999, 0.001]), Instant::now());
        assert_eq!(deciding.compared(Compared::default()).remote.len(), 1);
        assert!(deciding.rule.starts_with("asked_cloud: the sample could not be compared"));
        let mut deciding = begun(manifest, Policy { false_alarms: Some(0.0), ..asked(&[]) }, UP);
        deciding.answered(says(0, &[0.999, 0.001]), Instant::now());
        assert_eq!(deciding.compared(Compared::default()), Todo::default(), "nobody asked for it");
    }

    #[test]
    fn a_sample_like_the_known_ones_is_decided_as_without_a_comparison() {
        let policy = Policy { false_alarms: Some(0.02), ..asked(&[]) };
        let mut deciding = begun(with_recipe(), policy, UP);
        deciding.answered(says(0, &[0.95, 0.05]), Instant::now());
        assert_eq!(deciding.compared(odd(0.3)), Todo::default());
        let outcome = closed(deciding);
        assert!(!outcome.is_unknown());
        assert_eq!(outcome.disposition, Some(Disposition::Accept));
        assert_eq!(outcome.why.rule, "local: risk 0.0500 <= threshold 0.1000 at risk 0.02");
    }

    #[test]
    fn a_picture_that_shows_nothing_is_unknown_and_stays_here() {
        let mut deciding = begun(manifest(), asked(&[]), UP);
        deciding.answered(says(0, &[0.6, 0.4]), Instant::now());
        let check = FailedCheck {
            modality: "image".to_owned(),
            check: "contrast".to_owned(),
            value: 0.0,
            bounds: [1.0, 90.0],
        };
        let compared = Compared { score: None, checks: vec![check] };
        assert_eq!(deciding.compared(compared), Todo::default());
        let outcome = closed(deciding);
        assert!(outcome.is_unknown() && outcome.why.rule.starts_with("unknown: `image` fails"));
        assert_eq!(outcome.disposition, Some(Disposition::Review));
    }

    #[test]
    fn unknown_stays_when_the_pool_answers_late() {
        let policy = Policy { false_alarms: Some(0.02), ..asked(&[]) };
        let down = [Place::Local, Place::Local, Place::Absent(Missing::Offline)];
        let mut deciding = begun(with_recipe(), policy, down);
        deciding.answered(says(0, &[0.999, 0.001]), Instant::now());
        deciding.compared(odd(0.001));
        let manifest = Arc::clone(&deciding.manifest);
        let (outcome, open) = deciding.close().unwrap();
        assert!(outcome.is_unknown());
        assert_eq!(outcome.state, State::Provisional);
        let amended = open.unwrap().amend(&manifest, &[says(2, &[0.9999, 0.0001])]).unwrap();
        assert!(amended.is_unknown());
        assert_eq!(amended.disposition, Some(Disposition::Review));
    }

    #[test]
    fn a_scope_masks_experts_and_takes_labels_out() {
        let mut deciding = begun(with_recipe(), asked(&["a/bad", "b"]), UP);
        deciding.answered(says(0, &[0.9, 0.1]), Instant::now());
        deciding.compared(Compared::default());
        assert!(deciding.rule.contains("where only a/bad, b may be the answer"), "{}", deciding.rule);
        let outcome = closed(deciding);
        assert_eq!(outcome.mixed.probabilities, [0.0, 1.0, 0.0]);
        let deciding = begun(manifest(), asked(&["b"]), UP);
        assert_eq!(deciding.why().masked["a-s"], "has none of the labels that may be the answer");
    }

    #[test]
    fn a_source_of_one_product_has_certificates_of_its_own() {
        let mut manifest = manifest();
        let mut deciding = begun(manifest.clone(), asked(&["a"]), UP);
        deciding.answered(says(0, &[0.999, 0.001]), Instant::now());
        assert_eq!(deciding.compared(Compared::default()).remote.len(), 1, "none is certified for it");
        let open = manifest.offload.thresholds[0].clone();
        manifest.offload.thresholds.push(Threshold { restricted: true, threshold: 0.2, ..open });
        let mut deciding = begun(manifest, asked(&["a"]), UP);
        deciding.answered(says(0, &[0.85, 0.15]), Instant::now());
        assert_eq!(deciding.compared(Compared::default()), Todo::default());
        assert_eq!(closed(deciding).why.threshold, Some(0.2));
    }

    #[test]
    fn a_label_that_is_not_there_is_refused() {
        let (manifest, task, policy) = (Arc::new(manifest()), TaskIx::new(0), asked(&["c"]));
        let presence = By::from([true, true]);
        let spec = &manifest.tasks[task];
        let scores = [0.0; 3].into();
        let ranking = Ranking::new(&manifest, spec, &policy.scope, &presence, scores, UP.into());
        let error = Deciding::new(&manifest, task, &presence, ranking, policy, Instant::now()).unwrap_err();
        assert_eq!(error.to_string(), "`labels`: `c` is neither a product nor a label of task `inspect`");
    }

    #[test]
    fn the_operators_recipe_goes_before_the_bundles() {
        let labels = [("a/good".to_owned(), Disposition::Reject)].into();
        let recipe = Some(Arc::new(Recipe { labels, costs: None }));
        let mut deciding = begun(with_recipe(), Policy { recipe, ..asked(&[]) }, UP);
        deciding.answered(says(0, &[0.95, 0.05]), Instant::now());
        deciding.compared(Compared::default());
        assert_eq!(closed(deciding).disposition, Some(Disposition::Reject));
    }

    proptest! {
        /// Whatever is asked for, no probability lies outside the scope, and a scope of everything is no scope.
        #[test]
        fn no_probability_lies_outside_the_scope(good in 0.0f64..=1.0, which in 0usize..4) {
            let labels: &[&str] = [&["a"][..], &["a/bad"], &["b"], &["a", "b"]][which];
            let scope = Scope::of(labels.iter().copied());
            let mut deciding = begun(with_recipe(), asked(labels), UP);
            let expert = if which == 2 { 1 } else { 0 };
            let answer = if expert == 1 { vec![good * 0.5, 0.25, 0.75 - good * 0.5] } else { vec![good, 1.0 - good] };
            deciding.answered(says(expert, &answer), Instant::now());
            deciding.compared(Compared::default());
            let Ok((outcome, _)) = deciding.close() else { return Ok(()) };
            let manifest = manifest();
            for (label, probability) in manifest.tasks[TaskIx::new(0)].labels.iter().zip(&outcome.mixed.probabilities) {
                prop_assert!(scope.allows(label) || *probability == 0.0);
            }
            if which == 3 {
                let mut whole = begun(with_recipe(), asked(&[]), UP);
                whole.answered(says(expert, &answer), Instant::now());
                whole.compared(Compared::default());
                let whole = whole.close().unwrap().0;
                prop_assert_eq!(whole, outcome);
            }
        }
    }
}
