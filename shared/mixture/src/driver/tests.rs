use std::time::Duration;

use millgate_model::decision::State;

use super::*;
use crate::local::to_the_end;

const MS: Duration = Duration::from_millis(1);
/// Within it the agent's decisions are due, in these tests.
const DEADLINE: Duration = Duration::from_millis(100);

/// Experts that do what a test has written for them, in a time of their own.
struct Script {
    manifest: Arc<Manifest>,
    /// Begins at 0, and moves on with what is waited for.
    now: Instant,
    /// How long after it was asked an expert replies, and what: how sure it is, or why not. Others never reply.
    replies: Vec<(&'static str, Duration, Result<f64, Missing>)>,
    /// Those that have been asked and not replied; `None`: it never will.
    out: Vec<(Option<Instant>, ExpertIx)>,
    gate_fails: bool,
    /// What happened, in order.
    log: Vec<String>,
    /// Products that the sample was compared with the known samples of, each with the number of calls so far.
    compared: Vec<(String, usize)>,
}

impl Script {
    fn new(replies: &[(&'static str, Duration, Result<f64, Missing>)]) -> Self {
        let text = std::fs::read_to_string("../../models/factory/bundle.toml").unwrap();
        let manifest = Arc::new(Manifest::parse(&text).unwrap());
        let (out, log) = (Vec::new(), Vec::new());
        let (replies, compared) = (replies.to_vec(), Vec::new());
        Self { manifest, now: Instant::now(), replies, out, gate_fails: false, log, compared }
    }

    fn expert(&self, name: &str) -> ExpertIx {
        self.manifest.expert_index(name).unwrap()
    }

    fn names(&self, experts: &[ExpertIx]) -> String {
        let names: Vec<&str> =
            experts.iter().map(|expert| self.manifest.experts[*expert].name.as_str()).collect();
        names.join(" ")
    }

    fn question(&self, mode: Mode, cloud: Place) -> Ask<'static> {
        Ask {
            task: "inspect",
            policy: Policy {
                mode,
                deadline: DEADLINE,
                false_alarms: Some(0.0),
                ..Policy::for_bundle(&self.manifest)
            },
            places: millgate_model::gate::tier_places(&self.manifest, cloud),
            presence: By::filled(self.manifest.modalities.len(), true),
            started: self.now,
        }
    }

    /// How sure an expert is of its first label.
    fn answer(&self, expert: ExpertIx, sure: f64) -> (Answer, Run) {
        let labels = self.manifest.experts[expert].labels.len();
        let mut probabilities = vec![(1.0 - sure) / (labels - 1) as f64; labels];
        probabilities[0] = sure;
        (Answer { expert, probabilities }, Run::here(7, "script"))
    }

    fn decide(&mut self, mode: Mode, cloud: Place) -> Result<Closed, DriverError<&'static str>> {
        let (manifest, ask) = (Arc::clone(&self.manifest), self.question(mode, cloud));
        to_the_end(async {
            let mut driver = Driver::begin(&manifest, self, ask).await?;
            driver.run(self).await;
            Ok(driver.close()?)
        })
    }

    fn missing(&self, closed: &Closed) -> Vec<(String, Missing)> {
        let degraded = closed.outcome.degraded.iter().flat_map(|degraded| &degraded.missing);
        degraded.map(|missing| (missing.name.clone(), missing.reason)).collect()
    }

    fn answered(&self, closed: &Closed) -> Vec<String> {
        let experts = closed.outcome.answers.iter().map(|weighed| weighed.answer.expert);
        experts.map(|expert| self.manifest.experts[expert].name.clone()).collect()
    }
}

impl Experts for Script {
    fn ask(&mut self, todo: Todo, standing: Standing) -> Vec<String> {
        let risk = if standing.local_risk.is_some() { "known" } else { "unknown" };
        let (here, pool) = (self.names(&todo.local), self.names(&todo.remote));
        self.log.push(format!("ask here [{here}] pool [{pool}] risk {risk}"));
        for expert in todo.local.into_iter().chain(todo.remote) {
            let name = &self.manifest.experts[expert].name;
            let reply = self.replies.iter().find(|(known, ..)| known == name);
            self.out.push((reply.map(|(_, after, _)| self.now + *after), expert));
        }
        Vec::new()
    }

    async fn next(&mut self, until: Instant) -> Option<Reply> {
        if self.out.is_empty() {
            return None;
        }
        let due = self.out.iter().filter(|(at, _)| at.is_some_and(|at| at <= until)).min().copied();
        let Some((Some(at), expert)) = due else {
            self.now = until;
            return None;
        };
        self.out.retain(|(_, other)| *other != expert);
        self.now = self.now.max(at);
        let name = &self.manifest.experts[expert].name;
        let (_, _, says) = self.replies.iter().find(|(known, ..)| known == name)?;
        Some(Reply { expert, at, answer: says.map(|sure| self.answer(expert, sure)) })
    }

