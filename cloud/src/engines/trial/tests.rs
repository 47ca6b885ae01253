use std::sync::atomic::{AtomicUsize, Ordering};

use millgate_shared::array::Values;
use millgate_shared::engine::Port;
use millgate_shared::engine::graph::Role;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

type Ran = Result<Vec<Array>, EngineError>;

/// A model that is a function, and counts how often it is asked.
#[derive(Debug)]
struct Fake {
    signature: Signature,
    run: fn(&[Array]) -> Ran,
    runs: AtomicUsize,
}

struct FakeSession(Arc<Fake>);

impl Model for Fake {
    fn engine(&self) -> &'static str {
        "fake"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FakeSession(self)))
    }
}

impl Session for FakeSession {
    fn run(&mut self, inputs: Vec<Array>) -> Ran {
        self.0.runs.fetch_add(1, Ordering::Relaxed);
        (self.0.run)(&inputs)
    }
}

fn port(name: &str, datatype: Datatype, axes: &[Axis]) -> Port {
    Port { name: name.to_owned(), datatype, shape: Some(axes.to_vec()) }
}

fn rows() -> Axis {
    Axis::Named("N".to_owned())
}

/// Inputs of two columns a row, and an output as wide.
fn of_rows(inputs: &[(&str, Datatype)], output: Datatype) -> Signature {
    let axes = [rows(), Axis::Fixed(2)];
    Signature {
        inputs: inputs.iter().map(|(name, datatype)| port(name, *datatype, &axes)).collect(),
        outputs: vec![port("y", output, &axes)],
        ..Signature::default()
    }
}

fn fake(signature: Signature, run: fn(&[Array]) -> Ran) -> Arc<Fake> {
    Arc::new(Fake { signature, run, runs: AtomicUsize::new(0) })
}

fn tried(model: &Arc<Fake>) -> Result<Trial, EngineError> {
    let model: Arc<dyn Model> = Arc::clone(model) as Arc<dyn Model>;
    run(&model, None, &[], LIMIT)
}

fn i64s(array: &Array) -> &[i64] {
    let Values::Int64(values) = array.values() else { panic!("{array:?}") };
    values
}

fn refuse() -> Ran {
    Err(EngineError::Run("it does not fit".to_owned()))
}

fn guessed(trial: &Trial) -> Guess {
    let Some(Fit::Made { guess, .. }) = &trial.fit else { panic!("{trial:?}") };
    *guess
}

#[test]
fn a_divisor_is_found_that_is_not_0_and_its_rows_are_proved() {
    let signature = of_rows(&[("a", Datatype::Int64), ("b", Datatype::Int64)], Datatype::Int64);
    let model = fake(signature, |inputs| {
        if i64s(&inputs[1]).contains(&0) {
            return refuse();
        }
        let divided = i64s(&inputs[0]).iter().zip(i64s(&inputs[1])).map(|(a, b)| a / b);
        Ok(vec![Array::new(inputs[0].shape().to_vec(), divided.collect::<Vec<_>>().into())?])
    });
    let trial = tried(&model).unwrap();
    assert_eq!(guessed(&trial), Guess::Positive);
    assert!(trial.unproven.is_none() && trial.rows_are_independent);
    assert_eq!(trial.samples[1].0, Sample::Rows(4));
}

#[test]
fn what_says_how_others_are_laid_out_is_guessed_by_what_it_is_for_and_is_never_of_rows() {
    let mut signature = of_rows(&[("x", Datatype::Fp32)], Datatype::Fp32);
    signature.inputs.push(port("shape", Datatype::Int64, &[Axis::Fixed(2)]));
    signature.graph.roles.insert("shape".to_owned(), Role::Shape);
    let reshape = |inputs: &[Array]| {
        let shape: Vec<i64> = i64s(&inputs[1]).to_vec();
        let fits = shape.iter().product::<i64>() == inputs[0].values().len() as i64;
        if fits { Ok(vec![inputs[0].clone()]) } else { refuse() }
    };
    let trial = tried(&fake(signature.clone(), reshape)).unwrap();
    assert_eq!((guessed(&trial), trial.rows_are_independent), (Guess::ByRole, false));
    // With a free axis it may look like rows.
    signature.inputs[1].shape = Some(vec![Axis::Any]);
    assert!(signature.may_batch());
    let trial = tried(&fake(signature, |inputs| Ok(vec![inputs[0].clone()]))).unwrap();
    assert_eq!((guessed(&trial), trial.rows_are_independent), (Guess::Usual, false));
}

