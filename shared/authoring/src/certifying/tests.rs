use std::path::Path;

use millgate_bundle::Bundle;

use super::*;
use crate::data::{Asked, Naming};
use crate::progress::Silent;

const CLASSES: [(&str, &str); 3] = [
    ("red iron", "steel-red-iron"),
    ("slag inclusion", "steel-slag-inclusion"),
    ("surface scratch", "steel-surface-scratch"),
];

fn factory() -> Bundle {
    Bundle::open(Path::new("../../models/factory")).unwrap()
}

/// A folder of steel: of each class so many pictures that are a little unlike a golden one.
fn steel(dir: &Path, count: u32) -> Labelled {
    for (class, golden) in CLASSES {
        let picture = image::open(factory().dir().join(format!("golden/{golden}.png"))).unwrap().to_luma8();
        let folder = dir.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            let mut picture = picture.clone();
            let (width, height) = picture.dimensions();
            for at in 0..8 {
                let spot = (number * 37 + at * 11) % (width * height);
                let pixel = picture.get_pixel_mut(spot % width, spot / width);
                pixel.0[0] = pixel.0[0].wrapping_add((number + at) as u8);
            }
            picture.save(folder.join(format!("{number:03}.png"))).unwrap();
        }
    }
    let naming = Naming::of(factory().manifest());
    Labelled::read(dir, &Asked { naming: &naming, product: Some("xsdd"), least_of_a_class: 2 }).unwrap()
}

#[test]
fn a_bundle_is_certified_on_samples_of_one_product_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let data = steel(&dir.path().join("data"), 24);
    let mut draft = Draft::open(&factory()).unwrap();
    let out = dir.path().join("out");
    let report = certify(&mut draft, &out, &data, &Options::default(), &Silent).unwrap();
    assert_eq!(report.samples, 72);
    assert_eq!(report.before, factory().manifest().version);
    assert_ne!(report.after, report.before);
    let steel = report.experts.iter().find(|expert| expert.name == "steel-s").unwrap();
    assert!(steel.before[0] != steel.after[0] && steel.samples == 72, "{steel:?}");
    assert_eq!(steel.before[2], steel.after[2], "nothing shows what the gate's weight is for");
    assert_eq!(steel.accuracy, Some(1.0));
    let others = report.experts.iter().filter(|expert| !expert.name.starts_with("steel"));
    for other in others {
        assert!(other.kept.is_some() && other.before == other.after, "{other:?}");
    }
    let [xsdd] = &report.products[..] else { panic!("{:?}", report.products) };
    assert_eq!((xsdd.product.as_str(), xsdd.samples, xsdd.local_accuracy), ("xsdd", 72, 1.0));
    let line = |risk: f64, restricted: bool| {
        let is_it =
            |line: &&ThresholdReport| line.restricted == restricted && (line.risk - risk).abs() < 1e-9;
        xsdd.thresholds.iter().find(is_it).unwrap().clone()
    };
    assert_eq!(line(0.005, false).none.as_deref(), Some("takes at least 598 samples, there are 72"));
    for restricted in [false, true] {
        let certified = line(0.05, restricted);
        assert_eq!((certified.samples, certified.kept, certified.errors), (72, 72, 0), "{certified:?}");
    }
    assert!(report.notes.iter().any(|note| note.contains("only samples of xsdd")), "{:?}", report.notes);
    let written = draft.write(&out).unwrap();
    let manifest = written.manifest();
    let of = |product: &str, restricted: bool| {
        let thresholds = manifest.offload.thresholds.iter();
        thresholds.filter(|entry| entry.product == product && entry.restricted == restricted).count()
    };
    assert_eq!((of("xsdd", false), of("xsdd", true)), (1, 1));
    assert_eq!(of("bsdata", false), 0, "it has no golden decisions that could show that nothing has changed");
    // Its golden decisions are as its models decide now.
    let models = Arc::new(Models::load(&written, Holding::All, &Tract).unwrap());
    millgate_mixture::proof::golden::check(&written, &models).unwrap();
    // The same again gives the same bytes.
    let mut again = Draft::open(&factory()).unwrap();
    certify(&mut again, &out, &data, &Options::default(), &Silent).unwrap();
    assert_eq!(again.text(), draft.text());
}

#[test]
fn too_few_samples_are_refused_with_how_many_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let data = steel(&dir.path().join("data"), 10);
    let refused = |options: Options| {
        let mut draft = Draft::open(&factory()).unwrap();
        certify(&mut draft, &dir.path().join("out"), &data, &options, &Silent).map(|report| report.products)
    };
    let error = refused(Options::default()).unwrap_err().to_string();
    let expected = "a certificate at risk 0.05 takes at least 59 samples of product `xsdd`, none of them wrong, and there are 30";
    assert!(error.starts_with(expected), "{error}");
    let error = refused(Options { risks: vec![0.01], ..Options::default() }).unwrap_err().to_string();
    assert!(error.contains("at least 299 samples"), "{error}");
    let error = refused(Options { risks: vec![1.5], ..Options::default() }).unwrap_err().to_string();
    assert!(error.contains("1.5 is not above 0"), "{error}");
    let error = refused(Options { task: Some("sort".to_owned()), ..Options::default() }).unwrap_err();
    assert_eq!(error.to_string(), "`sort` is not a task of this bundle");
    // Where it is not required, the report says it.
    let products = refused(Options { is_required: false, ..Options::default() }).unwrap();
    assert!(products[0].thresholds.iter().all(|line| line.after.is_none() && line.none.is_some()));
}

#[test]
fn labels_that_the_bundle_lacks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = steel(&dir.path().join("data"), 2);
    data.items[3].label = "xsdd/rust".to_owned();
    let mut draft = Draft::open(&factory()).unwrap();
    let error = certify(&mut draft, &dir.path().join("out"), &data, &Options::default(), &Silent);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is labelled `xsdd/rust`, which is not a label of task `inspect`"), "{error}");
}
