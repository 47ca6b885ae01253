use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn of(path: &str) -> &'static str {
    ASSETS.iter().find(|(at, ..)| *at == path).unwrap().2
}

fn words() -> BTreeMap<String, BTreeMap<String, String>> {
    serde_json::from_str(of("/screen/words.json")).unwrap()
}

/// What stands between `start` and the next `end`, at each place.
fn between<'a>(text: &'a str, start: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

/// Names of words that the page and its scripts use, and beginnings of such as have an ending that is computed.
fn used() -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let scripts = [of("/screen/app.js"), of("/screen/decision.js")];
    let mut names: BTreeSet<&str> = between(of("/"), "data-word=\"", '"').collect();
    for script in scripts {
        names.extend(between(script, "word(\"", '"'));
        names.extend(
            between(script, "? \"", '"')
                .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')),
        );
    }
    let computed = scripts.into_iter().flat_map(|script| between(script, "word(`", '$')).collect();
    (names, computed)
}

#[test]
fn every_word_is_there_in_every_language_with_the_same_places() {
    let places = |text: &str| between(text, "{", '}').map(str::to_owned).collect::<BTreeSet<String>>();
    for (name, of) in words() {
        assert_eq!(of.keys().collect::<Vec<_>>(), ["de", "en", "zh"], "{name}");
        for text in of.values() {
            assert!(!text.trim().is_empty(), "{name}");
            assert_eq!(places(text), places(&of["en"]), "{name}");
        }
    }
}

#[test]
fn every_word_that_is_used_is_there_and_none_is_there_for_nothing() {
    let (words, (names, computed)) = (words(), used());
    assert!(names.len() > 40 && !computed.is_empty(), "{names:?} {computed:?}");
    for beginning in &computed {
        assert!(words.keys().any(|name| name.starts_with(beginning)), "{beginning}");
    }
    // Names in a list of headings are words too.
    let headings: BTreeSet<&str> = between(of("/screen/decision.js"), "const heads = [", ']')
        .flat_map(|list| between(list, "\"", '"'))
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase()))
        .collect();
    for name in words.keys() {
        let is_used = names.contains(&**name) || headings.contains(&**name);
        assert!(
            is_used || computed.iter().any(|beginning| name.starts_with(beginning)),
            "{name} is not used"
        );
    }
    for name in between(of("/"), "data-word=\"", '"').chain(headings) {
        assert!(words.contains_key(name), "{name}");
    }
}

#[test]
fn nothing_comes_from_elsewhere_and_no_text_becomes_markup() {
    for (path, _, text) in ASSETS {
        // The name of a vocabulary is no address that anything is fetched from.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for foreign in [
            "http://",
            "https://",
            "//cdn",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(foreign), "{path}: {foreign}");
        }
    }
    let page = of("/");
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<style"));
    assert_eq!(
        between(page, "<script", '>').collect::<Vec<_>>(),
        [" type=\"module\" src=\"/screen/app.js\""]
    );
}

#[test]
fn a_file_that_a_browser_has_is_not_sent_again() {
    let (_, kind, text) = ASSETS[1];
    let first = asset(&HeaderMap::new(), kind, text, "\"1\"");
    assert_eq!(
        (first.status(), first.headers()[header::CONTENT_TYPE].to_str().unwrap()),
        (StatusCode::OK, kind)
    );
    let mut asked = HeaderMap::new();
    asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
    assert_eq!(asset(&asked, kind, text, "\"1\"").status(), StatusCode::NOT_MODIFIED);
    assert_eq!(asset(&asked, kind, text, "\"2\"").status(), StatusCode::OK);
}
