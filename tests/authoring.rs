//! A bundle is certified, and experts come and go, by commands; what is wrong with what was given is said by name.

use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use system_tests::{Ran, bundle, run};

const STEEL: [(&str, &str); 3] = [
    ("red iron", "steel-red-iron"),
    ("slag inclusion", "steel-slag-inclusion"),
    ("surface scratch", "steel-surface-scratch"),
];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A folder of steel, each picture a little unlike a golden one.
fn steel(dir: &Path, count: u32) -> PathBuf {
    let data = dir.join("steel");
    for (class, golden) in STEEL {
        let golden = bundle().join(format!("golden/{golden}.png"));
        let picture = image::open(golden).unwrap().to_luma8();
        std::fs::create_dir_all(data.join(class)).unwrap();
        for number in 0..count {
            let level = |x: u32, y: u32, level: u8| match (x * 31 + y * 17 + number * 7) % 61 {
                0 => level.wrapping_add(number as u8 + 1),
                _ => level,
            };
            let noisy = GrayImage::from_fn(picture.width(), picture.height(), |x, y| {
                Luma([level(x, y, picture.get_pixel(x, y).0[0])])
            });
            noisy.save(data.join(class).join(format!("{number:03}.png"))).unwrap();
        }
    }
    data
}

fn certify(args: &[&str]) -> Ran {
    let factory = text(&bundle());
    run("millgate-cloud", &[&["bundle", "certify", factory.as_str()], args].concat())
}

#[test]
fn a_bundle_is_certified_from_a_folder_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (text(&steel(dir.path(), 24)), text(&dir.path().join("out")));
    let flags = ["--data", &data, "--product", "xsdd", "--out", &out, "--output", "json"];
    let certified = certify(&flags);
    assert_eq!(certified.code, 0, "{}", certified.stderr);
    let report = &certified.lines()[0]["report"];
    assert_eq!((report["samples"].as_u64(), report["folds"].as_u64()), (Some(72), Some(5)));
    let verified = run("millgate-cloud", &["bundle", "verify", &out]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    // It is not written over.
    let again = certify(&flags);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_certified_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = steel(dir.path(), 10);
    let folder = text(&data);
    let refused = |flags: &[&str], expected: &str| {
        let ran = certify(&[&["--data", folder.as_str()], flags].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    refused(&["--product", "xsdd"], "takes at least 59 samples of product `xsdd`");
    refused(&["--product", "xsdd"], "there are 30");
    refused(&[], "no product was given");
    refused(&["--product", "tiles"], "is not a label of task `inspect`");
    // A class with one picture, and the same picture in two classes.
    let (one, other) = (data.join("one"), data.join("slag inclusion/000.png"));
    std::fs::create_dir(&one).unwrap();
    std::fs::copy(&other, one.join("a.png")).unwrap();
    refused(&["--product", "xsdd"], "class `xsdd/one` has 1 picture");
    std::fs::write(one.join("b.png"), b"no picture").unwrap();
    refused(&["--product", "xsdd"], "are the same picture, labelled `xsdd/one` and `xsdd/slag inclusion`");
}

#[test]
fn an_expert_goes_with_what_was_its_own_and_what_is_no_expert_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (factory, out) = (text(&bundle()), text(&dir.path().join("out")));
    let ran = run("millgate-cloud", &["bundle", "remove-expert", &factory, "generalist-s", "--out", &out]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("removed  generalist-s"), "{}", ran.stdout);
    let verified = run("millgate-cloud", &["bundle", "verify", &out]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let nowhere = text(&dir.path().join("nowhere"));
    let ran = run("millgate-cloud", &["bundle", "remove-expert", &factory, "nobody", "--out", &nowhere]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("`nobody` is not an expert of this bundle"), "{}", ran.stderr);
    // The expert of another product, whose logits are too many.
    let model = text(&bundle().join("steel-s/1/model.onnx"));
    let flags = ["--product", "plate", "--labels", "good,bent", "--out", &nowhere];
    let ran = run("millgate-cloud", &[&["bundle", "add-expert", &factory, &model], &flags[..]].concat());
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("output `logits` is [1, 7], and 2 labels were given"), "{}", ran.stderr);
    // With seven labels it is taken, and the gate leaves it alone for want of samples.
    let labels = "a,b,c,d,e,f,g";
    let flags = ["--product", "plate", "--labels", labels, "--name", "plate-s", "--out", &nowhere];
    let ran = run("millgate-cloud", &[&["bundle", "add-expert", &factory, &model], &flags[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("are the same bit for bit"), "{}", ran.stdout);
    let verified = run("millgate-cloud", &["bundle", "verify", &nowhere]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}
