//! Every crate is a house: its rooms stand on floors, and a room names only rooms of floors below its own. So there is no
//! circle, and each room can be read, tested and replaced with nothing but what it stands on.
//!
//! A room is `src/<room>.rs` with `src/<room>/`. A crate's `lib.rs` and `main.rs` stand above all rooms; no room names what
//! is defined there, but it may name what `lib.rs` passes on from a room by `pub use`. Code that is only compiled for tests
//! may name anything. A new room is added to its crate's table; where an arrow up seems to be needed, what is named stands
//! too high, or its user too low.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reading::Reading;
use system_tests::root;

use super::read;

mod reading;
mod tables;
mod tests;

use tables::{CRATES, HOUSES, KEPT_OUT};

/// The rooms of a crate, from the ground up.
pub(super) type Floors = &'static [&'static [&'static str]];

/// What is wrong with a house. `files` are its sources with their modules, the root's too.
fn wrong(floors: Floors, files: &BTreeMap<PathBuf, (Vec<String>, String)>) -> Vec<String> {
    let floor_of: BTreeMap<&str, usize> = floors
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    let read: Vec<_> =
        files.iter().map(|(path, (module, text))| (path, module, Reading::of(text, module))).collect();
    let tests: Vec<&Vec<String>> = read.iter().flat_map(|(_, _, reading)| &reading.tests).collect();
    let passed_on: BTreeMap<&str, &str> = read
        .iter()
        .filter(|(_, module, _)| module.is_empty())
        .flat_map(|(_, _, reading)| &reading.passed_on)
        .filter_map(|(name, path)| {
            let room = path.iter().find(|word| *word != "crate" && *word != "self")?;
            floor_of.get_key_value(room.as_str()).map(|(room, _)| (name.as_str(), *room))
        })
        .collect();
    let mut wrong = Vec::new();
    let rooms: BTreeSet<&str> =
        read.iter().filter_map(|(_, module, _)| module.first()).map(String::as_str).collect();
    wrong.extend(
        floor_of.keys().filter(|room| !rooms.contains(*room)).map(|room| format!("`{room}` is no room")),
    );
    for (path, module, reading) in &read {
        let is_test = tests.iter().any(|test| module.starts_with(test));
        let Some(room) = module.first().filter(|_| !is_test) else { continue };
        let Some(floor) = floor_of.get(room.as_str()) else {
            wrong.push(format!("{}: `{room}` is on no floor", path.display()));
            continue;
        };
        for named in &reading.paths {
            let first = named.first().map_or("", String::as_str);
            let other = floor_of
                .get_key_value(first)
                .map(|(other, _)| *other)
                .or_else(|| passed_on.get(first).copied());
            let problem = match other {
                Some(other) if other == room || floor_of[other] < *floor => continue,
                Some(other) => format!("`{other}` is on floor {}", floor_of[other]),
                None => "that is the crate's root".to_owned(),
            };
            let named = named.join("::");
            wrong.push(format!("{}: `{room}` on floor {floor} names `{named}`: {problem}", path.display()));
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

/// The sources of a crate, by place, with the module that each is.
fn house(src: &Path) -> BTreeMap<PathBuf, (Vec<String>, String)> {
    let files = super::rust_files().into_iter().filter(|path| path.starts_with(src));
    files
        .filter_map(|path| {
            let inside = path.strip_prefix(src).ok()?.with_extension("");
            let mut module: Vec<String> =
                inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            let is_test = module.iter().any(|part| part == "tests");
            match module.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["lib"] => module.clear(),
                ["main"] | ["bin", ..] => return None,
                _ => {}
            }
            let place = path.strip_prefix(root()).unwrap_or(&path).to_path_buf();
            (!is_test).then(|| (place, (module, read(&path))))
        })
        .collect()
}

#[test]
fn a_room_names_only_rooms_of_floors_below_its_own() {
    let mut all = Vec::new();
    for (krate, floors) in HOUSES {
        let files = house(&root().join(krate).join("src"));
        assert!(!files.is_empty(), "{krate} has sources");
        all.extend(wrong(floors, &files).into_iter().map(|line| format!("{krate}: {line}")));
    }
    assert!(all.is_empty(), "rooms and their floors (tests/tidy/floors/tables.rs):\n{}", all.join("\n"));
}

/// The names under a section of a Cargo manifest.
fn section(manifest: &str, name: &str) -> Vec<String> {
    let head = format!("[{name}]\n");
    let section = manifest.split_once(&head).map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or(""));
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_owned).collect()
}

#[test]
fn a_crate_knows_only_crates_of_floors_below_its_own() {
    let package = |krate: &str| {
        let manifest = read(&root().join(krate).join("Cargo.toml"));
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap();
        (name.trim_end_matches('"').to_owned(), manifest)
    };
    let mut below = BTreeSet::new();
    for floor in CRATES {
        let here: Vec<_> = floor.iter().map(|krate| package(krate)).collect();
        for (name, manifest) in &here {
            let ours = section(manifest, "dependencies").into_iter().filter(|it| it.starts_with("millgate-"));
            let up: Vec<_> = ours.filter(|it| !below.contains(it)).collect();
            assert!(up.is_empty(), "{name} depends on {up:?}, which do not stand below it");
        }
        below.extend(here.into_iter().map(|(name, _)| name));
    }
    let manifests: BTreeMap<String, String> = CRATES.concat().into_iter().map(package).collect();
    for (krate, words) in KEPT_OUT {
        let mut waiting = vec![package(krate).0];
        while let Some(name) = waiting.pop() {
            let needed = manifests.get(&name).map(|manifest| section(manifest, "dependencies"));
            for needed in needed.unwrap_or_default() {
                assert!(
                    !words.contains(&needed.as_str()),
                    "{krate} is to be had without {needed}, as {name} has it"
                );
                waiting.push(needed);
            }
        }
    }
}
