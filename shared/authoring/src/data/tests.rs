use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A grey PNG of 8x8 pixels that is like no other number's.
pub(crate) fn png(number: u32) -> Vec<u8> {
    let level = |at: u32| ((number.wrapping_mul(2_654_435_761) >> (at % 24)) ^ (at * 37)) as u8;
    let picture = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([level(8 * y + x)]));
    let mut bytes = io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn put(dir: &Path, file: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn naming() -> Naming {
    Naming::of_pictures("image", &["template"])
}

fn read(path: &Path, product: Option<&str>) -> Result<Labelled, DataError> {
    Labelled::read(path, &Asked { naming: &naming(), product, least_of_a_class: 2 })
}

fn refused(path: &Path, product: Option<&str>) -> String {
    read(path, product).unwrap_err().to_string()
}

/// Two classes of two pictures, one of them with a template.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (number, file) in ["bad/2.png", "bad/1.PNG", "good/1.png", "good/2.png"].iter().enumerate() {
        put(dir.path(), file, png(number as u32));
    }
    put(dir.path(), "good/1.template.png", png(50));
    put(dir.path(), "good/notes.txt", "not a picture");
    put(dir.path(), "good/.hidden.png", "not one either");
    dir
}

#[test]
fn a_folder_of_classes_is_read_in_order_with_what_stands_beside() {
    let dir = folder();
    let labelled = read(dir.path(), Some("p")).unwrap();
    let names: Vec<(&str, &str)> =
        labelled.items.iter().map(|item| (item.name.as_str(), item.label.as_str())).collect();
    let expected =
        [("bad/1.PNG", "p/bad"), ("bad/2.png", "p/bad"), ("good/1.png", "p/good"), ("good/2.png", "p/good")];
    assert_eq!(names, expected);
    assert_eq!(labelled.items[2].parts["template"], dir.path().join("good/1.template.png"));
    assert_eq!(labelled.items[3].parts.len(), 1);
    assert_eq!(labelled.counts(), [("p/bad", 2), ("p/good", 2)].into());
}

