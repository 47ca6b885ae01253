use std::sync::Arc;
use std::time::Instant;

use millgate_sample::index::{By, Ix, TaskIx};
use proptest::prelude::*;

use super::*;
use crate::deciding::{Mode, Policy};
use crate::gate::Ranking;
use crate::manifest::Tier;
use crate::manifest::tests::manifest;
use crate::scope::Scope;

/// One local expert and up to four of the pool, all with the labels of the task.
fn many() -> Arc<Manifest> {
    let mut manifest = manifest();
    let mut template = manifest.experts[ExpertIx::new(1)].clone();
    template.tier = Tier::Cloud;
    manifest.experts = manifest.experts.into_iter().take(1).collect();
    for at in 0..4 {
        let mut expert = template.clone();
        expert.name = format!("l{at}");
        expert.competence.gate = 0.3 * f64::from(at);
        manifest.experts.push(expert);
    }
    Arc::new(manifest)
}

fn deciding(manifest: &Arc<Manifest>, mode: &Mode, scores: &[f64], cloud: Place) -> Deciding {
    let places = [Place::Local, cloud, cloud, cloud, cloud].into();
    let (presence, task) = (By::from([true, true]), TaskIx::new(0));
    let scores = scores.to_vec().into();
    let ranking = Ranking::new(manifest, &manifest.tasks[task], &Scope::default(), &presence, scores, places);
    let policy = Policy { mode: mode.clone(), ..Policy::for_bundle(manifest) };
    let mut deciding = Deciding::new(manifest, task, &presence, ranking, policy, Instant::now()).unwrap();
    deciding.start();
    deciding
}

fn says(manifest: &Manifest, expert: usize, numbers: &[f64]) -> Answer {
    let expert = ExpertIx::new(expert);
    let labels = manifest.experts[expert].labels.len();
    let sum: f64 = numbers[..labels].iter().sum();
    Answer { expert, probabilities: numbers[..labels].iter().map(|number| number / sum).collect() }
}

proptest! {
    /// Late answers give what the same answers would have given in time, to the last bit, in whatever order they come,
    /// and also after a stay on disk.
    #[test]
    fn late_is_as_good_as_in_time(
        scores in prop::collection::vec(-3.0..3.0_f64, 5),
        numbers in prop::collection::vec(prop::collection::vec(0.01..1.0_f64, 3), 5),
        pinned in prop::sample::subsequence(vec![1_usize, 2, 3, 4], 1..=4),
        is_pinned in any::<bool>(),
        in_time in prop::sample::subsequence(vec![1_usize, 2, 3, 4], 0..=4),
        shuffle in any::<u64>(),
        is_offline in any::<bool>(),
    ) {
        let manifest = many();
        let mode = if is_pinned {
            let mut names = vec!["a-s".to_owned()];
            names.extend(pinned.iter().map(|at| manifest.experts[ExpertIx::new(*at)].name.clone()));
            Mode::Pinned(names)
        } else {
            Mode::Gate
        };
        let now = Instant::now();
        let answer = |expert: usize| says(&manifest, expert, &numbers[expert]);

        let mut prompt = deciding(&manifest, &mode, &scores, Place::Remote);
        for expert in 0..5 {
            prompt.answered(answer(expert), now);
        }
        let (prompt, nothing_open) = prompt.close().unwrap();
        prop_assert_eq!(&nothing_open, &None);

        let cloud = if is_offline { Place::Absent(Missing::Offline) } else { Place::Remote };
        let mut late = deciding(&manifest, &mode, &scores, cloud);
        late.answered(answer(0), now);
        for expert in &in_time {
            late.answered(answer(*expert), now);
        }
        let Ok((provisional, Some(open))) = late.close() else {
            // Everybody was in time, the mode wants nobody of the pool, or there was nobody at all.
            return Ok(());
        };
        prop_assert_eq!(provisional.state, State::Provisional);
        let mut answers: Vec<Answer> =
            open.to_ask().map(|name| answer(manifest.expert_index(name).unwrap().at())).collect();
        let count = answers.len();
        answers.rotate_left((shuffle % count as u64) as usize);
        if shuffle & 1 == 1 {
            answers.reverse();
        }
        let kept: Open = serde_json::from_str(&serde_json::to_string(&open).unwrap()).unwrap();
        prop_assert_eq!(&kept, &open);
        let amended = kept.amend(&manifest, &answers).unwrap();
        prop_assert_eq!(amended.state, State::Amended);
        prop_assert_eq!(&amended.mixed, &prompt.mixed);
        prop_assert_eq!(&amended.answers, &prompt.answers);
        prop_assert_eq!(&amended.degraded, &prompt.degraded);

        // Some of them only: the rest stays missing, and the order still does not matter.
        if count > 1 {
            let some = &answers[..count - 1];
            let partial = open.amend(&manifest, some).unwrap();
            let mut reversed = some.to_vec();
            reversed.reverse();
            prop_assert_eq!(&partial, &open.amend(&manifest, &reversed).unwrap());
            prop_assert_eq!(partial.degraded.unwrap().missing.len(), 1);
        }
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let manifest = many();
    let mut deciding = deciding(&manifest, &Mode::Gate, &[0.0, 2.0, 1.0, 0.0, 0.0], Place::Remote);
    deciding.answered(says(&manifest, 0, &[0.5, 0.5]), Instant::now());
    let open = deciding.close().unwrap().1.unwrap();
    assert_eq!(open.to_ask().collect::<Vec<_>>(), ["l0", "l1"]);
    let l0 = says(&manifest, 1, &[0.2, 0.3, 0.5]);
    assert_eq!(open.amend(&manifest, &[]), Err(AmendError::NoAnswer));
    assert_eq!(open.amend(&manifest, &[l0.clone(), l0]), Err(AmendError::Twice("l0".to_owned())));
    let short = Answer { expert: ExpertIx::new(1), probabilities: vec![1.0] };
    assert_eq!(open.amend(&manifest, &[short]), Err(AmendError::Labels("l0".to_owned())));
    let stranger = says(&manifest, 4, &[0.2, 0.3, 0.5]);
    assert_eq!(open.amend(&manifest, &[stranger]), Err(AmendError::NoAnswer));
    let other = Open { task: "other".to_owned(), ..open };
    assert!(matches!(other.amend(&manifest, &[]), Err(AmendError::UnknownTask(_))));
}

#[test]
fn what_was_kept_before_there_were_scopes_and_recipes_is_read() {
    let manifest = many();
    let mut deciding = deciding(&manifest, &Mode::Always, &[0.0; 5], Place::Absent(Missing::Offline));
    deciding.answered(says(&manifest, 0, &[0.8, 0.1, 0.1]), Instant::now());
    deciding.compared(crate::deciding::Compared::default());
    let (_, open) = deciding.close().unwrap();
    let open = open.unwrap();
    let text = serde_json::to_string(&open).unwrap();
    for key in ["scope", "novelty", "checks", "recipe"] {
        assert!(!text.contains(&format!("\"{key}\"")), "{key}: what is not there is not written: {text}");
    }
    assert_eq!(serde_json::from_str::<Open>(&text).unwrap(), open);
}
