//! From pictures that are drawn here to a bundle that decides on others like them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_bundle::Bundle;
use millgate_engine::Tract;
use millgate_mixture::driver::{Ask, Driver, DriverError};
use millgate_mixture::local::{Local, to_the_end};
use millgate_mixture::proof::golden;
use millgate_mixture::runner::{Holding, Models, RunError, Runner};
use millgate_model::deciding::{Mode, Policy};
use millgate_model::decision::Missing;
use millgate_model::gate::{Place, tier_places};

use super::*;
use crate::data::{Asked, Naming};
use crate::onnx::tests::backbone as tiny;
use crate::progress::Silent;

/// What is drawn on a grey ground with noise.
#[derive(Clone, Copy, PartialEq)]
enum Drawn {
    Nothing,
    Stripes,
    Disc,
    Scratch,
}

const SIDE: u32 = 64;

fn picture(drawn: Drawn, seed: u64) -> image::GrayImage {
    let mut random = fastrand::Rng::with_seed(seed);
    let (x0, y0) = (20.0 + 24.0 * random.f32(), 20.0 + 24.0 * random.f32());
    let period = 5 + random.u32(0..3);
    image::GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let (dx, dy) = (x as f32 - x0, y as f32 - y0);
        let level = match drawn {
            Drawn::Nothing => 110.0,
            Drawn::Stripes => {
                if (x / period).is_multiple_of(2) {
                    70.0
                } else {
                    170.0
                }
            }
            Drawn::Disc => {
                if dx * dx + dy * dy < 150.0 {
                    225.0
                } else {
                    110.0
                }
            }
            Drawn::Scratch => {
                if (dx + 2.0 * dy).abs() < 3.0 && dx.abs() < 18.0 {
                    10.0
                } else {
                    110.0
                }
            }
        };
        image::Luma([(level + 16.0 * (random.f32() - 0.5)).clamp(0.0, 255.0) as u8])
    })
}

fn draw(dir: &Path, name: &str, drawn: Drawn, seeds: std::ops::Range<u64>) {
    std::fs::create_dir_all(dir.join(name)).unwrap();
    for seed in seeds {
        picture(drawn, seed).save(dir.join(name).join(format!("{seed:03}.png"))).unwrap();
    }
}

fn backbone() -> Backbone {
    Backbone::parse(Path::new("tiny.onnx"), &with_numbers(&tiny(5))).unwrap()
}

/// A model with the numbers that say how pictures are normalised.
fn with_numbers(file: &[u8]) -> Vec<u8> {
    use prost::Message;
    let mut model = crate::onnx::read(file).unwrap();
    for (key, value) in [("mean", "0.5"), ("std", "0.25"), ("name", "tiny"), ("licence", "MIT")] {
        let (key, value) = (key.to_owned(), value.to_owned());
        model.metadata_props.push(millgate_engine::pb::StringStringEntryProto { key, value });
    }
    model.encode_to_vec()
}

fn read(dir: &Path, product: &str) -> Labelled {
    let naming = Naming::of_pictures("image", &["template"]);
    let asked = Asked { naming: &naming, product: Some(product), least_of_a_class: 2 };
    Labelled::read(dir, &asked).unwrap()
}

fn request<'a>(backbone: &'a Backbone, from: From<'a>) -> Request<'a> {
    Request { product: "cap", backbone, size: Some(64), seed: 7, from }
}

/// The verdict of the local experts on a file, and its probability.
fn decided(runner: &mut Runner, path: &Path) -> (String, f64) {
    let manifest = Arc::clone(runner.models().manifest());
    let part = millgate_sample::part::Part::file("image", std::fs::read(path).unwrap());
    let sample =
        millgate_sample::sample::read(&manifest.modalities, &[part], &Default::default()).unwrap().sample;
    let policy =
        Policy { mode: Mode::Never, deadline: Duration::from_secs(60), ..Policy::for_bundle(&manifest) };
    let places = tier_places(&manifest, Place::Absent(Missing::Offline));
    let (presence, started) = (sample.presence(), Instant::now());
    let ask = Ask { task: "inspect", policy, places, presence, started };
    let mut local = Local::new(runner, sample, &|| false);
    let outcome = to_the_end(async {
        let mut driver = Driver::begin(&manifest, &mut local, ask).await.unwrap();
        driver.run(&mut local).await;
        Ok::<_, DriverError<RunError>>(driver.close().unwrap().outcome)
    });
    let outcome = outcome.unwrap();
    if outcome.is_unknown() {
        return (
            millgate_model::decision::UNKNOWN.to_owned(),
            outcome.novelty.map_or(0.0, |novelty| novelty.p),
        );
    }
    let mixed = outcome.mixed;
    (manifest.tasks.first().unwrap().labels[mixed.verdict].clone(), mixed.probabilities[mixed.verdict])
}

fn runner(bundle: &Bundle) -> Runner {
    let models = Arc::new(Models::load(bundle, Holding::Edge, &Tract).unwrap());
    golden::check(bundle, &models).unwrap();
    models.runner().unwrap()
}

