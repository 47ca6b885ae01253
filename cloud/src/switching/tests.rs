use tempfile::TempDir;

use super::*;
use crate::config::CloudConfig;
use crate::engines::{Engines, EnginesConfig};
use crate::guests::Guests;

const FACTORY: &str = "../models/factory";

/// A copy of the shipped bundle that says it is of this version.
fn bundle(dir: &Path, version: &str) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(std::fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let path = dir.join(version);
    copy(Path::new(FACTORY), &path);
    let text = std::fs::read_to_string(path.join("bundle.toml")).unwrap();
    let own = text.lines().find(|line| line.starts_with("version = ")).unwrap();
    let text = text.replacen(own, &format!("version = \"{version}\""), 1);
    std::fs::write(path.join("bundle.toml"), text).unwrap();
    path
}

fn digest(path: &Path) -> BundleDigest {
    Bundle::digest_at(path).unwrap()
}

/// A pool with a switcher, as a start makes them.
struct House {
    dir: TempDir,
    config: CloudConfig,
    switcher: Arc<Switcher>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = CloudConfig {
            bundle: bundle(dir.path(), "1.0.1"),
            state_dir: dir.path().join("state"),
            threads: 1,
            ..CloudConfig::default()
        };
        let switcher = start(&config);
        Self { dir, config, switcher }
    }

    fn bundle(&self, version: &str) -> PathBuf {
        bundle(self.dir.path(), version)
    }

    fn active(&self) -> BundleDigest {
        self.switcher.pool.hosted().unwrap().digest()
    }

    fn before(&self) -> Option<BundleDigest> {
        self.switcher.pool.before().map(|before| before.hosted.digest())
    }

    fn restart(self) -> Self {
        let Self { dir, config, switcher } = self;
        drop(switcher);
        let switcher = start(&config);
        Self { dir, config, switcher }
    }
}

fn start(config: &CloudConfig) -> Arc<Switcher> {
    let kept = Kept::open(&config.state_dir);
    let given = config.bundle_path().map(|path| kept.choose(path).unwrap());
    let guests = Guests::new(None, &config.guests);
    let engines = Engines::start(&EnginesConfig::default(), &config.state_dir, 1, &guests).unwrap();
    let pool = Arc::new(Pool::open(config, engines, given.as_ref()).unwrap());
    Arc::new(Switcher::new(pool, config.bundle_path(), given.as_ref(), kept))
}

#[test]
fn a_switch_holds_through_a_restart_and_is_taken_back() {
    let house = House::new();
    let (first, path) = (house.active(), house.bundle("1.0.2"));
    let second = digest(&path);
    let report = house.switcher.switch(&path).unwrap();
    assert_eq!((report.changed, report.active.version.as_str()), (true, "1.0.2"));
    assert_eq!(report.previous.as_ref().map(|previous| previous.version.as_str()), Some("1.0.1"));
    assert_eq!((house.active(), house.before()), (second, Some(first)));
    assert!(!house.switcher.switch(&path).unwrap().changed);
    // Neither the one nor the other depends on where it came from.
    std::fs::remove_dir_all(&path).unwrap();

    let house = house.restart();
    assert_eq!((house.active(), house.before()), (second, None));
    let state = house.switcher.state();
    assert_eq!(
        state.previous.as_ref().map(|it| (it.named.version.as_str(), it.idle_seconds)),
        Some(("1.0.1", None))
    );
    assert!(house.switcher.roll_back().unwrap().changed);
    assert_eq!((house.active(), house.before()), (first, Some(second)));
    assert_eq!(house.switcher.roll_back().unwrap().active.digest, second.to_string());

    // What the configuration names anew is followed, and a switch before that counts no more.
    assert_eq!(house.switcher.follow().unwrap(), None);
    let text = std::fs::read_to_string(house.config.bundle.join("bundle.toml")).unwrap();
    std::fs::write(house.config.bundle.join("bundle.toml"), text.replacen("1.0.1", "1.0.3", 1)).unwrap();
    assert_eq!(
        house.switcher.follow().unwrap().map(|report| report.active.version),
        Some("1.0.3".to_owned())
    );
    // The third takes the place of the first, on disk too.
    assert_eq!(house.before(), Some(second));
    let house = house.restart();
    assert_eq!(house.active(), digest(&house.config.bundle));
}

