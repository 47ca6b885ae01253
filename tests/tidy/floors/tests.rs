//! The reading and the rules, on small houses of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::reading::Reading;
use super::{Floors, wrong};

fn paths(text: &str, module: &[&str]) -> Vec<String> {
    let module: Vec<String> = module.iter().map(ToString::to_string).collect();
    Reading::of(text, &module).paths.iter().map(|path| path.join("::")).collect()
}

#[test]
fn use_trees_of_any_nesting_are_read() {
    let text =
        "use crate::a::{self, b::{C, D as E},\n    f::*};\nuse {crate::g, std::fmt};\npub use super::h::I;\n";
    assert_eq!(paths(text, &["x", "y"]), ["a", "a::b::C", "a::b::D", "a::f::*", "g", "x::h::I"]);
}

#[test]
fn paths_within_code_and_macros_are_read_and_comments_are_not() {
    let text = r#"
        //! crate::no
        /// [`crate::no`], "crate::no"
        #[derive(Debug)]
        fn f(it: crate::a::B) -> Vec<super::C> { vec![crate::d::<u8>(), "crate::no"] }
        macro_rules! m { () => { $crate::e::F } }
        pub(in super::super) struct G(pub(crate) u8, pub crate::h::I);
    "#;
    assert_eq!(paths(text, &["x", "y"]), ["a::B", "x::C", "d", "e::F", "h::I"]);
}

#[test]
fn a_module_within_a_file_is_a_step_down() {
    let text = "mod inner { use super::super::a; mod more { use super::super::super::b; use self::c::D; } }";
    assert_eq!(paths(text, &["x"]), ["a", "b", "x::inner::more::c::D"]);
}

#[test]
fn what_is_compiled_for_tests_alone_is_left_out() {
    let text = r"
        use crate::a;
        #[cfg(test)]
        use crate::no::{b, c};
        #[cfg(test)]
        #[rustfmt::skip]
        mod frozen;
        #[cfg(test)]
        pub(crate) fn no() -> crate::no::D { crate::no::E }
        #[cfg(all(test, unix))]
        mod tests { use crate::no; }
        #[cfg(not(test))]
        use crate::f;
    ";
    let read = Reading::of(text, &["x".to_owned()]);
    assert_eq!(read.paths, [["a"], ["f"]]);
    assert_eq!(read.tests, [["x", "frozen"], ["x", "tests"]]);
    let all = Reading::of("#![cfg(test)]\nuse crate::no;", &["x".to_owned()]);
    assert_eq!((all.paths.len(), all.tests), (0, vec![vec!["x".to_owned()]]));
}

const FLOORS: Floors = &[&["low", "beside"], &["high"]];

fn said(files: &[(&str, &str)]) -> Vec<String> {
    let file = |(place, text): &(&str, &str)| {
        let module = place.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
        (PathBuf::from(place), (module, (*text).to_owned()))
    };
    let mut all: BTreeMap<_, _> =
        [("lib", ""), ("low", ""), ("beside", ""), ("high", "")].iter().map(file).collect();
    all.extend(files.iter().map(file));
    wrong(FLOORS, &all)
}

#[test]
fn arrows_down_and_within_a_room_are_right() {
    assert!(
        said(&[("high", "use crate::low::A; use super::beside;"), ("high/in", "use super::B;")]).is_empty()
    );
    let passed_on = [("lib", "pub use low::{A, b::C as D};"), ("high", "use crate::{A, D};")];
    assert!(said(&passed_on).is_empty());
}

#[test]
fn arrows_up_and_sideways_are_told_with_file_and_name() {
    assert_eq!(
        said(&[("low/deep", "fn f() { super::super::high::g() }")]),
        ["low/deep: `low` on floor 0 names `high::g`: `high` is on floor 1"]
    );
    assert_eq!(
        said(&[("low", "use crate::beside::{A};")]),
        ["low: `low` on floor 0 names `beside::A`: `beside` is on floor 0"]
    );
    let passed_on = [("lib", "pub use high::A;"), ("low", "use crate::A;")];
    assert_eq!(said(&passed_on), ["low: `low` on floor 0 names `A`: `high` is on floor 1"]);
}

#[test]
fn what_the_root_defines_is_out_of_reach() {
    let root = [("lib", "pub struct A;"), ("high", "use super::{A, *};")];
    assert_eq!(
        said(&root),
        [
            "high: `high` on floor 1 names `*`: that is the crate's root",
            "high: `high` on floor 1 names `A`: that is the crate's root"
        ]
    );
}

#[test]
fn every_room_has_a_floor_and_every_floor_has_rooms() {
    assert_eq!(said(&[("new", "")]), ["new: `new` is on no floor"]);
    let empty = BTreeMap::from([(PathBuf::from("low"), (vec!["low".to_owned()], String::new()))]);
    assert_eq!(wrong(FLOORS, &empty), ["`beside` is no room", "`high` is no room"]);
}
