use super::*;
use crate::record::Undecided;
use crate::sink::{Delivered, Depth, SinkConfig};

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
        Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap().write(&[record(name)]).unwrap();
    }
    assert_eq!(names(&config.path), ["a", "b"]);
}

#[test]
fn an_unfinished_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap().write(&[record("a")]).unwrap();
    OpenOptions::new().append(true).open(&config.path).unwrap().write_all(b"{\"path\":\"hal").unwrap();
    Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap().write(&[record("b")]).unwrap();
    assert_eq!(names(&config.path), ["a", "b"]);
}

#[test]
fn files_are_rotated_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.rotate_bytes = 60;
    config.keep = 2;
    let mut jsonl = Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap();
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
    let mut jsonl = Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap();
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
    let mut jsonl =
        Jsonl::open(&JsonlConfig::new(PathBuf::from("/dev/full")), &HashSet::new(), Default::default())
            .unwrap();
    match jsonl.write(&[record("a")]) {
        Err(WriteError::Later(message)) => assert!(message.contains("/dev/full"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_there_already_is_left_out_also_over_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.rotate_bytes = 200;
    config.keep = 3;
    let mut jsonl = Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        jsonl.write(&[record(name)]).unwrap();
    }
    assert!(numbered(&config.path, 1).exists());
    // A kill, and these are delivered again; "g" was not written, and of "f" there is another version.
    let undelivered: HashSet<Key> = ["b", "c", "e", "g"].map(|name| record(name).key().clone()).into();
    let other = Record::new(
        Key { id: "f".to_owned(), version: 2 },
        b"{\"id\":\"f\",\"version\":2,\"path\":\"f2\"}\n".to_vec(),
    );
    let undelivered = undelivered.into_iter().chain([other.key().clone()]).collect();
    let mut jsonl = Jsonl::open(&config, &undelivered, Default::default()).unwrap();
    jsonl.write(&["b", "c", "e", "g"].map(record)).unwrap();
    jsonl.write(&[other]).unwrap();
    let all = || -> Vec<String> {
        let files =
            (0..=3).rev().map(|at| if at == 0 { config.path.clone() } else { numbered(&config.path, at) });
        files.filter(|path| path.exists()).flat_map(|path| names(&path)).collect()
    };
    assert_eq!(all(), ["a", "b", "c", "d", "e", "f", "g", "f2"]);
    // Once: a later record of the same key is none of those.
    jsonl.write(&[record("b")]).unwrap();
    assert_eq!(all().last().unwrap(), "b");
}

#[test]
fn the_file_has_the_mode_of_its_settings_and_one_that_is_wider_is_narrowed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let config = JsonlConfig { mode: "0660".to_owned(), ..config(dir.path()) };
    let open = || Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap();
    let bits = || config.path.metadata().unwrap().permissions().mode() & 0o777;
    open().write(&[record("a")]).unwrap();
    assert_eq!(bits(), 0o660);
    for (before, after) in [(0o666, 0o660), (0o644, 0o640), (0o600, 0o600)] {
        fs::set_permissions(&config.path, Permissions::from_mode(before)).unwrap();
        open();
        assert_eq!(bits(), after);
    }
}

#[test]
fn a_disk_that_does_not_take_the_file_is_waited_for_and_what_is_there_is_left_out_then() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap().write(&[record("a")]).unwrap();
    let undelivered = HashSet::from([record("a").key().clone()]);
    // A folder away, with a link in its place that leads in a circle, stands for a mount that is away.
    let (folder, away) = (dir.path().join("sub"), dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "no folder").unwrap();
    if let Ok(mut jsonl) = Jsonl::open(&config, &undelivered, Default::default()) {
        assert!(matches!(jsonl.write(&[record("b")]), Err(WriteError::Later(_))));
        fs::remove_file(&folder).unwrap();
        fs::rename(&away, &folder).unwrap();
        jsonl.write(&[record("a"), record("b")]).unwrap();
        assert_eq!(names(&config.path), ["a", "b"]);
    }
}

#[test]
fn what_is_there_is_told_and_left_out_when_it_is_delivered_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = JsonlConfig { rotate_bytes: 400, ..config(dir.path()) };
    let id = |at: u32| format!("018bcfe5-687b-7000-8000-{at:012x}");
    let record = |at: u32, version: u32| {
        let line = format!("{{\"id\":\"{}\",\"version\":{version}}}\n", id(at));
        Record::new(Key { id: id(at), version }, line.into_bytes())
    };
    let mut jsonl = Jsonl::open(&config, &HashSet::new(), Default::default()).unwrap();
    for at in 0..20 {
        jsonl.write(&[record(at, 1)]).unwrap();
    }
    jsonl.write(&[record(19, 2), record(18, 2)]).unwrap();
    let sinks = [SinkConfig::Stdout(crate::sink::StdoutConfig {}), SinkConfig::Jsonl(config.clone())];
    let told = Told::read(&sinks, Depth::All);
    assert!(!told.is_partial() && told.len() == 20, "{}", told.len());
    assert_eq!(
        (told.knows(&id(3)), told.knows(&id(19)), told.knows(&id(99))),
        (Some(false), Some(true), None)
    );
    let Some(Delivered::Once(found)) = told.of(&id(3)) else { panic!("{:?}", told.of(&id(3))) };
    assert_eq!(found.line(), record(3, 1).line());
    assert!(matches!(told.of(&id(18)), Some(Delivered::Settled)));
    assert!(told.of(&id(99)).is_none() && told.of("no id").is_none());
    let before = fs::read(&config.path).unwrap();
    let mut jsonl = Jsonl::open(&config, &HashSet::new(), (told.clone(), 1)).unwrap();
    jsonl.write(&[record(3, 1), record(19, 2)]).unwrap();
    assert_eq!(fs::read(&config.path).unwrap(), before);
    // An amendment that was not there is written, and another sink has none of it.
    jsonl.write(&[record(3, 2)]).unwrap();
    assert!(fs::read(&config.path).unwrap().len() != before.len());
    assert!(!told.has(0, record(3, 1).key()));
}
