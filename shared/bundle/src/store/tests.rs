//! A store that is killed, cut off from power, full, or handed damaged copies.

use super::*;
use faulty::Faulty;

mod faulty;

/// A small bundle whose files hold their own names; `version` makes it another one.
fn bundle(dir: &Path, version: &str) -> Bundle {
    let text = include_str!("../../../model/src/manifest/testdata/tiny.toml").replace("0.1.0", version);
    let zeros = "0".repeat(64);
    let mut out = String::new();
    for line in text.lines() {
        let file = line.split('"').nth(1).filter(|_| line.contains(&zeros));
        match file {
            Some(file) => {
                let path = dir.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, format!("{version} {file}")).unwrap();
                let digest = hex(&Sha256::digest(format!("{version} {file}")));
                out.push_str(&line.replace(&zeros, &digest));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    std::fs::write(dir.join(manifest::FILE_NAME), out).unwrap();
    Bundle::open(dir).unwrap()
}

struct World {
    _dir: tempfile::TempDir,
    state: PathBuf,
    old: Bundle,
    new: Bundle,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = ["0.1.0", "0.2.0"].map(|version| {
            let path = dir.path().join(version);
            std::fs::create_dir(&path).unwrap();
            bundle(&path, version)
        });
        Self { state: dir.path().join("state"), _dir: dir, old, new }
    }

    /// With the old bundle active.
    fn begun() -> Self {
        let this = Self::new();
        let mut store = this.open();
        store.take(&this.old).unwrap();
        store.commit(Record::first(this.old.digest())).unwrap();
        this
    }

    /// On a disk that does what it is asked for, but is not waited for.
    fn open(&self) -> Store<Faulty> {
        Store::open_on(Faulty::new(u32::MAX), &self.state).unwrap()
    }

    fn first(&self) -> Record {
        Record::first(self.old.digest())
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.state.join(DIR_NAME)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing that a record names is missing, and nothing half done is left.
    fn check(&self, allowed: &[Option<Record>]) -> Store<Faulty> {
        let store = self.open();
        assert!(allowed.contains(&store.record()), "{:?}", store.record());
        for digest in store.record().iter().flat_map(Record::bundles) {
            store.bundle(digest).unwrap();
        }
        assert!(!self.names().iter().any(|name| name.starts_with('.')), "{:?}", self.names());
        store
    }
}

fn switch<D: Disk>(store: &mut Store<D>, to: &Bundle) -> Result<(), StoreError> {
    let own = store.take(to)?;
    let record = store.record().map_or(Record::first(to.digest()), |record| record.switched(own.digest()));
    store.commit(record)?;
    store.tidy(&BTreeSet::new());
    Ok(())
}

/// Runs a switch on a disk that stops after each number of changes in turn, with and without a power cut; gives the number.
fn stopped_everywhere(world: impl Fn() -> World, power_cut: bool) -> u32 {
    for lives in 0.. {
        let world = world();
        let before = world.open().record();
        let after = before.map_or(Record::first(world.new.digest()), |it| it.switched(world.new.digest()));
        let disk = Faulty::new(lives);
        let ended =
            Store::open_on(disk.clone(), &world.state).and_then(|mut store| switch(&mut store, &world.new));
        if power_cut {
            disk.cut_power();
        }
        let mut store = world.check(&[before, Some(after)]);
        if ended.is_ok() {
            assert_eq!(store.record(), Some(after), "what was reported as switched is");
        }
        // What comes next works as if nothing had been.
        switch(&mut store, &world.new).unwrap();
        assert_eq!(store.record(), Some(after));
        drop(store);
        world.check(&[Some(after)]);
        assert_eq!(world.names().len(), 1 + after.bundles().count(), "{:?}", world.names());
        if !disk.has_stopped() {
            return lives;
        }
    }
    unreachable!()
}

#[test]
fn a_kill_at_any_step_of_a_switch_leaves_the_old_bundle_or_the_new_one() {
    let steps = stopped_everywhere(World::begun, false);
    assert!(steps > 20, "{steps}");
}

#[test]
fn a_power_cut_at_any_step_of_a_switch_leaves_the_old_bundle_or_the_new_one() {
    stopped_everywhere(World::begun, true);
}

#[test]
fn a_kill_at_any_step_of_the_first_start_leaves_nothing_or_the_bundle() {
    stopped_everywhere(World::new, false);
    stopped_everywhere(World::new, true);
}

#[test]
fn a_full_disk_leaves_the_old_bundle_and_an_error_that_names_the_file() {
    for room in (0..6000).step_by(150) {
        let world = World::begun();
        let disk = Faulty::full_after(room);
        let mut store = Store::open_on(disk, &world.state).unwrap();
        let Err(error) = switch(&mut store, &world.new) else { continue };
        let text = error.to_string();
        assert!(text.contains(DIR_NAME) && text.contains("cannot be written"), "{text}");
        assert_eq!(store.record(), Some(world.first()));
        // A copy that fitted where the record did not.
        store.tidy(&BTreeSet::new());
        drop(store);
        world.check(&[Some(world.first())]);
        let mut kept = [name(world.old.digest()), RECORD_NAME.to_owned()];
        kept.sort();
        assert_eq!(world.names(), kept, "room is given back");
    }
}

#[test]
fn a_rollback_needs_nothing_but_the_store() {
    let world = World::begun();
    let mut store = Store::open(&world.state).unwrap();
    assert_eq!(store.record().unwrap().rolled_back(), None);
    switch(&mut store, &world.new).unwrap();
    std::fs::remove_dir_all(world.old.dir()).unwrap();
    let back = store.record().unwrap().rolled_back().unwrap();
    assert_eq!((back.active, back.previous), (world.old.digest(), Some(world.new.digest())));
    assert_eq!(store.bundle(back.active).unwrap().manifest().version, "0.1.0");
    store.commit(back).unwrap();
    drop(store);
    assert_eq!(look(&world.state).unwrap(), Some(back));
}

#[test]
fn a_switch_holds_until_the_configured_bundle_is_another_one() {
    let [a, b, c] = [1, 2, 3].map(|byte| BundleDigest::from_bytes(&[byte; 32]).unwrap());
    let record = Record::first(a);
    assert_eq!(record.follow(a), record);
    let switched = record.switched(b);
    assert_eq!(switched.follow(a), switched, "a restart changes nothing");
    assert_eq!(switched.switched(b), switched, "twice is once");
    let followed = switched.follow(c);
    assert_eq!(followed, Record { active: c, previous: Some(b), configured: c });
    assert_eq!(switched.follow(b), Record { active: b, previous: Some(a), configured: b });
    let back = followed.rolled_back().unwrap();
    assert_eq!((back.active, back.follow(c)), (b, back), "a rollback holds too");
    assert_eq!(Record::read(back.to_string().as_bytes()), Ok(back));
    assert_eq!(Record::read(record.to_string().as_bytes()), Ok(record));
}

#[test]
fn what_is_no_record_is_set_aside_and_named() {
    let world = World::begun();
    let path = world.state.join(DIR_NAME).join(RECORD_NAME);
    let digest = world.old.digest();
    for (text, word) in [
        (String::new(), "format"),
        ("\0\0\0".to_owned(), "active.toml:1"),
        (format!("format = 2\nactive = \"{digest}\"\nconfigured = \"{digest}\"\n"), "reads 1"),
        (format!("format = 1\nactive = \"sha256:12\"\nconfigured = \"{digest}\"\n"), "`active`"),
        (format!("format = 1\nactive = \"{digest}\"\nconfigured = \"{digest}\"\nx = 1\n"), "x"),
    ] {
        let error = Record::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(look(&world.state).unwrap(), None);
        let mut store = Store::open(&world.state).unwrap();
        assert_eq!(store.record(), None);
        assert_eq!(std::fs::read_to_string(path.with_file_name(DAMAGED_NAME)).unwrap(), text);
        store.commit(world.first()).unwrap();
    }
}

#[test]
fn a_damaged_copy_is_made_anew_and_never_used() {
    let world = World::begun();
    let file = world.state.join(DIR_NAME).join(name(world.old.digest())).join(manifest::FILE_NAME);
    for damaged in ["", "format = 1\n", "x"] {
        std::fs::write(&file, damaged).unwrap();
        let mut store = Store::open(&world.state).unwrap();
        assert!(store.bundle(world.old.digest()).is_err());
        store.take(&world.old).unwrap();
        store.bundle(world.old.digest()).unwrap();
    }
}

#[test]
fn a_source_that_changes_while_it_is_copied_is_refused() {
    let world = World::begun();
    let file = world.new.files().next().unwrap().to_owned();
    std::fs::write(world.new.dir().join(&file), "other").unwrap();
    let mut store = Store::open(&world.state).unwrap();
    let error = store.take(&world.new).unwrap_err().to_string();
    assert!(error.contains(&file), "{error}");
    drop(store);
    world.check(&[Some(world.first())]);
}

#[test]
fn the_manifest_of_a_bundle_that_has_gone_is_kept_as_long_as_it_is_needed() {
    let world = World::begun();
    let third = {
        let path = world.state.with_file_name("third");
        std::fs::create_dir(&path).unwrap();
        bundle(&path, "0.3.0")
    };
    let mut store = Store::open(&world.state).unwrap();
    let needed = BTreeSet::from([world.old.digest()]);
    for next in [&world.new, &third] {
        let own = store.take(next).unwrap().digest();
        store.commit(store.record().unwrap().switched(own)).unwrap();
        store.tidy(&needed);
    }
    assert!(store.bundle(world.old.digest()).unwrap_err().is_absent());
    assert_eq!(manifest_in(&world.state, world.old.digest()).unwrap().unwrap().version, "0.1.0");
    assert_eq!(manifest_in(&world.state, third.digest()).unwrap().unwrap().version, "0.3.0");
    drop(store);
    let mut store = world.check(&[Some(world.first().switched(world.new.digest()).switched(third.digest()))]);
    store.tidy(&BTreeSet::new());
    assert!(manifest_in(&world.state, world.old.digest()).unwrap().is_none());
    assert_eq!(world.names().len(), 3, "{:?}", world.names());
}

#[test]
fn a_store_has_one_process_at_a_time() {
    let world = World::begun();
    let _store = Store::open(&world.state).unwrap();
    let error = Store::open(&world.state).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert_eq!(look(&world.state).unwrap(), Some(world.first()));
}

#[test]
fn a_digest_is_read_as_it_is_written() {
    let digest = BundleDigest::from_bytes(&[0xa5; 32]).unwrap();
    assert_eq!(digest.to_string().parse(), Ok(digest));
    for text in
        ["", "sha256:", &"a5".repeat(32), &format!("sha256:{}", "+5".repeat(32)), &format!("{digest}0")]
    {
        assert!(text.parse::<BundleDigest>().is_err(), "{text}");
    }
    let world = World::begun();
    assert_eq!(Bundle::digest_at(world.new.dir()).unwrap(), world.new.digest());
    let packed = world.state.with_file_name("new.tar.zst");
    super::super::archive::pack(&world.new, &packed).unwrap();
    assert_eq!(Bundle::digest_at(&packed).unwrap(), world.new.digest());
    assert!(Bundle::digest_at(&world.state).unwrap_err().is_absent());
}
