use super::*;
use crate::record::Undecided;

fn record(name: &str) -> Record {
    let undecided = Undecided { path: name.to_owned(), code: "test", message: String::new() };
    Record::of_error(name.to_owned(), &undecided).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let name = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["path"].as_str().unwrap().to_owned()
    };
    text.lines().map(name).collect()
}

fn config(dir: &Path) -> JsonlConfig {
    JsonlConfig::new(dir.join("sub/decisions.jsonl"))
}

#[test]
fn lines_are_appended_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    for name in ["a", "b"] {
        Jsonl::open(&config).unwrap().write(&[record(name)]).unwrap();
    }
    assert_eq!(names(&config.path), ["a", "b"]);
}

#[test]
fn an_unfinished_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    Jsonl::open(&config).unwrap().write(&[record("a")]).unwrap();
    OpenOptions::new().append(true).open(&config.path).unwrap().write_all(b"{\"path\":\"hal").unwrap();
    Jsonl::open(&config).unwrap().write(&[record("b")]).unwrap();
    assert_eq!(names(&config.path), ["a", "b"]);
}

#[test]
fn files_are_rotated_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.rotate_bytes = 60;
    config.keep = 2;
    let mut jsonl = Jsonl::open(&config).unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        jsonl.write(&[record(name)]).unwrap();
    }
    assert_eq!(names(&config.path), ["f"]);
    assert_eq!(names(&numbered(&config.path, 1)), ["e"]);
    assert_eq!(names(&numbered(&config.path, 2)), ["d"]);
    assert!(!numbered(&config.path, 3).exists());
}

#[test]
fn a_file_moved_away_by_another_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut jsonl = Jsonl::open(&config).unwrap();
    jsonl.write(&[record("a")]).unwrap();
    fs::rename(&config.path, dir.path().join("elsewhere")).unwrap();
    jsonl.write(&[record("b")]).unwrap();
    assert_eq!(names(&config.path), ["b"]);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_may_pass() {
    // Every write to it says that the disk is full.
    if !Path::new("/dev/full").exists() {
        return;
    }
    let mut jsonl = Jsonl::open(&JsonlConfig::new(PathBuf::from("/dev/full"))).unwrap();
    match jsonl.write(&[record("a")]) {
        Err(WriteError::Later(message)) => assert!(message.contains("/dev/full"), "{message}"),
        other => panic!("{other:?}"),
    }
}
