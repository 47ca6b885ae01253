//! A product that nobody has heard of, from a folder of pictures to verdicts of an agent.

use std::path::Path;

use image::{GrayImage, Luma};
use system_tests::{root, run};

/// What is drawn on a cap.
#[derive(Clone, Copy)]
pub(super) enum Drawn {
    Nothing,
    Stripes,
    Disc,
    Scratch,
}

fn cap(drawn: Drawn, seed: u64) -> GrayImage {
    let mut random = fastrand::Rng::with_seed(seed);
    let (x0, y0) = (30.0 + 60.0 * random.f32(), 30.0 + 60.0 * random.f32());
    let period = 7 + random.u32(0..5);
    GrayImage::from_fn(120, 120, |x, y| {
        let (dx, dy) = (x as f32 - x0, y as f32 - y0);
        let level = match drawn {
            Drawn::Stripes if (x / period).is_multiple_of(2) => 80.0,
            Drawn::Disc if dx * dx + dy * dy < 260.0 => 210.0,
            Drawn::Scratch if (dx + 2.0 * dy).abs() < 4.0 && dx.abs() < 30.0 => 25.0,
            _ => 130.0,
        };
        Luma([(level + 20.0 * (random.f32() - 0.5)).clamp(0.0, 255.0) as u8])
    })
}

pub(super) fn draw(dir: &Path, class: &str, drawn: Drawn, seeds: std::ops::Range<u64>) {
    std::fs::create_dir_all(dir.join(class)).unwrap();
    for seed in seeds {
        cap(drawn, seed).save(dir.join(class).join(format!("{class}-{seed:03}.png"))).unwrap();
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn backbone() -> String {
    text(&root().join("models/backbone"))
}

/// The label that an agent gives each picture of a folder, by a bundle and nothing else.
fn verdicts(bundle: &Path, folder: &Path) -> Vec<String> {
    let mut files: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| text(&entry.unwrap().path())).collect();
    files.sort();
    let bundle = text(bundle);
    let mut args = vec!["infer", "--mode", "never", "--output", "jsonl", "--bundle", bundle.as_str()];
    args.extend(files.iter().map(String::as_str));
    let ran = run("millgate-edge", &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let label = |line: &serde_json::Value| line["verdict"]["label"].as_str().unwrap_or_default().to_owned();
    ran.lines().iter().map(label).collect()
}

#[test]
fn from_a_folder_of_classes_to_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let (data, new, out) = (dir.path().join("data"), dir.path().join("new"), dir.path().join("caps"));
    let classes = [("good", Drawn::Nothing), ("striped", Drawn::Stripes), ("disc", Drawn::Disc)];
    for (class, drawn) in classes {
        draw(&data, class, drawn, 0..40);
        draw(&new, class, drawn, 500..510);
    }
    let (out_text, data, backbone) = (text(&out), text(&data), backbone());
    let args = ["bundle", "init", &out_text, "--product", "cap", "--data", &data, "--good", "good"];
    let more = ["--backbone", &backbone, "--output", "json"];
    let made = run("millgate-cloud", &[&args[..], &more].concat());
    assert_eq!(made.code, 0, "{}", made.stderr);
    let report = &made.lines()[0]["report"];
    assert!(report["classes"]["macro_f1"].as_f64().unwrap() > 0.9, "{report}");
    assert!(report["classes"]["control_macro_f1"].is_number(), "{report}");

    let verified = run("millgate-cloud", &["bundle", "verify", &out_text]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let (mut right, mut all) = (0, 0);
    for (class, _) in classes {
        for label in verdicts(&out, &new.join(class)) {
            right += usize::from(label == format!("cap/{class}"));
            all += 1;
        }
    }
    assert!(right * 10 >= all * 9, "{right} of {all}");

    let again = run("millgate-cloud", &[&args[..], &more].concat());
    assert_eq!(again.code, 2, "what is there is not written over");
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
}

#[test]
fn from_good_pictures_alone_to_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let (good, new, out) = (dir.path().join("good"), dir.path().join("new"), dir.path().join("caps"));
    draw(dir.path(), "good", Drawn::Nothing, 0..120);
    draw(&new, "good", Drawn::Nothing, 500..520);
    draw(&new, "scratch", Drawn::Scratch, 500..520);
    let (out_text, good, backbone) = (text(&out), text(&good), backbone());
    let args = ["bundle", "init", &out_text, "--product", "cap", "--good", &good, "--false-alarms", "0.05"];
    let made = run("millgate-cloud", &[&args[..], &["--backbone", &backbone]].concat());
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(made.stdout.contains("what it catches is not known"), "{}", made.stdout);
    let is_bad = |label: &String| label != "cap/good";
    let (alarms, caught) = (
        verdicts(&out, &new.join("good")).iter().filter(|label| is_bad(label)).count(),
        verdicts(&out, &new.join("scratch")).iter().filter(|label| is_bad(label)).count(),
    );
    assert!(alarms <= 4 && caught >= 18, "{alarms} of 20 good ones, {caught} of 20 scratches");
}

#[test]
fn what_no_bundle_can_be_made_of_is_refused_by_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), text(&dir.path().join("caps")));
    draw(&data, "good", Drawn::Nothing, 0..6);
    draw(&data, "striped", Drawn::Stripes, 0..1);
    let (data_text, backbone) = (text(&data), backbone());
    let refused = |args: &[&str]| {
        let ran =
            run("millgate-cloud", &[&["bundle", "init", out.as_str(), "--product", "cap"], args].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        ran.stderr
    };
    let of_data = ["--data", &data_text, "--backbone", &backbone];
    let said = refused(&of_data);
    assert!(said.contains("class `cap/striped` has 1 picture"), "{said}");

    draw(&data, "striped", Drawn::Stripes, 1..3);
    std::fs::copy(data.join("good/good-000.png"), data.join("striped/same.png")).unwrap();
    let said = refused(&of_data);
    assert!(said.contains("good-000.png") && said.contains("same.png"), "{said}");
    std::fs::remove_file(data.join("striped/same.png")).unwrap();

    std::fs::write(data.join("striped/broken.png"), b"no picture").unwrap();
    let said = refused(&of_data);
    assert!(said.contains("broken.png"), "{said}");

    let nowhere = text(&dir.path().join("nowhere.onnx"));
    let said = refused(&["--data", &data_text, "--backbone", &nowhere]);
    assert!(said.contains("nowhere.onnx") && said.contains("--backbone"), "{said}");
    let model = text(&root().join("models/factory/gate/1/model.onnx"));
    let said = refused(&["--data", &data_text, "--backbone", &model]);
    assert!(said.contains("gate/1/model.onnx") && said.contains("`inputs`"), "{said}");

    let few = text(&data.join("good"));
    let said = refused(&["--good", &few, "--backbone", &backbone]);
    assert!(said.contains("`good` holds 6 good pictures, and it takes 20"), "{said}");
    assert!(!Path::new(&out).exists());
}
