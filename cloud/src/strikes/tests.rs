use super::*;

/// Counts runs that end their workers one after the other.
fn ended(record: &Record, hows: &[&str]) {
    let last = record.last.load(Ordering::Relaxed);
    for (worker, how) in (last + 1..).zip(hows) {
        record.ended(worker, how);
    }
}

fn is_aside(strikes: &Strikes, name: &str, face: &str) -> bool {
    strikes.aside(name, face).is_some()
}

fn start(dir: &Path) -> Strikes {
    Strikes::open(dir, "node-1")
}

/// Leaves the directory as a pool does that dies while it loads these models.
fn die(dir: &Path, names: &[&str], face: &str) {
    let strikes = start(dir);
    let loading: Vec<Loading> = names.iter().map(|name| strikes.enter(name, face)).collect();
    let path = dir.join("loading-node-1.json");
    let text = std::fs::read(&path).unwrap();
    drop(loading);
    drop(strikes);
    std::fs::write(path, text).unwrap();
}

#[test]
fn what_has_ended_the_pool_three_times_is_known_until_its_files_change() {
    let (dir, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folders = [models.path().to_path_buf()];
    std::fs::write(models.path().join("model.onnx"), b"1").unwrap();
    let before = face(&folders);
    for times in 1..=3 {
        assert!(!is_aside(&start(dir.path()), "bad", &before), "{times}");
        die(dir.path(), &["bad"], &before);
    }
    let strikes = start(dir.path());
    let reason = strikes.aside("bad", &before).unwrap();
    assert!(reason.contains("the pool died 3 times while it loaded it"), "{reason}");
    assert!(!is_aside(&strikes, "good", &before));
    drop(strikes);
    assert!(is_aside(&start(dir.path()), "bad", &before), "a start more changes nothing");
    assert!(!is_aside(&Strikes::open(dir.path(), "node-2"), "bad", &before));
    std::fs::write(models.path().join("model.onnx"), b"12").unwrap();
    assert!(!is_aside(&start(dir.path()), "bad", &face(&folders)));
}

#[test]
fn a_load_that_ends_clears_it_and_of_several_none_is_blamed() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        die(dir.path(), &["slow"], "face");
    }
    drop(start(dir.path()).enter("slow", "face"));
    die(dir.path(), &["slow"], "face");
    for _ in 0..5 {
        die(dir.path(), &["a", "b"], "face");
    }
    let strikes = start(dir.path());
    for name in ["slow", "a", "b"] {
        assert!(!is_aside(&strikes, name, "face"), "{name}");
    }
    // A second pool on the same folder does not take the first one's loads for deaths.
    let _loading = strikes.enter("a", "face");
    assert!(start(dir.path()).0.file.is_none());
}

#[test]
fn the_third_load_that_ends_its_worker_is_the_last_one_over_restarts_too() {
    let dir = tempfile::tempdir().unwrap();
    for times in 1..=3 {
        let strikes = start(dir.path());
        assert!(!is_aside(&strikes, "bad", "face"), "{times}");
        strikes.enter("bad", "face").ended("ended by signal 8 (SIGFPE) while loading".to_owned());
    }
    let reason = start(dir.path()).aside("bad", "face").unwrap();
    assert!(
        reason.contains("3 times") && reason.contains("SIGFPE") && reason.contains("files change"),
        "{reason}"
    );
    // By name it is tried again, and a load that succeeds makes it whole.
    let strikes = start(dir.path());
    strikes.forgive("bad");
    drop(strikes.enter("bad", "face"));
    drop(strikes);
    assert!(!is_aside(&start(dir.path()), "bad", "face"));
}

#[test]
fn the_third_run_that_ends_its_worker_sets_a_model_aside_and_a_load_does_not_bring_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let strikes = start(dir.path());
    let record = strikes.record("bad", "face");
    ended(&record, &["one"]);
    drop(strikes.enter("bad", "face"));
    ended(&record, &["two"]);
    assert_eq!(record.aside(), None);
    ended(&record, &["did not end within 3 s"]);
    assert!(record.aside().unwrap().contains("the last time did not end within 3 s"));
    drop((record, strikes));
    let strikes = start(dir.path());
    assert!(is_aside(&strikes, "bad", "face") && !is_aside(&strikes, "bad", "another"));
    // Files that changed are counted anew.
    ended(&strikes.record("bad", "another"), &["one"]);
    assert!(!is_aside(&strikes, "bad", "another") && !is_aside(&strikes, "bad", "face"));
}

#[test]
fn runs_that_end_with_the_same_worker_count_once() {
    let strikes = Strikes::default();
    let record = strikes.record("bad", "face");
    (0..8).for_each(|_| record.ended(7, "both threads were in it"));
    assert_eq!((record.times(), record.aside()), (1, None));
    record.ended(8, "again");
    assert_eq!(record.times(), 2);
}

#[test]
fn batches_that_go_well_make_up_for_runs_that_did_not() {
    let strikes = Strikes::default();
    let record = strikes.record("rare", "face");
    for _ in 0..5 {
        ended(&record, &["now and then"]);
        (0..MAKES_UP).for_each(|_| record.went_well());
    }
    assert_eq!(record.aside(), None);
    (0..2).for_each(|_| ended(&record, &["often"]));
    assert_eq!(record.aside(), None);
    ended(&record, &["often"]);
    assert!(record.aside().is_some());
}

#[test]
fn a_folder_that_cannot_be_made_keeps_no_model_from_being_loaded() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state"), b"a file").unwrap();
    let strikes = start(&dir.path().join("state"));
    drop(strikes.enter("a", ""));
    assert!(!is_aside(&strikes, "a", ""));
}
