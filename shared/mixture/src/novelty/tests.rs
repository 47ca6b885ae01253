use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn row(at: usize, features: &[f32]) -> Row {
    Row { features: features.to_vec(), label: (at % 2) as u16, sample: format!("known-{at}") }
}

/// Numbers that look random and are the same each time.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn detector(name: &str, rows: usize, dims: usize) -> Detector {
    let rows: Vec<Row> = (0..rows).map(|at| row(at, &numbers(at as u32 * 2 + 1, dims))).collect();
    let detector = Detector::new(name, vec![0.5; dims], &rows).unwrap();
    let scores = (0..99).map(|at| {
        let known = detector.nearest(&numbers(1_000_001 + at * 2, dims), 5).unwrap();
        known[known.len() - 1].distance
    });
    let scores = scores.collect();
    detector.calibrated(scores).unwrap()
}

fn bank() -> Bank {
    Bank::new(5, vec![detector(PICTURE, 60, 83), detector("expert:pcb-s", 40, 96)])
}

fn names() -> Vec<String> {
    vec![PICTURE.to_owned(), "expert:pcb-s".to_owned()]
}

#[test]
fn what_is_written_is_read_and_is_the_same_each_time() {
    let bytes = bank().write().unwrap();
    assert_eq!(bytes, bank().write().unwrap());
    assert_eq!(Bank::read(&bytes, &names(), 5).unwrap(), bank());
}

#[test]
fn a_file_that_is_no_bank_is_refused_by_its_tensor() {
    let bytes = bank().write().unwrap();
    let refused = |names: &[String]| Bank::read(&bytes, names, 5).unwrap_err().to_string();
    assert_eq!(refused(&names()[..1]), "`expert:pcb-s.calibration` belongs to no detector".to_owned());
    let mut more = names();
    more.push("expert:none".to_owned());
    assert_eq!(refused(&more), "`expert:none.scale` is missing");
    assert!(
        Bank::read(b"nothing", &names(), 5).unwrap_err().to_string().starts_with("`file` is no safetensors")
    );
    let bank = bank();
    let labels = bank.check(&["a/x"], |_| None).unwrap_err();
    assert_eq!(labels.to_string(), "`picture.labels` names a label beyond the bundle's 1");
    let dims = bank.check(&["a/x", "a/y"], |name| (name == PICTURE).then_some(64)).unwrap_err();
    assert_eq!(dims.to_string(), "`picture.scale` has 83 numbers, not 64");
}

#[test]
fn what_makes_no_detector_is_named() {
    let rows = [row(0, &[1.0, 2.0])];
    let refused =
        |scale: &[f32], rows: &[Row]| Detector::new("x", scale.to_vec(), rows).unwrap_err().to_string();
    assert_eq!(refused(&[1.0, 0.0], &rows), "`x.scale` must be finite and over 0");
    assert_eq!(refused(&[1.0], &rows), "`x.rows` has 2 features for `known-0`, not 1");
    assert_eq!(refused(&[1.0, 1.0], &[row(0, &[f32::NAN, 0.0])]), "`x.rows` must be there and finite");
    let among = [row(0, &[1.0, 2.0]), row(1, &[1.0, f32::NAN]), row(2, &[3.0, 4.0])];
    assert_eq!(refused(&[1.0, 1.0], &among), "`x.rows` must be there and finite");
    let fine = Detector::new("x", vec![1.0, 1.0], &rows).unwrap();
    assert!(fine.clone().calibrated(Vec::new()).is_err());
    assert!(fine.calibrated(vec![f32::NAN]).is_err());
}

#[test]
fn a_known_sample_is_its_own_nearest_and_odd_ones_are_far() {
    let bank = bank();
    let detector = &bank.detectors()[0];
    let nearest = detector.nearest(&numbers(2 * 7 + 1, 83), 3).unwrap();
    assert_eq!((nearest[0].row, nearest.len()), (7, 3));
    assert!(nearest[0].distance < 0.02, "{nearest:?}");
    assert_eq!((detector.sample(7), detector.label(7)), ("known-7", 1));
    let far = detector.nearest(&[9.0; 83], 5).unwrap();
    assert!(far[4].distance > 10.0);
    assert_eq!(detector.nearest(&[0.0; 82], 5), None);
    assert_eq!(detector.nearest(&[f32::INFINITY; 83], 5), None);
}