#[test]
fn a_folder_of_classes_becomes_a_bundle_that_decides_them_right() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (name, drawn) in [("good", Drawn::Nothing), ("striped", Drawn::Stripes), ("disc", Drawn::Disc)] {
        draw(&data, name, drawn, 0..20);
        draw(&dir.path().join("new"), name, drawn, 100..104);
    }
    let (backbone, labelled) = (backbone(), read(&data, "cap"));
    let good = ["good".to_owned()];
    let request = request(&backbone, From::Classes { data: &labelled, good: &good });
    let out = dir.path().join("bundle");
    let made = make(&request, &out, &Silent).unwrap();
    let classes = made.report.classes.as_ref().unwrap();
    assert!(classes.macro_f1 > 0.95, "{}", made.report.text());
    assert_eq!((classes.folds, made.report.size), (5, 64));
    assert!(made.report.decision_us > 0);
    assert_eq!(made.held_out.items.len() + made.fitted_on.items.len(), 60);
    assert_eq!(made.draft.parsed().unwrap().version, "1.0.0");

    let bundle = made.draft.write(&out).unwrap();
    let product = bundle.manifest().product("cap").unwrap();
    assert_eq!(product.dispositions["cap/good"], Disposition::Accept);
    assert_eq!(product.dispositions["cap/striped"], Disposition::Reject);
    assert!(String::from_utf8(bundle.read("MODEL_CARD.md").unwrap()).unwrap().contains("shuffled"));
    let bank = product.novelty.as_ref().unwrap();
    assert_eq!((bank.calibration_samples, bank.detectors.as_slice()), (60, &["picture".to_owned()][..]));
    assert!(product.checks[0].brightness.is_some());
    let mut runner = runner(&bundle);
    let (mut right, mut odd) = (0, 0);
    for name in ["good", "striped", "disc"] {
        for seed in 100..104 {
            let path = dir.path().join("new").join(name).join(format!("{seed}.png"));
            let (label, _) = decided(&mut runner, &path);
            right += usize::from(label == format!("cap/{name}"));
            odd += usize::from(label == "unknown");
        }
    }
    assert!(right + odd == 12 && odd <= 2, "{right} right, {odd} unknown");
    let judged =
        crate::evaluation::evaluate(&bundle, &read(&dir.path().join("new"), "cap"), &Silent).unwrap();
    assert!(judged.samples == 12 && judged.device.accuracy > 0.9, "{judged:?}");
    assert_eq!((judged.novelty.compared, judged.dispositions.escapes), (12, 0));
    let page = crate::evaluation::page(&judged);
    assert!(page.contains("12 samples") && page.contains("cap/striped") && !page.contains("http"), "{page}");
    let same = crate::evaluation::compared(judged.clone(), judged);
    assert!(same.gained.is_empty() && same.lost.is_empty());
    for (name, level) in [("black", 0), ("white", 255)] {
        let path = dir.path().join(format!("{name}.png"));
        image::GrayImage::from_pixel(SIDE, SIDE, image::Luma([level])).save(&path).unwrap();
        assert_eq!(decided(&mut runner, &path).0, "unknown", "{name}");
    }
}

#[test]
fn the_same_pictures_and_seed_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    draw(&data, "good", Drawn::Nothing, 0..8);
    draw(&data, "striped", Drawn::Stripes, 0..8);
    let (backbone, labelled) = (backbone(), read(&data, "cap"));
    let request = request(&backbone, From::Classes { data: &labelled, good: &[] });
    let text = |name: &str| {
        let made = make(&request, &dir.path().join(name), &Silent).unwrap();
        assert!(made.report.warnings.iter().any(|warning| warning.contains("has 8 pictures")));
        made.draft.text()
    };
    // The digests of all files are in it.
    assert_eq!(text("one"), text("two"));
}

#[test]
fn good_pictures_alone_become_a_bundle_that_finds_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path(), "good", Drawn::Nothing, 0..60);
    draw(&dir.path().join("defects"), "scratch", Drawn::Scratch, 0..12);
    let good = good_pictures(&dir.path().join("good"), "cap/good").unwrap();
    let defects = read(&dir.path().join("defects"), "cap");
    let backbone = backbone();
    let from = From::Good { good: &good, defects: Some(&defects), false_alarms: 0.1 };
    let made = make(&request(&backbone, from), &dir.path().join("bundle"), &Silent).unwrap();
    let report = made.report.good.as_ref().unwrap();
    let known = report.defects.as_ref().unwrap();
    assert!(known.auroc > 0.95 && known.caught >= 11, "{}", made.report.text());
    assert!(report.false_alarms <= 0.1 && report.aside == 15, "{}", made.report.text());

    let bundle = made.draft.write(&dir.path().join("bundle")).unwrap();
    let expert = bundle.manifest().experts.first().unwrap();
    assert_eq!(
        (expert.name.as_str(), expert.labels.as_slice()),
        ("cap-good", &["cap/good".to_owned(), "cap/anomalous".to_owned()][..])
    );
    let mut runner = runner(&bundle);
    draw(&dir.path().join("new"), "good", Drawn::Nothing, 200..220);
    draw(&dir.path().join("new"), "scratch", Drawn::Scratch, 200..220);
    let mut count = |name: &str| {
        let files = (200..220).map(|seed| dir.path().join("new").join(name).join(format!("{seed}.png")));
        files.filter(|path| decided(&mut runner, path).0 == "cap/anomalous").count()
    };
    let (alarms, caught) = (count("good"), count("scratch"));
    assert!(alarms <= 6 && caught >= 17, "{alarms} of 20 good ones, {caught} of 20 scratches");
}

