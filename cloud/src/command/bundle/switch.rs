//! `bundle switch|rollback|status`: what a running pool is told, and asked, about its bundle.

use std::io::{self, Write};
use std::path::Path;

use super::super::identity::StateArgs;
use super::super::{CommandError, Output};
use crate::switching::control::{self, Answer, Ask};

/// Has a running pool switch to the bundle at a path; says what came of it when that is done.
pub fn switch(
    path: &Path,
    state: &StateArgs,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    // The pool may run in another folder.
    tell(&Ask::Switch(std::path::absolute(path)?), state, output, out)
}

/// Has a running pool go back to the bundle before.
pub fn rollback(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    tell(&Ask::Rollback, state, output, out)
}

/// Shows which bundles a running pool has.
pub fn status(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    tell(&Ask::Status, state, output, out)
}

fn tell(ask: &Ask, state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let state_dir = state.resolve()?.state_dir;
    let silent = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "none runs with it".to_owned(),
            io::ErrorKind::PermissionDenied => "it runs as another user".to_owned(),
            _ => error.to_string(),
        };
        CommandError::Silent { state_dir: state_dir.clone(), reason }
    };
    let answer = control::ask(&state_dir, ask).map_err(silent)?;
    if let Answer::Refused { message, is_bad_input } = answer {
        if output == Output::Json {
            writeln!(out, "{}", serde_json::json!({ "ok": false, "error": message }))?;
        }
        return Err(CommandError::Switch { message, is_bad_input });
    }
    let json = match &answer {
        Answer::Done(report) => serde_json::to_value(report),
        Answer::Status(state) => serde_json::to_value(state),
        Answer::Refused { .. } => Ok(serde_json::Value::Null),
    };
    match (output, answer) {
        (Output::Json, _) => writeln!(out, "{}", json.map_err(io::Error::other)?)?,
        (Output::Text, Answer::Done(report)) => writeln!(out, "{report}")?,
        (Output::Text, Answer::Status(state)) => writeln!(out, "{state}")?,
        (Output::Text, Answer::Refused { message, .. }) => writeln!(out, "{message}")?,
    }
    Ok(())
}
