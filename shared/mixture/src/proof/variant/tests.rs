use std::path::Path;

use millgate_array::Datatype;
use millgate_engine::external::Wanted;
use millgate_engine::{Axis, Engine, Shapes, Tract};
use proptest::prelude::*;

use super::*;

fn bundle() -> Bundle {
    Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/factory")).unwrap()
}

/// An expert of the shipped bundle, and its variant.
fn varied<'a>(bundle: &'a Bundle, name: &str) -> (&'a Expert, &'a Variant) {
    let expert = &bundle.manifest().experts[bundle.manifest().expert_index(name).unwrap()];
    (expert, &expert.variants[0])
}

fn agreement(difference: f32, relabelled: Option<usize>) -> Agreement {
    Agreement { rows: 3, difference, tolerance: 0.2, relabelled }
}

fn timed(rows: usize, fp32: u64, variant: u64) -> Timed {
    Timed { rows, fp32: Duration::from_nanos(fp32), variant: Duration::from_nanos(variant) }
}

fn golden_logits(bundle: &Bundle, expert: &Expert) -> Vec<Array> {
    let logits = FixedPort { name: LOGITS.to_owned(), shape: vec![1, expert.labels.len()] };
    let input = &expert.inputs[0];
    let mut samples = samples(bundle, &expert.name, &[port(&input.name, &input.shape)], &[logits]).unwrap();
    samples.outputs.swap_remove(0)
}

#[test]
fn the_shipped_variants_take_and_give_what_their_experts_do() {
    let bundle = bundle();
    assert_eq!(check_all(&bundle).unwrap(), 3);
    for name in ["pcb-l", "steel-l", "screw-l"] {
        let (expert, variant) = varied(&bundle, name);
        assert_eq!(variant.engine.as_str(), "onnxruntime");
        assert!(variant.measured.speed_up >= LEAST_SPEED_UP && variant.measured.accuracy_lost <= 0.002);
        assert!(open(&bundle, expert, variant).unwrap().signature.may_batch());
    }
}

#[test]
fn an_expert_agrees_with_itself() {
    let bundle = bundle();
    let (expert, variant) = varied(&bundle, "pcb-l");
    let file = OnnxFile::read(bundle.read(&model_path(&expert.name)).unwrap().into(), None).unwrap();
    let model = Tract.load(&file, Shapes::Any).unwrap();
    let found = compare_model(&bundle, expert, variant, &model).unwrap();
    assert_eq!((found.rows, found.relabelled), (3, None));
    assert!(found.difference < 1e-3, "{found:?}");
    assert_eq!(found.tolerance, variant.logit_tolerance);
}

/// Slower than FP32, so nobody would; but its sums are those of any engine.
#[test]
fn the_shipped_variants_agree_with_their_experts() {
    let bundle = bundle();
    for name in ["pcb-l", "steel-l", "screw-l"] {
        let (expert, variant) = varied(&bundle, name);
        let model = Tract.load(&open(&bundle, expert, variant).unwrap(), Shapes::Any).unwrap();
        let found = compare_model(&bundle, expert, variant, &model).unwrap();
        assert!(judge(&found, &[timed(1, 3, 1)]).is_ok() && found.difference > 0.0, "{name}: {found:?}");
    }
}

#[test]
fn another_experts_answers_do_not_agree() {
    let bundle = bundle();
    let (expert, variant) = varied(&bundle, "steel-l");
    let file = OnnxFile::read(bundle.read(&model_path("steel-s")).unwrap().into(), None).unwrap();
    let model = Tract.load(&file, Shapes::Any).unwrap();
    let found = compare_model(&bundle, expert, variant, &model).unwrap();
    assert!(matches!(judge(&found, &[timed(1, 3, 1)]), Err(Unused::Logits { .. } | Unused::Label { .. })));
    // The wrong inputs and outputs are an error, not a comparison.
    let (boards, variant) = varied(&bundle, "pcb-l");
    let error = compare_model(&bundle, boards, variant, &model).unwrap_err().to_string();
    assert!(error.contains("pcb-l/1/model.int8.onnx") && error.contains("template"), "{error}");
}

