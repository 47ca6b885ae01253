use std::path::Path;
use std::sync::atomic::AtomicUsize;

use millgate_bundle::Bundle;
use millgate_engine::Tract;
use millgate_mixture::runner::Holding;
use millgate_model::scope::Scope;
use millgate_sample::index::Ix;

use super::*;
use crate::progress::Silent;

pub(crate) fn factory(holding: Holding) -> Arc<Models> {
    let bundle = Bundle::open(Path::new("../../models/factory")).unwrap();
    Arc::new(Models::load(&bundle, holding, &Tract).unwrap())
}

fn golden(name: &str, template: bool) -> Item {
    let file = |ending: &str| Path::new("../../models/factory/golden").join(format!("{name}{ending}"));
    let mut parts =
        [("image".to_owned(), file(".png"))].into_iter().collect::<std::collections::BTreeMap<_, _>>();
    if template {
        parts.insert("template".to_owned(), file(".template.png"));
    }
    Item { name: name.to_owned(), parts, label: "p/x".to_owned(), group: name.to_owned(), split: None }
}

struct Counted(AtomicUsize);

impl Progress for Counted {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, steps: usize) {
        self.0.fetch_add(steps, Ordering::Relaxed);
    }
}

#[test]
fn samples_come_out_in_order_and_alike_and_bad_ones_by_name() {
    let models = factory(Holding::Edge);
    let items = [golden("pcb-open", true), golden("gone", false), golden("steel-red-iron", false)];
    let counted = Counted(AtomicUsize::new(0));
    let collected = collect(&models, &items, &counted).unwrap();
    assert_eq!(counted.0.load(Ordering::Relaxed), 3);
    assert_eq!(collected.seen.iter().map(|seen| seen.item).collect::<Vec<_>>(), [0, 2]);
    let [refused] = &collected.refused[..] else { panic!("{:?}", collected.refused) };
    assert!(refused.item == 1 && refused.reason.contains("gone.png: No such file"), "{refused:?}");
    assert_eq!(collect(&models, &items, &Silent).unwrap().seen, collected.seen);
    let manifest = models.manifest();
    let answered = |seen: &Seen, expert: &str| seen.experts[manifest.expert_index(expert).unwrap()].clone();
    let [board, steel] = &collected.seen[..] else { panic!("two are left") };
    let answer = answered(board, "pcb-s").unwrap();
    assert_eq!((answer.logits.len(), answer.features.is_empty()), (7, false));
    assert_eq!(answered(steel, "pcb-s"), None, "there is no template");
    assert!(answered(steel, "steel-s").is_some());
    assert_eq!(answered(steel, "steel-l"), None, "it is not held");
    assert_eq!(steel.scores.len(), manifest.experts.len());
    assert!(!steel.presence[ModalityIx::new(1)] && board.presence[ModalityIx::new(1)]);
    let all = collected.all().unwrap_err().to_string();
    assert!(all.starts_with("1 of 3 pictures cannot be used:\n") && all.contains("gone.png"), "{all}");
}

#[test]
fn nothing_left_is_an_error() {
    let models = factory(Holding::Edge);
    let error = collect(&models, &[golden("gone", false)], &Silent).unwrap_err().to_string();
    assert!(
        error.contains("every one of the 1 samples was refused") && error.contains("gone.png"),
        "{error}"
    );
}

#[test]
fn a_replayed_decision_is_the_one_that_was_made() {
    let bundle = Bundle::open(Path::new("../../models/factory")).unwrap();
    let models = factory(Holding::All);
    let golden_decisions = &bundle.manifest().golden.decisions;
    let items: Vec<Item> = golden_decisions
        .iter()
        .map(|decision| Item {
            name: decision.label.clone(),
            parts: decision
                .parts
                .iter()
                .map(|(name, file)| (name.clone(), bundle.dir().join(file)))
                .collect(),
            label: decision.label.clone(),
            group: decision.label.clone(),
            split: None,
        })
        .collect();
    let seen = collect(&models, &items, &Silent).unwrap().all().unwrap();
    let manifest = models.manifest();
    // What is unknown is so by a bank, and a replay compares nothing.
    let known = seen.iter().zip(golden_decisions).filter(|(_, golden)| golden.label != "unknown");
    for (seen, golden) in known {
        let decide =
            |who| replay::decide(manifest, &golden.task, &Scope::default(), 0.02, who, seen).unwrap();
        let outcome = decide(replay::Who::Device);
        assert_eq!(
            manifest.tasks[millgate_sample::index::TaskIx::new(0)].labels[outcome.mixed.verdict],
            golden.label
        );
        assert!((outcome.mixed.probabilities[outcome.mixed.verdict] - golden.probability).abs() < 0.01);
        assert!((outcome.why.local_risk.unwrap() - golden.risk).abs() < 0.01);
        let experts = |outcome: &millgate_model::decision::Outcome| outcome.answers.len();
        assert!(experts(&decide(replay::Who::Always)) > experts(&outcome), "the pool answers too");
        assert_eq!(seen.scores_alone.is_some(), golden.parts.len() > 1);
    }
}
