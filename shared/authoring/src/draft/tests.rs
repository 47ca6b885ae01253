use std::path::Path;

use millgate_model::manifest::{Competence, PictureBounds, Product, Threshold};
use millgate_model::recipe::{Costs, Disposition};

use super::*;

pub(crate) fn factory() -> Bundle {
    Bundle::open(Path::new("../../models/factory")).unwrap()
}

#[test]
fn a_draft_that_is_not_changed_is_written_as_it_was() {
    let bundle = factory();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let draft = Draft::open(&bundle).unwrap();
    let written = draft.write(&out).unwrap();
    assert_eq!(written.digest(), bundle.digest());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    // It is not written over.
    let error = draft.write(&out).unwrap_err().to_string();
    assert!(error.contains("out: is there already"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(draft.write(&file), Err(DraftError::Occupied(_))));
    // An empty folder is a place.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(draft.write(&empty).unwrap().digest(), bundle.digest());
}

#[test]
fn what_is_not_a_bundle_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::open(&factory()).unwrap();
    draft.remove_below("pcb-s/");
    let error = draft.write(&dir.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("pcb-s/1/model.onnx") && error.contains("is missing"), "{error}");
    let mut draft = Draft::open(&factory()).unwrap();
    draft.insert("../outside", "x");
    let error = draft.write(&dir.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("is not a plain path"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn keys_are_written_where_they_stand() {
    let mut draft = Draft::open(&factory()).unwrap();
    let before = draft.text();
    let competence = Competence { bias: 1.23456789, confidence: 1.0, gate: 0.5 };
    draft.set_competence("pcb-s", competence).unwrap();
    draft.raise_version(Step::Patch).unwrap();
    let threshold = Threshold {
        product: "xsdd".to_owned(),
        restricted: true,
        risk: 0.02,
        threshold: 0.25,
        calibration_samples: 300,
        calibration_kept: 200,
        calibration_errors: 1,
    };
    draft.set_thresholds(&[threshold]).unwrap();
    let manifest = draft.parsed().unwrap();
    assert_eq!(manifest.experts[manifest.expert_index("pcb-s").unwrap()].competence.bias, 1.234568);
    assert_eq!(manifest.offload.thresholds.len(), 1);
    assert!(manifest.offload.thresholds[0].restricted);
    let text = draft.text();
    assert!(text.contains("competence = { bias = 1.234568, confidence = 1.0, gate = 0.5 }\n"), "{text}");
    // Nothing else has moved.
    let is_changed = |line: &&str| !text.contains(*line);
    let gone: Vec<&str> = before.lines().filter(is_changed).collect();
    let may_go = ["competence = ", "version = ", "threshold = ", "product = ", "risk = ", "calibration_"];
    assert!(gone.iter().all(|line| may_go.iter().any(|key| line.starts_with(key))), "{gone:?}");
    assert!(draft.set_competence("nobody", competence).unwrap_err().to_string().contains("`nobody`"));
    draft.set_thresholds(&[]).unwrap();
    assert!(draft.parsed().unwrap().offload.thresholds.is_empty());
}

#[test]
fn a_product_comes_back_as_it_was_set() {
    let mut draft = Draft::open(&factory()).unwrap();
    let bounds = PictureBounds {
        modality: "image".to_owned(),
        samples: 40,
        width: Some([64.0, 64.0]),
        sharpness: Some([0.25, 9.5]),
        ..PictureBounds::default()
    };
    let mut product = Product {
        name: "xsdd".to_owned(),
        dispositions: [("xsdd/red iron".to_owned(), Disposition::Reject)].into(),
        costs: Some(Costs { escape: 10.0, false_reject: 1.0, review: None }),
        checks: vec![bounds],
        novelty: None,
    };
    draft.set_product(&product).unwrap();
    assert_eq!(draft.products().unwrap()["xsdd"], product);
    product.costs = None;
    product.dispositions.insert("xsdd/slag inclusion".to_owned(), Disposition::Accept);
    draft.set_product(&product).unwrap();
    assert_eq!(draft.products().unwrap()["xsdd"], product);
}

#[test]
fn a_trial_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let draft = Draft::open(&factory()).unwrap();
    let trial = draft.trial(&dir.path().join("x")).unwrap();
    assert_eq!(trial.bundle().digest(), factory().digest());
    drop(trial);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