#[test]
fn what_is_off_is_measured_row_by_row() {
    let bundle = bundle();
    let (expert, variant) = varied(&bundle, "steel-l");
    let golden = golden_logits(&bundle, expert);
    let with = |change: &dyn Fn(usize, &mut Vec<f32>)| {
        let mut row = 0;
        compare(&bundle, expert, variant, |_| {
            let mut values = golden[row].as_fp32().unwrap().to_vec();
            change(row, &mut values);
            row += 1;
            Ok(Array::new(vec![1, values.len()], values.into())?)
        })
    };
    assert_eq!(with(&|_, _| ()).unwrap().difference, 0.0);
    let near = with(&|row, values| values[0] += if row == 1 { 0.125 } else { 0.0 }).unwrap();
    assert!((near.difference - 0.125).abs() < 1e-4 && near.relabelled.is_none(), "{near:?}");
    let turned = with(&|row, values| {
        let best = best(values).unwrap();
        values[best] -= if row == 2 { 99.0 } else { 0.0 };
    });
    assert_eq!(turned.unwrap().relabelled, Some(2));
    let nothing = with(&|row, values| values[1] = if row == 0 { f32::NAN } else { values[1] }).unwrap();
    assert!(nothing.difference.is_nan() && judge(&nothing, &[timed(1, 9, 1)]).is_err());
    let short = with(&|_, values| values.truncate(2)).unwrap_err().to_string();
    assert!(short.contains("steel-l/1/model.int8.onnx") && short.contains("[1, 2]"), "{short}");
}

#[test]
fn inputs_and_outputs_must_be_the_same_but_free_axes_may_be_named_otherwise() {
    let port = |name: &str, datatype, first: Axis, last| Port {
        name: name.to_owned(),
        datatype,
        shape: Some(vec![first, Axis::Fixed(last)]),
    };
    let signature = |input: Port, output: Port| Signature {
        inputs: vec![input],
        outputs: vec![output],
        ..Signature::default()
    };
    let named = || Axis::Named("N".to_owned());
    let own = signature(port("x", Datatype::Fp32, named(), 4), port("logits", Datatype::Fp32, named(), 2));
    let with = |input, output| alike(&own, &signature(input, output));
    let input = || port("x", Datatype::Fp32, Axis::Any, 4);
    let output = || port("logits", Datatype::Fp32, Axis::Any, 2);
    assert_eq!(with(input(), output()), Ok(()));
    for (wrong, word) in [
        (with(port("y", Datatype::Fp32, Axis::Any, 4), output()), "\"y\""),
        (with(port("x", Datatype::Uint8, Axis::Any, 4), output()), "input `x` is UINT8"),
        (with(input(), port("logits", Datatype::Fp32, Axis::Any, 3)), "output `logits` has shape [-1, 3]"),
        (with(input(), port("logits", Datatype::Fp32, Axis::Fixed(1), 2)), "[1, 2]"),
        (with(input(), Port { shape: None, ..output() }), "any"),
        (
            alike(
                &own,
                &Signature {
                    external_files: vec![Wanted { location: "w".to_owned(), end: None }],
                    ..own.clone()
                },
            ),
            "other files",
        ),
    ] {
        let message = wrong.unwrap_err();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_variant_that_is_not_used_has_a_reason() {
    let fast = [timed(1, 300, 100), timed(8, 2000, 1000)];
    assert_eq!(judge(&agreement(0.2, None), &fast), Ok(2.0));
    assert_eq!(judge(&agreement(0.1, None), &[]), Err(Unused::Untimed));
    let slow = judge(&agreement(0.1, None), &[timed(1, 300, 100), timed(8, 1140, 1000)]).unwrap_err();
    assert_eq!(slow.to_string(), "is 1.14 times as fast as FP32 at 8 rows, 1.15 is needed");
    let other = judge(&agreement(0.0, Some(1)), &fast).unwrap_err();
    assert_eq!(other.to_string(), "gives golden sample 1 another label than FP32");
    let far = judge(&agreement(0.25, None), &fast).unwrap_err().to_string();
    assert!(far.contains("0.250") && far.contains("0.200"), "{far}");
    assert_eq!(judge(&agreement(0.0, None), &[timed(1, 0, 0)]), Err(Unused::Slow { rows: 1, speed_up: 0.0 }));
}

proptest! {
    #[test]
    fn it_is_used_only_if_it_agrees_and_is_fast_at_every_size(
        times in proptest::collection::vec((1_u64..5000, 1_u64..5000), 0..6),
        difference in 0.0_f32..0.4,
        relabelled in proptest::option::of(0_usize..3),
    ) {
        let times: Vec<Timed> = times.iter().enumerate().map(|(at, (a, b))| timed(1 << at, *a, *b)).collect();
        let is_fast = |timed: &Timed| 100 * timed.fp32.as_nanos() >= 115 * timed.variant.as_nanos();
        let fast = !times.is_empty() && times.iter().all(is_fast);
        let judged = judge(&agreement(difference, relabelled), &times);
        prop_assert_eq!(judged.is_ok(), fast && difference <= 0.2 && relabelled.is_none());
        if let Ok(least) = judged {
            prop_assert!(times.iter().all(|timed| timed.speed_up() >= least));
        }
    }
}
