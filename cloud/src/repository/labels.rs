//! Names of an output's classes: the file that `label_filename` of a configuration names, one name a line.

use std::collections::BTreeMap;
use std::path::Path;

use millgate_shared::engine::zipmap::Zipped;
use millgate_shared::proto::inference::ModelOutput;
use millgate_shared::text_file;

use super::RepositoryError;
use super::file::bounded;

/// More is not read.
const LONGEST: u64 = 16 << 20;

/// By output; what names no file has none.
pub(super) fn read(
    root: &Path,
    dir: &Path,
    outputs: &[ModelOutput],
) -> Result<BTreeMap<String, Vec<String>>, RepositoryError> {
    let mut labels = BTreeMap::new();
    for output in outputs.iter().filter(|output| !output.label_filename.is_empty()) {
        let path = dir.join(&output.label_filename);
        let bytes = bounded(root, &path, LONGEST)?;
        let text = text_file::decode(&bytes)
            .map_err(|error| RepositoryError::Config { path, message: error.to_string() })?;
        labels.insert(output.name.clone(), text.lines().map(str::to_owned).collect());
    }
    Ok(labels)
}

/// Those, and the classes that a file itself names, of outputs that have no others.
pub(super) fn with_classes(
    mut labels: BTreeMap<String, Vec<String>>,
    zipped: &[Zipped],
) -> BTreeMap<String, Vec<String>> {
    for Zipped { output, classes } in zipped {
        labels.entry(output.clone()).or_insert_with(|| classes.clone());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(label_filename: &str) -> ModelOutput {
        let (name, label_filename) = ("y".to_owned(), label_filename.to_owned());
        ModelOutput { name, label_filename, ..ModelOutput::default() }
    }

    #[test]
    fn a_line_is_a_name_and_the_file_lies_within() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("m");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("labels.txt"), "\u{feff}cat\r\n\na dog: big\n").unwrap();
        let labels = read(root.path(), &dir, &[output("labels.txt"), ModelOutput::default()]).unwrap();
        assert_eq!(
            labels,
            BTreeMap::from([("y".to_owned(), vec!["cat".into(), "".into(), "a dog: big".into()])])
        );
        std::fs::write(dir.join("latin1.txt"), b"caf\xe9").unwrap();
        for bad in ["none.txt", "latin1.txt", "../../../../../../etc/passwd", "/etc/passwd"] {
            assert!(read(root.path(), &dir, &[output(bad)]).is_err(), "{bad}");
        }
    }
}