#[test]
fn detectors_that_have_no_features_take_no_part() {
    let text = std::fs::read_to_string("../../models/factory/bundle.toml").unwrap();
    let manifest = Manifest::parse(&text).unwrap();
    let bank = bank();
    let known = numbers(2 * 7 + 1, 83);
    let with = |is_far: bool| {
        compare(&manifest, &bank, |name| match (name, is_far) {
            (PICTURE, _) => Some(Cow::from(&known)),
            (_, true) => Some(Cow::from(vec![9.0; 96])),
            (_, false) => None,
        })
    };
    let near = with(false).unwrap();
    assert!(near.p > 0.1, "{near:?}");
    assert_eq!((near.detector.as_str(), near.nearest.len()), (PICTURE, 3));
    assert_eq!(near.nearest[0].sample, "known-7");
    let far = with(true).unwrap();
    assert_eq!((far.p, far.detector.as_str()), (2.0 / 100.0, "expert:pcb-s"));
    assert_eq!(compare(&manifest, &bank, |_| None), None);
}

/// Run by hand, for `docs/benchmarks.md`: `cargo test --release -p millgate-mixture --lib what_a_comparison_costs -- --ignored
/// --nocapture`.
#[test]
#[ignore = "prints times"]
fn what_a_comparison_costs() {
    let mut out = std::io::stdout().lock();
    let mut timed = |what: &str, run: &dyn Fn()| {
        let mut least = Duration::MAX;
        for _ in 0..20 {
            let started = Instant::now();
            (0..50).for_each(|_| run());
            least = least.min(started.elapsed() / 50);
        }
        writeln!(out, "{what}: {least:?}").unwrap();
    };
    for (rows, dims) in [(600, 83), (600, 480), (1500, 83), (1000, 1008)] {
        let (detector, features) = (detector("x", rows, dims), numbers(77, dims));
        timed(&format!("{rows} known samples of {dims} features"), &|| {
            std::hint::black_box(detector.nearest(std::hint::black_box(&features), 5));
        });
    }
    let banks = Banks::load(&Bundle::open(std::path::Path::new("../../models/factory")).unwrap()).unwrap();
    for (product, bank) in &banks.0 {
        for detector in bank.detectors() {
            let (rows, dims) = (detector.len(), detector.dims());
            // Half-way between two known samples: as near as a new one may be.
            let each: Vec<Vec<f32>> = (0..50)
                .map(|at| {
                    let (one, other) = (detector.known(at), detector.known(rows / 2 + at));
                    one.iter().zip(&other).map(|(a, b)| f32::midpoint(*a, *b)).collect()
                })
                .collect();
            let at = std::cell::Cell::new(0);
            timed(
                &format!("{product}, {}: {rows} known samples of {dims} features", detector.name()),
                &|| {
                    at.set((at.get() + 1) % each.len());
                    std::hint::black_box(detector.nearest(std::hint::black_box(&each[at.get()]), 5));
                },
            );
        }
    }
    for side in [64, 128, 512] {
        let picture = Picture::grey(side, side, (0..side * side).map(|at| at as u8).collect()).unwrap();
        timed(&format!("statistics of {side} by {side} pixels"), &|| {
            std::hint::black_box(statistics(std::hint::black_box(&picture)));
        });
        timed(&format!("measures of {side} by {side} pixels"), &|| {
            std::hint::black_box(millgate_sample::image::measures(std::hint::black_box(&picture)));
        });
    }
}

proptest! {
    /// In double precision, without vectors, on the rows as they were before they became 8 bits.
    #[test]
    fn distances_are_those_of_a_plain_sum(seed in 1_u32..100_000, rows in 5_usize..40, dims in 1_usize..200) {
        let known: Vec<Row> = (0..rows).map(|at| row(at, &numbers(seed + at as u32 * 2, dims))).collect();
        let detector = Detector::new("x", vec![0.25; dims], &known).unwrap();
        let features = numbers(seed ^ 0x5555, dims);
        let plain = |row: &Row| {
            let each = row.features.iter().zip(&features);
            each.map(|(a, b)| (f64::from(a - b) / 0.25).powi(2)).sum::<f64>().sqrt()
        };
        let mut expected: Vec<f64> = known.iter().map(plain).collect();
        expected.sort_by(f64::total_cmp);
        let got = detector.nearest(&features, 5).unwrap();
        // Half a step of 8 bits in each dimension at most.
        let slack = 0.5 * (4.0 / 254.0) * (dims as f64).sqrt() + 1e-4;
        for (got, expected) in got.iter().zip(&expected) {
            prop_assert!((f64::from(got.distance) - expected).abs() <= slack, "{} {expected}", got.distance);
        }
        prop_assert!(got.is_sorted_by(|a, b| a.distance <= b.distance));
    }
}
