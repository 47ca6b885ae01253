use std::time::Duration;

use millgate_sample::index::Ix;
use proptest::prelude::*;

use super::*;
use crate::manifest::tests::manifest;
use crate::scope::Scope;

const MS: Duration = Duration::from_millis(1);
const UP: [Place; 3] = [Place::Local, Place::Local, Place::Remote];
const DOWN: [Place; 3] = [Place::Local, Place::Local, Place::Absent(Missing::Offline)];
/// The gate likes a-s best, then a-l, then all-s.
const SCORES: [f64; 3] = [2.0, -1.0, 2.0];

fn policy(mode: Mode) -> Policy {
    Policy { mode, ..Policy::for_bundle(&manifest()) }
}

fn deciding(mode: Mode, places: [Place; 3]) -> (Deciding, Instant) {
    let manifest = Arc::new(manifest());
    let presence = By::from([true, true]);
    let task = TaskIx::new(0);
    let spec = &manifest.tasks[task];
    let ranking = Ranking::new(&manifest, spec, &Scope::default(), &presence, SCORES.into(), places.into());
    let now = Instant::now();
    (Deciding::new(&manifest, task, &presence, ranking, policy(mode), now).unwrap(), now)
}

/// An expert of product `a` that says `a/good` with this probability.
fn says(expert: usize, good: f64) -> Answer {
    let probabilities = if expert == 1 { vec![good, 1.0 - good, 0.0] } else { vec![good, 1.0 - good] };
    Answer { expert: x(expert), probabilities }
}

/// Takes an answer or a failure, and goes on as a driver does where nothing is known of the product.
pub(super) fn gone_on(deciding: &mut Deciding, todo: Todo) -> Todo {
    match deciding.to_compare().is_some() {
        true => deciding.compared(Compared::default()),
        false => todo,
    }
}

fn answered(deciding: &mut Deciding, answer: Answer, now: Instant) -> Todo {
    let todo = deciding.answered(answer, now);
    gone_on(deciding, todo)
}

fn failed(deciding: &mut Deciding, expert: ExpertIx, reason: Missing) -> Todo {
    let todo = deciding.failed(expert, reason);
    gone_on(deciding, todo)
}

fn finish(deciding: Deciding) -> Result<Outcome, DecidingError> {
    deciding.close().map(|(outcome, _)| outcome)
}

fn x(expert: usize) -> ExpertIx {
    ExpertIx::new(expert)
}

fn local(experts: &[usize]) -> Todo {
    Todo { local: experts.iter().copied().map(x).collect(), remote: Vec::new() }
}

fn remote(experts: &[usize]) -> Todo {
    Todo { local: Vec::new(), remote: experts.iter().copied().map(x).collect() }
}

#[test]
fn a_sure_local_answer_stays_local() {
    let (mut deciding, now) = deciding(Mode::Confidence, UP);
    assert_eq!(deciding.start(), local(&[0]));
    assert_eq!(answered(&mut deciding, says(0, 0.95), now), Todo::default());
    assert_eq!(deciding.wait_until(), None);
    let outcome = finish(deciding).unwrap();
    assert_eq!(outcome.state, State::Final);
    assert_eq!(outcome.mixed.verdict, 0);
    assert!((outcome.why.local_risk.unwrap() - 0.05).abs() < 1e-9);
    assert_eq!(outcome.why.threshold, Some(0.1));
    assert_eq!(outcome.why.rule, "local: risk 0.0500 <= threshold 0.1000 at risk 0.02");
}

#[test]
fn an_unsure_one_asks_the_cloud_and_the_better_answer_wins() {
    let (mut deciding, now) = deciding(Mode::Confidence, UP);
    deciding.start();
    assert_eq!(answered(&mut deciding, says(0, 0.6), now), remote(&[2]));
    assert_eq!(deciding.wait_until(), Some(deciding.deadline()));
    answered(&mut deciding, says(2, 0.01), now + MS);
    assert_eq!(deciding.wait_until(), None);
    let outcome = finish(deciding).unwrap();
    assert_eq!((outcome.state, outcome.mixed.verdict), (State::Final, 1));
    assert_eq!(outcome.mixed.weights, [0.0, 1.0]);
}

#[test]
fn a_product_without_a_certificate_asks_the_cloud() {
    let (mut deciding, now) = deciding(Mode::Confidence, UP);
    deciding.policy.risk = 0.01;
    deciding.start();
    assert_eq!(answered(&mut deciding, says(0, 0.999), now), remote(&[2]));
    assert_eq!(deciding.rule, "asked_cloud: no certified threshold for a at risk 0.01");
}

