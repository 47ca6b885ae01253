//! Lines of JSON: a decision, or why there is none.

use std::io::{self, Write};
use std::path::Path;

use millgate_shared::decision::Decision;
use serde::Serialize;

use crate::input::InputError;

/// An input that could not be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// As it was given.
    pub path: String,
    /// For programs.
    pub code: &'static str,
    /// For people; does not repeat the path.
    pub message: String,
}

#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
}

impl Undecided {
    pub fn of_input(path: &Path, error: &InputError) -> Self {
        Self { path: path.display().to_string(), code: error.code(), message: error.to_string() }
    }
}

/// One line.
pub fn write_decision(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    serde_json::to_writer(&mut *out, decision)?;
    out.write_all(b"\n")
}

/// One line: `{"path":…,"error":{"code":…,"message":…}}`.
pub fn write_error(out: &mut impl Write, undecided: &Undecided) -> io::Result<()> {
    let Undecided { path, code, message } = undecided;
    serde_json::to_writer(&mut *out, &Line { path, error: Error { code, message } })?;
    out.write_all(b"\n")
}
