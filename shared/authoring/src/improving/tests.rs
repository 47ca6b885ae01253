use super::*;
use crate::data::{Asked, Naming};

/// Pictures in folders of classes: a file's content is its only number.
fn labelled(dir: &Path, classes: &[(&str, &[u8])]) -> Labelled {
    for (class, pictures) in classes {
        std::fs::create_dir_all(dir.join(class)).unwrap();
        for picture in *pictures {
            std::fs::write(dir.join(class).join(format!("{picture}.png")), [*picture]).unwrap();
        }
    }
    let naming = Naming::of_pictures("image", &["template"]);
    Labelled::read(dir, &Asked { naming: &naming, product: Some("cap"), least_of_a_class: 1 }).unwrap()
}

#[test]
fn what_people_say_counts_more_than_what_the_data_says() {
    let dir = tempfile::tempdir().unwrap();
    let old = labelled(&dir.path().join("old"), &[("good", &[1, 2]), ("spotted", &[3])]);
    let said = labelled(&dir.path().join("said"), &[("good", &[1]), ("spotted", &[2]), ("torn", &[9])]);
    let (all, merged) = merge(&old, &said).unwrap();
    assert_eq!((merged.added, merged.confirmed), (1, 1));
    let corrected = ["good/2.png", "cap/good", "cap/spotted"].map(str::to_owned);
    assert_eq!(merged.corrected, [corrected]);
    let counts: Vec<(&str, usize)> = all.counts().into_iter().collect();
    assert_eq!(counts, [("cap/good", 1), ("cap/spotted", 2), ("cap/torn", 1)]);
}

#[test]
fn a_bundle_of_trained_networks_is_refused_with_what_helps() {
    let bundle = Bundle::open(Path::new("../../models/factory")).unwrap();
    let refused = product(bundle.manifest()).unwrap_err().to_string();
    assert!(refused.starts_with("factory ") && refused.contains("`bundle certify`"), "{refused}");
}
