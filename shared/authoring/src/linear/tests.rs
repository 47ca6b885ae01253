//! Heads beside what scikit-learn 1.x gives on the same numbers.

use super::*;

/// 36 samples of 4 features in 3 classes of 18, 12 and 6.
fn samples() -> (Rows, Vec<usize>) {
    let class = |at: usize| match at % 6 {
        0..3 => 0,
        3..5 => 1,
        _ => 2,
    };
    let classes: Vec<usize> = (0..36).map(class).collect();
    let mut rows = Rows::new(4);
    for (at, class) in classes.iter().enumerate() {
        let feature = |j: usize| {
            let side = if j % 2 == 1 { 1.0 } else { -1.0 };
            let wave = (at as f64 * (j + 1) as f64 * 0.7).sin() + 0.8 * *class as f64 * side + 3.0 * j as f64;
            wave as f32 * (1 + j) as f32
        };
        rows.push(&[feature(0), feature(1), feature(2), feature(3)]);
    }
    (rows, classes)
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / total).collect()
}

fn assert_close(got: &[f64], expected: &[f64], within: f64) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= within, "{got} is not {expected}");
    }
}

#[test]
fn discriminant_analysis_is_scikit_learns() {
    let (rows, classes) = samples();
    let head = discriminant(&rows, &classes, 3).unwrap();
    let expected = [
        (0, [0.407548, -1.723389, -22.057604]),
        (4, [0.046515, -1.428724, -21.563833]),
        (5, [-12.852759, -0.488144, 15.252828]),
    ];
    for (at, logits) in expected {
        assert_close(&head.logits(rows.row(at)), &logits, 2e-4);
    }
}

#[test]
fn with_more_features_than_samples_it_is_scikit_learns_as_well() {
    let mut rows = Rows::new(12);
    for at in 0..6 {
        let feature =
            |j: usize| (at as f64 * (j + 1) as f64 * 0.7).sin() + 0.5 * f64::from(at % 2) * (j as f64).cos();
        rows.push(&(0..12).map(|j| feature(j) as f32).collect::<Vec<f32>>());
    }
    let head = discriminant(&rows, &[0, 1, 0, 1, 0, 1], 2).unwrap();
    let difference = |at: usize| {
        let logits = head.logits(rows.row(at));
        logits[1] - logits[0]
    };
    assert_close(&[difference(0), difference(1)], &[-10.387413, 17.989851], 2e-3);
}

#[test]
fn logistic_regression_is_scikit_learns() {
    let (rows, classes) = samples();
    let weights = balanced(&classes, 3);
    let weak = logistic(&rows, &classes, &weights, 3, 0.03).unwrap();
    let strong = logistic(&rows, &classes, &weights, 3, 1.0).unwrap();
    let expected = [
        (0, [0.508008, 0.351047, 0.140945], [0.789333, 0.208162, 0.002505]),
        (4, [0.482003, 0.365104, 0.152893], [0.712274, 0.284131, 0.003595]),
        (5, [0.080869, 0.235039, 0.684091], [9.5e-05, 0.035695, 0.96421]),
    ];
    for (at, at_weak, at_strong) in expected {
        assert_close(&softmax(&weak.logits(rows.row(at))), &at_weak, 2e-4);
        assert_close(&softmax(&strong.logits(rows.row(at))), &at_strong, 2e-4);
    }
}

#[test]
fn whitening_is_the_inverse_of_the_cholesky_factor() {
    let (rows, _) = samples();
    let mut moments = Moments::new(4);
    for row in rows.iter() {
        moments.add(row);
    }
    let whitening = moments.whitening().unwrap();
    let expected = [
        (0, [0.541902, -0.396354, 0.164595, -0.253168]),
        (4, [0.070169, -0.391368, 0.486865, -0.597322]),
        (5, [-1.43708, 1.416014, -0.893556, 1.250404]),
    ];
    for (at, whitened) in expected {
        let got: Vec<f64> = whitening.apply(rows.row(at)).into_iter().map(f64::from).collect();
        assert_close(&got, &whitened, 1e-4);
    }
}

#[test]
fn portions_can_be_taken_out_again() {
    let (rows, _) = samples();
    let of = |range: std::ops::Range<usize>| {
        let mut moments = Moments::new(4);
        range.for_each(|at| moments.add(rows.row(at)));
        moments
    };
    let (all, part, rest) = (of(0..36), of(0..12), of(12..36));
    let expected: Vec<f64> = rest.whitening().unwrap().weight.into_iter().map(f64::from).collect();
    for same in [all.without(&part), of(12..20).with(&of(20..36))] {
        let got: Vec<f64> = same.whitening().unwrap().weight.into_iter().map(f64::from).collect();
        assert_close(&got, &expected, 1e-4);
    }
}

#[test]
fn the_same_rows_give_the_same_bits() {
    let (rows, classes) = samples();
    let weights = balanced(&classes, 3);
    let fit = || logistic(&rows, &classes, &weights, 3, 0.1).unwrap();
    assert_eq!(fit(), fit());
    assert_eq!(discriminant(&rows, &classes, 3).unwrap(), discriminant(&rows, &classes, 3).unwrap());
}

#[test]
fn features_that_never_change_do_no_harm() {
    let mut rows = Rows::new(3);
    for at in 0..8 {
        rows.push(&[0.0, if at % 2 == 0 { 1.0 } else { -1.0 } + at as f32 * 0.01, 7.0]);
    }
    let classes = [0, 1, 0, 1, 0, 1, 0, 1];
    for head in [
        discriminant(&rows, &classes, 2).unwrap(),
        logistic(&rows, &classes, &balanced(&classes, 2), 2, 1.0).unwrap(),
    ] {
        for (row, class) in rows.iter().zip(classes) {
            let logits = head.logits(row);
            assert!(logits[class] > logits[1 - class], "{logits:?}");
        }
    }
    let mut moments = Moments::new(3);
    rows.iter().for_each(|row| moments.add(row));
    assert!(moments.whitening().unwrap().weight.iter().all(|weight| weight.is_finite()));
}

#[test]
fn a_class_without_samples_is_never_the_answer() {
    let (rows, classes) = samples();
    let head = discriminant(&rows, &classes, 4).unwrap();
    assert!(rows.iter().all(|row| head.logits(row)[3] < -1e5));
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    assert!(matches!(discriminant(&Rows::new(2), &[], 2), Err(LinearError::Empty)));
    let mut rows = Rows::new(2);
    rows.push(&[1.0, 2.0]);
    rows.push(&[1.0, f32::NAN]);
    let error = logistic(&rows, &[0, 1], &[1.0, 1.0], 2, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "a feature of sample 1 is not finite");
}

#[test]
fn a_cooled_head_gives_the_same_verdicts() {
    let (rows, classes) = samples();
    let head = discriminant(&rows, &classes, 3).unwrap();
    let cooled = head.cooled(4.0);
    for row in rows.iter() {
        let (hot, cold) = (head.logits(row), cooled.logits(row));
        assert_close(&cold, &hot.iter().map(|logit| logit / 4.0).collect::<Vec<f64>>(), 1e-4);
    }
}