#[test]
fn a_picture_is_compared_with_its_template() {
    let dir = tempfile::tempdir().unwrap();
    for (class, drawn) in [("good", Drawn::Nothing), ("scratch", Drawn::Scratch)] {
        let folder = dir.path().join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for seed in 0..16 {
            // Both show the same disc, which says nothing; what differs does.
            let template = picture(Drawn::Disc, seed);
            let mark = picture(drawn, seed + 500);
            let seen = image::GrayImage::from_fn(SIDE, SIDE, |x, y| {
                let (template, mark) = (template.get_pixel(x, y).0[0], mark.get_pixel(x, y).0[0]);
                image::Luma([if mark < 40 { mark } else { template }])
            });
            seen.save(folder.join(format!("{seed}.png"))).unwrap();
            template.save(folder.join(format!("{seed}.template.png"))).unwrap();
        }
    }
    let (backbone, labelled) = (backbone(), read(dir.path(), "cap"));
    let from = From::Classes { data: &labelled, good: &[] };
    let made = make(&request(&backbone, from), &dir.path().join("bundle"), &Silent).unwrap();
    assert!(made.report.classes.as_ref().unwrap().macro_f1 > 0.9, "{}", made.report.text());
    let bundle = made.draft.write(&dir.path().join("bundle")).unwrap();
    let inputs = &bundle.manifest().experts.first().unwrap().inputs;
    assert_eq!(inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["image", "template"]);
    runner(&bundle);
}

#[test]
fn a_template_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path(), "good", Drawn::Nothing, 0..4);
    draw(dir.path(), "scratch", Drawn::Scratch, 0..4);
    picture(Drawn::Nothing, 1).save(dir.path().join("good/000.template.png")).unwrap();
    let (backbone, labelled) = (backbone(), read(dir.path(), "cap"));
    let from = From::Classes { data: &labelled, good: &[] };
    let error = make(&request(&backbone, from), &dir.path().join("bundle"), &Silent).unwrap_err().to_string();
    assert!(
        error.contains("001.png: has no template beside it") && error.contains("good/000.png"),
        "{error}"
    );
}

#[test]
fn what_no_bundle_can_be_made_of_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    draw(dir.path(), "good", Drawn::Nothing, 0..12);
    let (backbone, one) = (backbone(), read(dir.path(), "cap"));
    let refused = |request: &Request<'_>| make(request, &out, &Silent).unwrap_err().to_string();
    let classes = From::Classes { data: &one, good: &[] };
    let error = refused(&request(&backbone, classes));
    assert!(error.starts_with("`data` holds one class, `cap/good`"), "{error}");

    let few = good_pictures(&dir.path().join("good"), "cap/good").unwrap();
    let from = From::Good { good: &few, defects: None, false_alarms: 0.05 };
    let error = refused(&request(&backbone, from));
    assert!(error.starts_with("`good` holds 12 good pictures, and it takes 20 at least"), "{error}");

    let error = refused(&Request { product: "my cap", ..request(&backbone, from) });
    assert!(error.starts_with("`product` is `my cap`"), "{error}");
    let error = refused(&Request { size: Some(100), ..request(&backbone, from) });
    assert!(error.starts_with("`size` is 100"), "{error}");

    draw(dir.path(), "scratch", Drawn::Scratch, 0..12);
    let two = read(dir.path(), "cap");
    let named = ["fine".to_owned()];
    let error = refused(&request(&backbone, From::Classes { data: &two, good: &named }));
    assert!(error.starts_with("`good` names `cap/fine`, which is no class of the data"), "{error}");
}

#[test]
fn a_backbone_that_cannot_be_used_is_refused_by_file_and_key() {
    let path = Path::new("mine.onnx");
    let error = Backbone::parse(path, &tiny(1)).unwrap_err().to_string();
    assert!(error.starts_with("mine.onnx: `mean` is missing from its metadata"), "{error}");
    let error = Backbone::parse(path, b"text").unwrap_err().to_string();
    assert!(error.starts_with("mine.onnx: "), "{error}");
    let head = with_numbers(&graphs::gate(4, 1));
    let error = Backbone::parse(path, &head).unwrap_err().to_string();
    assert!(error.starts_with("mine.onnx: `inputs` are several"), "{error}");
    let nowhere = tempfile::tempdir().unwrap();
    let error = Backbone::read(nowhere.path()).unwrap_err().to_string();
    assert!(error.contains("no backbone lies there: give one with --backbone FILE.onnx"), "{error}");
}
