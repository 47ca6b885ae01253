//! Which engine a model gets, from what was measured, and why. Pure.

use std::time::Duration;

use super::arbiter::{Believed, Verdict};

/// ONNX Runtime must be so much faster to be taken: tract is always there, and shares one plan among all threads.
const WORTH_IT: f64 = 1.1;

/// What a trial has shown of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Time for one row by itself.
    pub(crate) alone: Duration,
    /// Time for a row in the batch that is best for it.
    pub(crate) best: Duration,
}

/// What a model runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) engine: &'static str,
    /// Precision of the file that runs, as `int8`; `None` where that is the model's own file.
    pub(crate) precision: Option<&'static str>,
    /// One line, for people.
    pub(crate) why: String,
    pub(crate) measured: Measured,
    /// The engines that it does not run with.
    pub(crate) alternatives: Vec<Alternative>,
}

impl Choice {
    /// The choice for a model that is made of others, each with an engine of its own.
    pub(crate) fn whole(engine: &'static str) -> Self {
        let measured = Measured { alone: Duration::ZERO, best: Duration::ZERO };
        Self {
            engine,
            precision: None,
            why: "made of other models".to_owned(),
            measured,
            alternatives: Vec::new(),
        }
    }

    /// Name in decisions and answers of what ran: `tract`, `onnxruntime`, `onnxruntime-int8`.
    pub(crate) fn name(&self) -> String {
        match self.precision {
            None => self.engine.to_owned(),
            Some(precision) => format!("{}-{precision}", self.engine),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(crate) engine: &'static str,
    /// What it measured, or why it cannot run the model.
    pub(crate) outcome: Result<Measured, String>,
}

/// What became of an engine.
pub(crate) type Outcome = Result<Measured, String>;

/// `verdict`: where the two give different answers, which one is believed. It is the other one that is then passed over,
/// however fast it is.
pub(crate) fn decide(
    (usual, of_usual): (&'static str, Outcome),
    (reference, of_reference): (&'static str, Outcome),
    verdict: Option<Verdict>,
) -> Result<Choice, String> {
    let (engine, measured, why, alternative) = match (of_usual, of_reference) {
        (Err(usual_failed), Err(reference_failed)) => {
            return Err(format!("{usual}: {usual_failed}; {reference}: {reference_failed}"));
        }
        (Ok(measured), Err(failed)) => {
            let alternative = Alternative { engine: reference, outcome: Err(failed.clone()) };
            (usual, measured, format!("{reference} cannot run it: {failed}"), alternative)
        }
        (Err(failed), Ok(measured)) => {
            let alternative = Alternative { engine: usual, outcome: Err(failed.clone()) };
            (reference, measured, format!("{usual} cannot run it: {failed}"), alternative)
        }
        (Ok(ours), Ok(theirs)) => {
            let gain = ratio(ours.best, theirs.best);
            if let Some(Verdict { difference, believed, why }) = verdict {
                let (engine, measured, other, outcome) = match believed {
                    Believed::Reference => (reference, theirs, usual, Ok(ours)),
                    Believed::Usual => (usual, ours, reference, Ok(theirs)),
                };
                let why = format!("{other} gives other answers: {difference}; {why}");
                (engine, measured, why, Alternative { engine: other, outcome })
            } else if gain >= WORTH_IT {
                (
                    reference,
                    theirs,
                    faster(usual, ours, theirs),
                    Alternative { engine: usual, outcome: Ok(ours) },
                )
            } else {
                let why = match ratio(theirs.best, ours.best) {
                    loss if loss >= WORTH_IT => faster(reference, theirs, ours),
                    _ => format!("as fast as {reference}: {}", figures(theirs, ours)),
                };
                (usual, ours, why, Alternative { engine: reference, outcome: Ok(theirs) })
            }
        }
    };
    Ok(Choice { engine, precision: None, why, measured, alternatives: vec![alternative] })
}

/// What is said of an engine that is taken in the place of another that gives the same answers; `None` where it is not
/// clearly faster.
pub(crate) fn gain(than: &str, before: Measured, after: Measured) -> Option<String> {
    (ratio(before.best, after.best) >= WORTH_IT).then(|| faster(than, before, after))
}

fn ratio(of: Duration, to: Duration) -> f64 {
    of.as_secs_f64() / to.as_secs_f64().max(1e-9)
}

fn faster(than: &str, slower: Measured, quicker: Measured) -> String {
    let times = ratio(slower.best, quicker.best);
    format!("{times:.1}x faster than {than}: {}", figures(slower, quicker))
}

fn figures(other: Measured, this: Measured) -> String {
    format!("{} against {} us a row", micros(this.best), micros(other.best))
}

/// With a decimal where that says something.
pub(crate) fn micros(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        few if few < 1.0 => format!("{few:.2}"),
        few if few < 10.0 => format!("{few:.1}"),
        many => format!("{many:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(alone: u64, best: u64) -> Outcome {
        Ok(Measured { alone: Duration::from_micros(alone), best: Duration::from_micros(best) })
    }

    fn failed(why: &str) -> Outcome {
        Err(why.to_owned())
    }

    fn of(tract: Outcome, ort: Outcome, believed: Option<Believed>) -> Result<Choice, String> {
        let difference = "`y` is 0.1, not 0.9".to_owned();
        let verdict = believed.map(|believed| Verdict { difference, believed, why: "so it is" });
        decide(("tract", tract), ("onnxruntime", ort), verdict)
    }

    #[test]
    fn the_faster_one_is_taken_and_the_reason_says_by_how_much() {
        let choice = of(measured(2150, 2150), measured(800, 717), None).unwrap();
        assert_eq!((choice.engine, choice.measured.alone.as_micros()), ("onnxruntime", 800));
        assert_eq!(choice.why, "3.0x faster than tract: 717 against 2150 us a row");
        let [alternative] = choice.alternatives.as_slice() else { panic!("{choice:?}") };
        assert_eq!((alternative.engine, alternative.outcome.clone()), ("tract", measured(2150, 2150)));
        let choice = of(measured(300, 100), measured(200, 200), None).unwrap();
        assert_eq!(
            (choice.engine, choice.why.as_str()),
            ("tract", "2.0x faster than onnxruntime: 100 against 200 us a row")
        );
    }

    #[test]
    fn a_small_gain_is_not_worth_another_engine() {
        let choice = of(measured(3, 3), measured(3, 3), None).unwrap();
        assert_eq!(choice.engine, "tract");
        assert_eq!(choice.why, "as fast as onnxruntime: 3.0 against 3.0 us a row");
        assert_eq!(of(measured(109, 109), measured(100, 100), None).unwrap().engine, "tract");
        assert_eq!(of(measured(110, 110), measured(100, 100), None).unwrap().engine, "onnxruntime");
    }

    #[test]
    fn where_answers_differ_the_one_that_is_believed_is_taken_however_slow() {
        let choice = of(measured(1, 1), measured(100, 100), Some(Believed::Reference)).unwrap();
        assert_eq!(choice.engine, "onnxruntime");
        assert_eq!(choice.why, "tract gives other answers: `y` is 0.1, not 0.9; so it is");
        let choice = of(measured(100, 100), measured(1, 1), Some(Believed::Usual)).unwrap();
        assert_eq!(choice.engine, "tract");
        assert!(choice.why.starts_with("onnxruntime gives other answers: "), "{}", choice.why);
    }

    #[test]
    fn one_that_fails_leaves_the_other_and_its_reason() {
        let choice = of(failed("no STFT"), measured(5, 5), None).unwrap();
        assert_eq!((choice.engine, choice.why.as_str()), ("onnxruntime", "tract cannot run it: no STFT"));
        assert_eq!(choice.alternatives[0].outcome, failed("no STFT"));
        assert_eq!(of(measured(5, 5), failed("odd"), None).unwrap().engine, "tract");
        let error = of(failed("a"), failed("b"), None).unwrap_err();
        assert_eq!(error, "tract: a; onnxruntime: b");
    }
}