#[test]
fn products_are_folders_of_classes_and_groups_are_folders_below() {
    let dir = tempfile::tempdir().unwrap();
    for (number, file) in ["p/a/1.png", "p/a/2.png", "q/a/lot 7/1.png", "q/a/lot 7/2.png"].iter().enumerate()
    {
        put(dir.path(), file, png(number as u32));
    }
    let labelled = read(dir.path(), None).unwrap();
    let labels: Vec<&str> = labelled.items.iter().map(|item| item.label.as_str()).collect();
    assert_eq!(labels, ["p/a", "p/a", "q/a", "q/a"]);
    let groups: Vec<&str> = labelled.items.iter().map(|item| item.group.as_str()).collect();
    assert_eq!(groups, ["p/a/1.png", "p/a/2.png", "q/a/lot 7", "q/a/lot 7"]);
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let dir = folder();
    assert!(refused(dir.path(), None).contains("`--product`"));
    let missing = dir.path().join("nowhere");
    assert!(refused(&missing, None).contains("nowhere: No such file"));
    put(dir.path(), "bad/9.template.png", png(9));
    let error = refused(dir.path(), Some("p"));
    assert!(error.contains("9.template.png") && error.contains("belongs to a picture `9`"), "{error}");
    fs::remove_file(dir.path().join("bad/9.template.png")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let error = refused(dir.path(), Some("p"));
    assert!(error.contains("empty: is empty"), "{error}");
    put(dir.path(), "empty/1.png", png(77));
    let error = refused(dir.path(), Some("p"));
    assert!(error.contains("`p/empty` has 1 picture, and at least 2"), "{error}");
    put(dir.path(), "empty/2.png", png(0));
    let error = refused(dir.path(), Some("p"));
    assert!(error.contains("`bad/2.png` and `empty/2.png` are the same picture"), "{error}");
    put(dir.path(), "stray.png", png(3));
    assert!(refused(dir.path(), Some("p")).contains("stray.png: lies beside the classes"));
    let bare = tempfile::tempdir().unwrap();
    assert!(refused(bare.path(), Some("p")).contains("holds no folder"));
}

#[test]
fn the_same_picture_twice_in_a_class_is_one_group() {
    let dir = folder();
    put(dir.path(), "good/3.png", png(3));
    let labelled = read(dir.path(), Some("p")).unwrap();
    let group = |name: &str| labelled.items.iter().find(|item| item.name == name).unwrap().group.clone();
    assert_eq!(group("good/3.png"), group("good/2.png"));
    // Beside another template it is another sample.
    put(dir.path(), "good/3.template.png", png(60));
    let labelled = read(dir.path(), Some("p")).unwrap();
    assert_eq!(labelled.items.iter().find(|item| item.name == "good/3.png").unwrap().group, "good/3.png");
}

#[test]
fn tables_say_the_same_as_folders() {
    let dir = folder();
    let csv = "path,label,split,group,template\n\
               bad/1.PNG,p/bad,train,a,\nbad/2.png,p/bad,test,a,\n\
               good/2.png,good,train,,bad/1.PNG\ngood/1.png,good,,,\n";
    put(dir.path(), "t.csv", csv);
    let from_csv = read(&dir.path().join("t.csv"), Some("p")).unwrap();
    let jsonl = r#"{"image": "bad/1.PNG", "label": "p/bad", "split": "train", "group": "a"}
        {"image": "bad/2.png", "label": "p/bad", "split": "test", "group": "a", "template": null}

        {"image": "good/2.png", "label": "p/good", "split": "train", "template": "bad/1.PNG"}
        {"image": "good/1.png", "label": "p/good"}"#;
    put(dir.path(), "t.jsonl", jsonl);
    assert_eq!(read(&dir.path().join("t.jsonl"), None).unwrap(), from_csv);
    assert_eq!(from_csv.items[0].group, "p/a");
    assert_eq!(from_csv.items[2].parts["template"], dir.path().join("bad/1.PNG"));
    assert_eq!(from_csv.items[3].parts["template"], dir.path().join("good/1.template.png"), "it is beside");
    assert_eq!(from_csv.of_splits(&["train"]).items.len(), 2);
    assert_eq!(from_csv.of_splits(&["test", "val"]).items[0].name, "bad/2.png");
}

#[test]
fn what_is_wrong_with_a_table_is_named_with_row_and_key() {
    let dir = folder();
    let csv = |text: &str| {
        put(dir.path(), "t.csv", text);
        refused(&dir.path().join("t.csv"), None)
    };
    let contains = |error: String, expected: &str| assert!(error.contains(expected), "{error}");
    contains(csv("path,label,smell\n"), "t.csv: `smell`: is not a column");
    contains(csv("path\n"), "t.csv: `label`: is missing");
    contains(csv("label\n"), "t.csv: `image`: is missing");
    contains(csv("path,image,label\n"), "t.csv: `path`: stands beside another");
    contains(csv("path,path,label\n"), "t.csv: `path`: stands twice");
    contains(csv("path,label\n"), "holds no labelled pictures");
    contains(csv("path,label\ngood/1.png,p/x\ngone.png,p/x\n"), "t.csv:3: `path`: ");
    contains(csv("path,label\ngood,p/x\n"), "is not a file");
    contains(csv("path,label\ngood/1.png,x\n"), "t.csv:2: `label`: `x` is not `<product>/<class>`");
    contains(csv("path,label\ngood/1.png,\n"), "t.csv:2: `label`: is empty");
    contains(csv("path,label\ngood/1.png\n"), "t.csv:2: `row`: ");
    let jsonl = |text: &str| {
        put(dir.path(), "t.jsonl", text);
        refused(&dir.path().join("t.jsonl"), Some("q"))
    };
    contains(
        jsonl("{\"image\": \"good/1.png\", \"label\": \"p/x\"}\n"),
        "t.jsonl:1: `label`: `p/x` is of product `p`",
    );
    contains(jsonl("\n[1]\n"), "t.jsonl:2: `row`: is not a JSON object");
    contains(jsonl("{\"image\": [1], \"label\": \"x\"}"), "t.jsonl:1: `image`: is [1], not a text");
    contains(
        jsonl("{\"image\": \"good/1.png\", \"label\": \"x\", \"y\": 1}"),
        "t.jsonl:1: `y`: is not a column",
    );
    let error = refused(&dir.path().join("good/1.png"), None);
    contains(error, "is neither a folder of classes nor a `.csv` or `.jsonl`");
}

#[test]
fn a_label_that_the_task_lacks_is_named() {
    let dir = folder();
    let labelled = read(dir.path(), Some("p")).unwrap();
    let task = |labels: &[&str]| Task {
        name: "inspect".to_owned(),
        k: 1,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    labelled.check_labels(&task(&["p/bad", "p/good"])).unwrap();
    let error = labelled.check_labels(&task(&["p/bad", "p/fine"])).unwrap_err().to_string();
    assert!(
        error.contains("`good/1.png` is labelled `p/good`") && error.contains("p/bad, p/fine"),
        "{error}"
    );
}

/// Samples that are not read, of these labels and groups.
pub(crate) fn made_up(of: &[(u8, u8)]) -> Labelled {
    let item = |(at, (label, group)): (usize, &(u8, u8))| Item {
        name: at.to_string(),
        parts: BTreeMap::new(),
        label: format!("p/{label}"),
        group: group.to_string(),
        split: None,
    };
    Labelled { items: of.iter().enumerate().map(item).collect() }
}

#[test]
fn folds_have_their_share_of_every_label() {
    let single: Vec<(u8, u8)> = (0..100).map(|at| (u8::from(at % 10 == 0), at)).collect();
    let labelled = made_up(&single);
    let folds = labelled.folds(5, 7);
    for fold in 0..5 {
        let of = |label: u8| (0..100).filter(|at| folds[*at] == fold && single[*at].0 == label).count();
        assert_eq!((of(0), of(1)), (18, 2));
    }
    assert_ne!(folds, labelled.folds(5, 8));
    let (kept, held) = labelled.holdout(0.3, 7);
    assert_eq!((kept.counts()["p/0"], held.counts()["p/0"]), (63, 27));
    assert_eq!((kept.counts()["p/1"], held.counts()["p/1"]), (7, 3));
}

proptest! {
    #[test]
    fn no_group_is_split_and_nothing_is_lost(of in prop::collection::vec((0u8..4, 0u8..12), 1..80), count in 1usize..6, seed: u64) {
        let labelled = made_up(&of);
        let folds = labelled.folds(count, seed);
        prop_assert_eq!(&folds, &labelled.folds(count, seed));
        for (a, b) in (0..of.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
            prop_assert!(of[a].1 != of[b].1 || folds[a] == folds[b]);
        }
        prop_assert!(folds.iter().all(|fold| *fold < count));
        let (kept, held) = labelled.holdout(0.3, seed);
        prop_assert_eq!(kept.items.len() + held.items.len(), of.len());
        let groups = |of: &Labelled| of.items.iter().map(|item| item.group.clone()).collect::<std::collections::BTreeSet<_>>();
        prop_assert!(groups(&kept).is_disjoint(&groups(&held)));
    }
}
