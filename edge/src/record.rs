//! Lines of JSON: a decision, or why there is none.

use std::io::{self, Write};
use std::path::Path;

use millgate_shared::decision::Decision;
use serde::Serialize;

use crate::input::InputError;

/// An input that could not be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// Where it lies, as it was given.
    pub path: String,
    /// A name for programs.
    pub code: &'static str,
    /// What is wrong, for people; does not repeat the path.
    pub message: String,
}

#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    error: Error<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
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

/// Writes one line.
pub fn write_decision(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    serde_json::to_writer(&mut *out, decision)?;
    out.write_all(b"\n")
}

/// Writes one line: `{"path":…,"error":{"code":…,"message":…}}`, and where the input has one, the `"id"` that its decision
/// would have had.
pub fn write_error(out: &mut impl Write, undecided: &Undecided, id: Option<&str>) -> io::Result<()> {
    let Undecided { path, code, message } = undecided;
    serde_json::to_writer(&mut *out, &Line { path, error: Error { code, message }, id })?;
    out.write_all(b"\n")
}