#[test]
fn a_model_that_takes_nothing_made_up_is_unproven_after_a_bounded_number_of_runs() {
    let mut signature = of_rows(&[("x", Datatype::Int64)], Datatype::Int64);
    signature.inputs.push(port("free", Datatype::Int64, &[rows(), Axis::Any]));
    let model = fake(signature, |_| refuse());
    let trial = tried(&model).unwrap();
    assert!(trial.unproven.unwrap().contains("it does not fit"));
    assert!(!trial.rows_are_independent && trial.times.is_empty() && trial.fit.is_none());
    let runs = model.runs.load(Ordering::Relaxed);
    assert_eq!(runs, LENGTHS.len() * 4 + 1, "each length with each guess that is for it, and none at all");
}

#[test]
fn what_is_wrong_before_anything_runs_is_no_matter_of_values() {
    let model = fake(of_rows(&[("x", Datatype::Fp32)], Datatype::Fp32), |_| {
        Err(EngineError::Prepare("no such operation".to_owned()))
    });
    let error = tried(&model).unwrap_err().to_string();
    assert!(error.contains("no such operation"), "{error}");
    assert_eq!(model.runs.load(Ordering::Relaxed), 1);
    // Nor is what fails with inputs that another engine takes.
    let model = fake(of_rows(&[("x", Datatype::Fp32)], Datatype::Fp32), |_| refuse());
    let (fit, model): (_, Arc<dyn Model>) = (Fit::Made { guess: Guess::Usual, length: 1 }, model);
    assert!(run(&model, Some(&fit), &[], LIMIT).is_err());
}

#[test]
fn inputs_that_a_configuration_brings_come_first_and_can_prove_rows_too() {
    let signature = of_rows(&[("x", Datatype::Int64)], Datatype::Int64);
    let seven = |inputs: &[Array]| match i64s(&inputs[0]).contains(&7) {
        true => Ok(vec![inputs[0].clone()]),
        false => refuse(),
    };
    let given = |rows: usize, values: &[i64]| {
        Arc::new(vec![Array::new(vec![rows, 2], values.to_vec().into()).unwrap()])
    };
    let of = |given: &[Arc<Vec<Array>>]| {
        let model: Arc<dyn Model> = fake(signature.clone(), seven);
        run(&model, None, given, LIMIT).unwrap()
    };
    let one = of(&[given(1, &[1, 2]), given(1, &[7, 1])]);
    assert!(matches!(&one.fit, Some(Fit::Given(arrays)) if i64s(&arrays[0]) == [7, 1]));
    assert!(one.unproven.is_none() && !one.rows_are_independent);
    let two = of(&[given(2, &[7, 1, 7, 2])]);
    assert!(two.rows_are_independent);
    assert_eq!(two.times.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [1, 2]);
    assert!(!of(&[given(2, &[7, 1, 7, 1])]).rows_are_independent, "rows that are alike prove nothing");
    assert!(of(&[given(1, &[1, 2])]).unproven.is_some());
}

#[test]
fn rows_that_are_alike_never_prove_that_they_are_independent() {
    // It only takes ones, and tells each row of how many there are.
    let signature = of_rows(&[("x", Datatype::Int64)], Datatype::Int64);
    let model = fake(signature, |inputs| match i64s(&inputs[0]).iter().all(|value| *value == 1) {
        true => Ok(vec![inputs[0].clone()]),
        false => refuse(),
    });
    let trial = tried(&model).unwrap();
    assert_eq!((guessed(&trial), trial.rows_are_independent), (Guess::Ones, false));
    // Each text becomes the first of all, which shows only where they differ.
    let model = fake(of_rows(&[("x", Datatype::Bytes)], Datatype::Bytes), |inputs| {
        let Values::Bytes(texts) = inputs[0].values() else { return refuse() };
        let least = texts.iter().min().cloned().unwrap_or_default();
        Ok(vec![Array::new(inputs[0].shape().to_vec(), vec![least; texts.len()].into())?])
    });
    assert!(!tried(&model).unwrap().rows_are_independent);
}

#[test]
fn small_integers_are_tried_at_their_full_range_too() {
    let (small, large) = (
        of_rows(&[("x", Datatype::Uint8)], Datatype::Uint8),
        of_rows(&[("x", Datatype::Fp32)], Datatype::Fp32),
    );
    let wide = |signature: Signature| {
        let trial = tried(&fake(signature, |inputs| Ok(vec![inputs[0].clone()]))).unwrap();
        trial.samples.into_iter().find(|(sample, _)| *sample == Sample::Wide)
    };
    assert!(wide(large.clone()).is_none() && wide(small).is_some());
    let mut quantised = large;
    quantised.graph.operations.insert("QuantizeLinear".to_owned());
    let (_, outputs) = wide(quantised).unwrap();
    assert!(outputs[0].as_fp32().unwrap().iter().any(|value| value.abs() > 1.0));
}
