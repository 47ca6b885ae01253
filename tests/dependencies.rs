//! What comes from outside keeps to `deny.toml`: licences, banned crates, doubled versions, sources.
//!
//! `cargo deny` reads the same file and also knows the advisories; this test needs nothing but cargo and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use system_tests::root;

fn policy() -> Value {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// The packages that a build for this machine takes from the lock file, as cargo describes them.
fn packages() -> Vec<Value> {
    let cargo = || {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(root());
        command
    };
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let version = run(cargo().args(["--version", "--verbose"]));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    let mut metadata: Value = serde_json::from_str(&run(cargo().args(metadata))).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else { panic!("cargo lists packages") };
    assert!(packages.len() > 100, "cargo lists what it builds");
    packages
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Whether an SPDX expression can be kept with these licences: `AND` binds more than `OR`, `WITH` belongs to its licence.
/// A slash, as old manifests have it, is an `OR`.
fn is_met(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    fn either(words: &mut std::iter::Peekable<std::vec::IntoIter<String>>, allowed: &BTreeSet<&str>) -> bool {
        let mut met = all(words, allowed);
        while words.next_if(|word| word == "OR").is_some() {
            met |= all(words, allowed);
        }
        met
    }
    fn all(words: &mut std::iter::Peekable<std::vec::IntoIter<String>>, allowed: &BTreeSet<&str>) -> bool {
        let mut met = true;
        loop {
            let word = words.next().expect("a licence");
            met &= if word == "(" {
                let inner = either(words, allowed);
                assert_eq!(words.next().as_deref(), Some(")"));
                inner
            } else if words.next_if(|word| word == "WITH").is_some() {
                let exception = words.next().expect("an exception");
                allowed.contains(&*format!("{word} WITH {exception}"))
            } else {
                allowed.contains(&*word)
            };
            if words.next_if(|word| word == "AND").is_none() {
                return met;
            }
        }
    }
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
    let mut words = words.into_iter().peekable();
    let met = either(&mut words, allowed);
    assert_eq!(words.next(), None, "{expression}");
    met
}

#[test]
fn an_expression_of_licences_is_read_as_spdx_has_it() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Zlib"]);
    for met in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "MIT AND ISC", "GPL-3.0 OR MIT AND (ISC OR GPL-3.0)"]
    {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH Some-exception"] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_licence_is_on_the_list() {
    let policy = policy();
    let licences = &policy["licenses"];
    let exceptions = licences["exceptions"].as_array().unwrap();
    let mut unused: BTreeSet<&str> = exceptions.iter().map(|exception| text(exception, "crate")).collect();
    for package in packages() {
        let name = text(&package, "name");
        let mut allowed = texts(&licences["allow"]);
        if !is_met(text(&package, "license"), &allowed) {
            unused.remove(name);
            for exception in exceptions.iter().filter(|exception| text(exception, "crate") == name) {
                allowed.extend(texts(&exception["allow"]));
            }
        }
        let licence = text(&package, "license");
        assert!(is_met(licence, &allowed), "{name}: {licence} is not on the list of deny.toml");
    }
    assert!(unused.is_empty(), "deny.toml has exceptions that nothing needs: {unused:?}");
}

#[test]
fn no_banned_crate_and_no_second_version_comes_in() {
    let policy = policy();
    let bans = &policy["bans"];
    let of = |list: &str| bans[list].as_array().unwrap().iter().map(|entry| text(entry, "crate").to_owned());
    let banned: BTreeSet<String> = of("deny").collect();
    let skipped: BTreeSet<String> = of("skip").collect();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let (name, version) = (text(&package, "name"), text(&package, "version"));
        assert!(!banned.contains(name), "deny.toml bans {name}");
        versions.entry(name.to_owned()).or_default().insert(format!("{name}@{version}"));
    }
    let all: BTreeSet<String> = versions.values().flatten().cloned().collect();
    for (name, versions) in versions {
        let left: Vec<_> = versions.difference(&skipped).collect();
        assert!(left.len() <= 1, "{name} comes {} times: {left:?}", left.len());
    }
    // Another system may need fewer.
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let stale: Vec<_> = skipped.difference(&all).collect();
        assert!(stale.is_empty(), "deny.toml skips what is not there: {stale:?}");
    }
}

#[test]
fn everything_comes_from_a_known_registry() {
    let policy = policy();
    let sources = &policy["sources"];
    let allowed: BTreeSet<String> =
        texts(&sources["allow-registry"]).into_iter().map(|url| format!("registry+{url}")).collect();
    assert!(texts(&sources["allow-git"]).is_empty(), "nothing comes from a repository");
    for package in packages() {
        if let Some(source) = package["source"].as_str() {
            assert!(allowed.contains(source), "{} comes from {source}", text(&package, "name"));
        }
    }
}