#[test]
fn what_is_wrong_with_a_bundle_is_named_and_changes_nothing() {
    let house = House::new();
    let (first, damaged) = (house.active(), house.bundle("1.0.4"));
    assert!(matches!(house.switcher.roll_back().unwrap_err(), SwitchError::NothingBefore));
    let file = damaged.join("gate/1/model.onnx");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, bytes).unwrap();
    let error = house.switcher.switch(&damaged).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("gate/1/model.onnx"), "{error}");
    let error = house.switcher.switch(&house.dir.path().join("nowhere")).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("nowhere"), "{error}");

    // The disk takes the copy, and not the record.
    let (good, record) = (house.bundle("1.0.5"), house.config.state_dir.join("bundles/active.toml"));
    let kept = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir_all(record.join("in the way")).unwrap();
    let error = house.switcher.switch(&good).unwrap_err();
    assert!(!error.is_bad_input() && error.to_string().contains("active.toml"), "{error}");
    assert_eq!((house.active(), house.before()), (first, None));
    std::fs::remove_dir_all(&record).unwrap();
    std::fs::write(&record, kept).unwrap();
    let copies = std::fs::read_dir(house.config.state_dir.join("bundles")).unwrap();
    let copies = copies.filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir());
    assert_eq!(copies.count(), 1, "what was refused is not kept");

    let under_way = house.switcher.store.lock().unwrap();
    assert_eq!(house.switcher.switch(&good).unwrap_err().to_string(), "a switch is under way");
    assert!(house.switcher.state().is_under_way);
    drop(under_way);
    assert!(house.switcher.switch(&good).unwrap().changed);

    // Two pools on one state directory would each undo what the other wrote.
    let other = start(&house.config);
    assert_eq!(other.pool.hosted().unwrap().digest(), house.active());
    let error = other.switch(&good).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    let without =
        CloudConfig { bundle: PathBuf::new(), state_dir: house.dir.path().join("other"), ..house.config };
    let error = start(&without).switch(&good).unwrap_err();
    assert!(matches!(error, SwitchError::NoBundle), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_come_over_a_socket_that_only_the_owner_reaches() {
    use std::os::unix::fs::PermissionsExt;
    let house = tokio::task::spawn_blocking(House::new).await.unwrap();
    let (tasks, state_dir) = (millgate_shared::shutdown::Tasks::new(), house.config.state_dir.clone());
    control::listen(&state_dir, Arc::clone(&house.switcher), &tasks).unwrap();
    let mode = std::fs::metadata(state_dir.join("bundles")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let ask = |ask: control::Ask| {
        let state_dir = state_dir.clone();
        async move { tokio::task::spawn_blocking(move || control::ask(&state_dir, &ask)).await.unwrap().unwrap() }
    };
    let control::Answer::Status(state) = ask(control::Ask::Status).await else { panic!("no state") };
    assert_eq!(state.active.unwrap().version, "1.0.1");
    let done = ask(control::Ask::Switch(house.bundle("1.0.6"))).await;
    assert!(matches!(done, control::Answer::Done(report) if report.changed));
    assert!(matches!(ask(control::Ask::Rollback).await, control::Answer::Done(report) if report.changed));
    let refused = ask(control::Ask::Switch(PathBuf::from("/nowhere"))).await;
    assert!(matches!(refused, control::Answer::Refused { is_bad_input: true, .. }));
    tasks.drain(Duration::from_secs(5)).await;
    assert!(control::ask(&state_dir, &control::Ask::Status).is_err());
    assert!(!State::of_stopped(&state_dir).unwrap().is_running);
}