#[test]
fn a_risk_that_none_is_certified_for_goes_by_the_next_stricter_one_and_says_so() {
    for (good, rule) in [
        (
            0.95,
            "local: risk 0.0500 <= threshold 0.1000 at risk 0.02, the next stricter certified one for 0.5",
        ),
        (
            0.6,
            "asked_cloud: risk 0.4000 > threshold 0.1000 at risk 0.02, the next stricter certified one for 0.5",
        ),
    ] {
        let (mut deciding, now) = deciding(Mode::Confidence, UP);
        deciding.policy.risk = 0.5;
        deciding.start();
        answered(&mut deciding, says(0, good), now);
        assert_eq!((deciding.rule.as_str(), deciding.threshold), (rule, Some(0.1)));
    }
}

#[test]
fn a_cloud_that_does_not_answer_leaves_an_honest_local_answer() {
    let (mut deciding, now) = deciding(Mode::Confidence, UP);
    deciding.start();
    answered(&mut deciding, says(0, 0.6), now);
    let outcome = finish(deciding).unwrap();
    assert_eq!((outcome.state, outcome.mixed.verdict), (State::Provisional, 0));
    let degraded = outcome.degraded.unwrap();
    assert_eq!(degraded.reason, Missing::Deadline);
    assert_eq!(degraded.missing[0].name, "a-l");
    assert!((degraded.weight_mass - 0.5).abs() < 1e-9);
}

#[test]
fn an_outage_is_noted_only_where_the_cloud_was_wanted() {
    for (good, expected) in [(0.6, Some(Missing::Offline)), (0.95, None)] {
        let (mut deciding, now) = deciding(Mode::Confidence, DOWN);
        assert_eq!(deciding.start(), local(&[0]));
        assert_eq!(answered(&mut deciding, says(0, good), now), Todo::default());
        assert_eq!(deciding.wait_until(), None);
        let outcome = finish(deciding).unwrap();
        assert_eq!(outcome.degraded.map(|degraded| degraded.reason), expected);
    }
}

#[test]
fn a_failed_local_expert_is_replaced_by_its_substitute() {
    let (mut deciding, now) = deciding(Mode::Never, UP);
    deciding.start();
    assert_eq!(failed(&mut deciding, x(0), Missing::Failed), local(&[1]));
    assert_eq!(answered(&mut deciding, says(1, 0.8), now), Todo::default());
    let outcome = finish(deciding).unwrap();
    assert_eq!(outcome.answers[0].answer.expert, x(1));
    assert_eq!(outcome.degraded.unwrap().missing[0].name, "a-s");
}

#[test]
fn with_no_local_answer_at_all_the_cloud_is_asked() {
    let (mut deciding, now) = deciding(Mode::Confidence, UP);
    deciding.start();
    failed(&mut deciding, x(0), Missing::Failed);
    assert_eq!(failed(&mut deciding, x(1), Missing::Failed), remote(&[2]));
    answered(&mut deciding, says(2, 0.9), now);
    assert_eq!(finish(deciding).unwrap().answers.len(), 1);
}

#[test]
fn no_answer_from_anyone_is_an_error_that_names_them() {
    let (mut deciding, _) = deciding(Mode::Confidence, DOWN);
    deciding.start();
    failed(&mut deciding, x(0), Missing::Failed);
    failed(&mut deciding, x(1), Missing::Failed);
    let message = finish(deciding).unwrap_err().to_string();
    assert_eq!(message, "no expert answered: a-s (failed), all-s (failed), a-l (offline)");
}

#[test]
fn the_modes_ask_whom_they_say() {
    let expected = [
        (Mode::Confidence, local(&[0])),
        (Mode::Never, local(&[0])),
        (Mode::Gate, Todo { local: vec![x(0)], remote: vec![x(2)] }),
        (Mode::Always, Todo { local: vec![x(0)], remote: vec![x(2)] }),
        (Mode::Pinned(vec!["all-s".to_owned()]), local(&[1])),
        (Mode::Pinned(vec!["a-l".to_owned()]), remote(&[2])),
    ];
    for (mode, todo) in expected {
        assert_eq!(deciding(mode.clone(), UP).0.start(), todo, "{mode:?}");
    }
    assert_eq!(deciding(Mode::Pinned(vec!["a-l".to_owned()]), DOWN).0.start(), local(&[0]));
}

#[test]
fn further_cloud_answers_get_a_grace_and_no_more() {
    let (mut deciding, now) = deciding(Mode::Pinned(vec!["a-l".to_owned(), "all-s".to_owned()]), {
        [Place::Local, Place::Remote, Place::Remote]
    });
    assert_eq!(deciding.start().remote, [x(2), x(1)]);
    assert_eq!(deciding.wait_until(), Some(deciding.deadline()));
    answered(&mut deciding, says(2, 0.9), now + MS);
    assert_eq!(deciding.wait_until(), Some(now + MS + deciding.policy.grace));
}

