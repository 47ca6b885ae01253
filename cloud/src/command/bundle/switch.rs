//! `bundle switch|rollback|status`: what a running pool is told, and asked, about its bundle.

use std::io::{self, Write};
use std::path::Path;

use millgate_shared::bundle::store::StoreError;

use super::super::identity::StateArgs;
use super::super::{CommandError, Output};
use crate::switching::control::{self, Answer, Ask};
use crate::switching::report::State;
use crate::switching::roll_back_stopped;

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

/// Has a running pool, or the next start of one that does not run, go back to the bundle before.
pub fn rollback(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    tell(&Ask::Rollback, state, output, out)
}

/// Shows which bundles a pool has, running or not.
pub fn status(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    tell(&Ask::Status, state, output, out)
}

/// What can be done where no pool runs.
fn stopped(state_dir: &Path, ask: &Ask) -> Result<Answer, CommandError> {
    let unreadable = |error: StoreError| silent(state_dir, error.to_string());
    match ask {
        Ask::Switch(_) => Err(silent(state_dir, "none runs with it; start one with the bundle".to_owned())),
        Ask::Rollback => Ok(Answer::of(roll_back_stopped(state_dir))),
        Ask::Status => State::of_stopped(state_dir).map(Answer::Status).map_err(unreadable),
    }
}

fn silent(state_dir: &Path, reason: String) -> CommandError {
    CommandError::Silent { state_dir: state_dir.to_owned(), reason }
}

fn tell(ask: &Ask, state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let state_dir = state.resolve()?.state_dir;
    let answer = match control::ask(&state_dir, ask) {
        Ok(answer) => answer,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => stopped(&state_dir, ask)?,
            _ => return Err(silent(&state_dir, error.to_string())),
        },
    };
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