    async fn compare(&mut self, product: &str) -> Compared {
        self.compared.push((product.to_owned(), self.log.len()));
        Compared::default()
    }
}

impl Gate for Script {
    type Error = &'static str;

    async fn embed(&mut self) -> Result<(), &'static str> {
        self.log.push("embed".to_owned());
        Ok(())
    }

    /// The gate likes pcb-s best, then pcb-l, then steel-s.
    async fn score(&mut self) -> Result<By<ExpertIx, f64>, &'static str> {
        self.log.push("score".to_owned());
        let like = |name: &str| match name {
            "pcb-s" => 6.0,
            "pcb-l" => 5.0,
            "steel-s" => 2.0,
            _ => -6.0,
        };
        if self.gate_fails {
            Err("the gate is broken")
        } else {
            Ok(self.manifest.experts.map(|e| like(&e.name)))
        }
    }
}

#[test]
fn what_is_sure_here_is_decided_without_the_pool() {
    let mut script = Script::new(&[("pcb-s", MS, Ok(0.999_999))]);
    let closed = script.decide(Mode::Confidence, Place::Remote).unwrap();
    assert_eq!(script.log, ["embed", "score", "ask here [pcb-s] pool [] risk unknown"]);
    assert_eq!((closed.outcome.state, script.answered(&closed)), (State::Final, vec!["pcb-s".to_owned()]));
    assert_eq!(closed.runs[&script.expert("pcb-s")].engine, "script");
    assert_eq!(closed.open, None);
}

#[test]
fn what_is_unsure_here_asks_the_pool_once_the_last_local_answer_is_in() {
    let mut script = Script::new(&[("pcb-s", MS, Ok(0.5)), ("pcb-l", 20 * MS, Ok(0.999_999))]);
    let closed = script.decide(Mode::Confidence, Place::Remote).unwrap();
    let asked = ["ask here [pcb-s] pool [] risk unknown", "ask here [] pool [pcb-l] risk known"];
    assert_eq!(script.log[2..], asked);
    assert_eq!((closed.outcome.state, closed.runs.len()), (State::Final, 2));
}

#[test]
fn where_the_mode_says_so_the_pool_is_asked_before_anyone_has_answered() {
    for mode in [Mode::Gate, Mode::Always] {
        let mut script = Script::new(&[("pcb-s", 50 * MS, Ok(0.9)), ("pcb-l", MS, Ok(0.9))]);
        let closed = script.decide(mode, Place::Remote).unwrap();
        assert_eq!(script.log[2..], ["ask here [pcb-s] pool [pcb-l] risk unknown"]);
        assert_eq!(closed.outcome.state, State::Final);
    }
}

#[test]
fn whoever_never_answers_is_given_up_at_the_deadline_and_can_be_asked_later() {
    let mut script = Script::new(&[("pcb-s", MS, Ok(0.5))]);
    let accepted = script.now;
    let closed = script.decide(Mode::Confidence, Place::Remote).unwrap();
    assert_eq!(script.now, accepted + DEADLINE);
    assert_eq!(closed.outcome.state, State::Provisional);
    assert_eq!(script.missing(&closed), [("pcb-l".to_owned(), Missing::Deadline)]);
    assert_eq!(closed.open.unwrap().to_ask().collect::<Vec<_>>(), ["pcb-l"]);
}

#[test]
fn an_answer_after_the_deadline_is_too_late() {
    let mut script = Script::new(&[("pcb-s", MS, Ok(0.5)), ("pcb-l", DEADLINE, Ok(0.9))]);
    let closed = script.decide(Mode::Confidence, Place::Remote).unwrap();
    assert_eq!(script.missing(&closed), [("pcb-l".to_owned(), Missing::Deadline)]);
}

#[test]
fn whoever_fails_here_has_a_substitute() {
    let fails = Err(Missing::Failed);
    let mut script =
        Script::new(&[("pcb-s", MS, fails), ("pcb-solo-s", MS, fails), ("generalist-s", MS, Ok(0.9))]);
    let closed = script.decide(Mode::Never, Place::Remote).unwrap();
    let here = |name: &str| format!("ask here [{name}] pool [] risk unknown");
    assert_eq!(script.log[2..], [here("pcb-s"), here("pcb-solo-s"), here("generalist-s")]);
    assert_eq!(closed.outcome.state, State::Provisional);
    let failed = |name: &str| (name.to_owned(), Missing::Failed);
    assert_eq!(script.missing(&closed), [failed("pcb-s"), failed("pcb-solo-s")]);
}