#[test]
fn an_answer_nobody_asked_for_is_ignored() {
    let (mut deciding, now) = deciding(Mode::Never, UP);
    deciding.start();
    assert_eq!(answered(&mut deciding, says(2, 0.1), now), Todo::default());
    answered(&mut deciding, says(0, 0.9), now);
    answered(&mut deciding, says(0, 0.1), now);
    assert_eq!(finish(deciding).unwrap().answers.len(), 1);
}

proptest! {
    /// Whatever the experts and the line do, in whatever order, a sample ends in one decision whose numbers hold, or in
    /// an error if nobody answered.
    #[test]
    fn every_sample_ends(
        mode in prop_oneof![
            Just(Mode::Confidence), Just(Mode::Gate), Just(Mode::Always), Just(Mode::Never),
            Just(Mode::Pinned(vec!["a-l".to_owned()])),
        ],
        // Something is always held here, for every kind of sample.
        places in prop::array::uniform2(prop_oneof![
            Just(Place::Local), Just(Place::Remote), Just(Place::Absent(Missing::Offline))
        ]).prop_map(|[second, third]| [Place::Local, second, third]),
        events in prop::collection::vec((0..3_usize, 0.0..=1.0_f64, prop::bool::weighted(0.3)), 0..12),
    ) {
        let (mut deciding, now) = deciding(mode, places);
        let mut out = Vec::new();
        let started = |todo: Todo, out: &mut Vec<ExpertIx>| {
            for expert in todo.local.iter().chain(&todo.remote) {
                assert!(!out.contains(expert), "asked twice");
                out.push(*expert);
            }
        };
        started(deciding.start(), &mut out);
        let mut count = 0;
        for (at, (expert, good, fails)) in events.into_iter().enumerate() {
            let now = now + MS * at as u32;
            let counts = deciding.pending_local.contains(&x(expert)) || deciding.pending_remote.contains(&x(expert));
            let todo = if fails {
                failed(&mut deciding, x(expert), Missing::Failed)
            } else {
                count += usize::from(counts);
                answered(&mut deciding, says(expert, good), now)
            };
            started(todo, &mut out);
            prop_assert!(deciding.wait_until().is_none_or(|until| until <= deciding.deadline()));
        }
        match finish(deciding) {
            Ok(outcome) => {
                prop_assert_eq!(outcome.answers.len(), count);
                prop_assert!((outcome.mixed.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!((outcome.mixed.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!((0.0..=1.0).contains(&outcome.mixed.risk));
                prop_assert_eq!(outcome.state == State::Provisional, outcome.degraded.is_some());
            }
            Err(error) => prop_assert!(count == 0, "{error}"),
        }
    }
}

#[test]
fn where_policy_withholds_the_only_cloud_expert_the_rule_says_so() {
    let (mut deciding, now) =
        deciding(Mode::Confidence, [Place::Local, Place::Local, Place::Withheld(ModalityIx::new(0))]);
    deciding.start();
    answered(&mut deciding, says(0, 0.6), now);
    assert_eq!(answered(&mut deciding, says(1, 0.6), now), Todo::default());
    assert!(deciding.local_risk().unwrap() > 0.1);
    deciding.note("a note");
    let outcome = finish(deciding).unwrap();
    assert_eq!(outcome.state, State::Final);
    assert!(outcome.why.rule.starts_with("local: risk 0."), "{}", outcome.why.rule);
    assert!(outcome.why.rule.ends_with("but no cloud expert may be asked; a note"), "{}", outcome.why.rule);
    assert_eq!(outcome.why.masked["a-l"], "policy: only features of `image` leave the device");
}

#[test]
fn the_pool_is_not_asked_of_a_picture_that_fails_a_check_in_any_mode() {
    for mode in [Mode::Gate, Mode::Always, Mode::Pinned(vec!["a-s".to_owned(), "a-l".to_owned()])] {
        let (mut asked, _) = deciding(mode.clone(), UP);
        assert!(!asked.start().remote.is_empty(), "{mode:?}");
        let (mut held, now) = deciding(mode.clone(), UP);
        assert!(held.asks_unseen(), "{mode:?}");
        held.hold_back();
        assert_eq!(held.start(), local(&[0]), "{mode:?}");
        assert_eq!(answered(&mut held, says(0, 0.95), now), Todo::default());
        assert_eq!(held.wait_until(), None);
        let outcome = finish(held).unwrap();
        assert!(outcome.degraded.is_none() && outcome.why.rule.contains("the pool is not asked"), "{mode:?}");
        // Where nobody here has an answer, the factory gets one all the same.
        let (mut held, _) = deciding(mode.clone(), UP);
        held.hold_back();
        held.start();
        let mut todo = failed(&mut held, x(0), Missing::Failed);
        while let [expert] = todo.local[..] {
            todo = failed(&mut held, expert, Missing::Failed);
        }
        assert!(!todo.remote.is_empty(), "{mode:?}");
    }
    for mode in [Mode::Confidence, Mode::Never] {
        assert!(!deciding(mode, UP).0.asks_unseen(), "the local answer comes first");
    }
}