#[test]
fn each_reason_is_in_the_record() {
    for reason in [Missing::Shed, Missing::Budget, Missing::Offline, Missing::Failed] {
        let mut script = Script::new(&[("pcb-s", MS, Ok(0.5)), ("pcb-l", MS, Err(reason))]);
        let closed = script.decide(Mode::Gate, Place::Remote).unwrap();
        assert_eq!(script.missing(&closed), [("pcb-l".to_owned(), reason)]);
    }
    let mut script = Script::new(&[("pcb-s", MS, Ok(0.5))]);
    let closed = script.decide(Mode::Gate, Place::Absent(Missing::Offline)).unwrap();
    assert_eq!(script.log[2..], ["ask here [pcb-s] pool [] risk unknown"]);
    assert_eq!(script.missing(&closed), [("pcb-l".to_owned(), Missing::Offline)]);
}

#[test]
fn pinned_experts_are_asked_without_encoders_and_gate() {
    let mut script = Script::new(&[("steel-s", MS, Ok(0.9)), ("steel-l", MS, Ok(0.9))]);
    let pinned = Mode::Pinned(vec!["steel-s".to_owned(), "steel-l".to_owned()]);
    let closed = script.decide(pinned, Place::Remote).unwrap();
    assert_eq!(script.log, ["ask here [steel-s] pool [steel-l] risk unknown"]);
    assert_eq!(script.answered(&closed), ["steel-s", "steel-l"]);
}

#[test]
fn a_broken_gate_and_an_unknown_task_are_named() {
    let mut script = Script::new(&[]);
    script.gate_fails = true;
    let error = script.decide(Mode::Gate, Place::Remote).unwrap_err();
    assert_eq!(error, DriverError::Gate("the gate is broken"));
    let ask = Ask { task: "paint", ..script.question(Mode::Gate, Place::Remote) };
    let manifest = Arc::clone(&script.manifest);
    let error = to_the_end(Driver::begin(&manifest, &mut script, ask)).unwrap_err();
    assert_eq!(error, DriverError::UnknownTask("paint".to_owned()));
    let mut script = Script::new(&[("pcb-s", MS, Err(Missing::Failed))]);
    let error = script.decide(Mode::Never, Place::Remote).unwrap_err();
    assert!(matches!(error, DriverError::Deciding(DecidingError::NoAnswer(_))), "{error:?}");
}

/// The agent's way: a model thread has no more to give while the pool is out, and a task goes on elsewhere.
#[test]
fn a_driver_goes_on_with_other_experts_where_it_stopped() {
    /// Runs what is asked here, and leaves the pool's to another.
    struct Here(Script, Vec<ExpertIx>);

    impl Experts for Here {
        fn ask(&mut self, todo: Todo, standing: Standing) -> Vec<String> {
            self.1.extend(&todo.remote);
            Experts::ask(&mut self.0, Todo { remote: Vec::new(), ..todo }, standing);
            vec!["a note".to_owned()]
        }

        async fn next(&mut self, until: Instant) -> Option<Reply> {
            self.0.next(until).await
        }

        async fn compare(&mut self, product: &str) -> Compared {
            self.0.compare(product).await
        }
    }

    let mut script = Script::new(&[("pcb-s", MS, Ok(0.5)), ("pcb-l", MS, Ok(0.999_999))]);
    let (manifest, ask) = (Arc::clone(&script.manifest), script.question(Mode::Confidence, Place::Remote));
    let mut driver = to_the_end(Driver::begin(&manifest, &mut script, ask)).unwrap();
    let mut here = Here(script, Vec::new());
    to_the_end(driver.run(&mut here));
    let Here(mut there, asked) = here;
    assert_eq!(there.names(&asked), "pcb-l");
    let now = there.now;
    there.out.extend(asked.into_iter().map(|expert| (Some(now), expert)));
    to_the_end(driver.run(&mut there));
    let closed = driver.close().unwrap();
    assert_eq!(there.answered(&closed), ["pcb-s", "pcb-l"]);
    assert!(closed.outcome.why.rule.ends_with("; a note"), "{}", closed.outcome.why.rule);
}

#[test]
fn a_sample_is_compared_once_after_the_local_answers_and_before_the_pool_is_asked() {
    let mut script = Script::new(&[("pcb-s", MS, Ok(0.5)), ("pcb-l", MS, Ok(0.999_999))]);
    script.decide(Mode::Confidence, Place::Remote).unwrap();
    let calls = script.log.iter().position(|line| line.contains("pool [pcb-l]")).unwrap();
    assert_eq!(script.compared, [("deeppcb".to_owned(), calls)]);
}
