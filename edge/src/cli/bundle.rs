//! `millgate-edge bundle`: which bundle an agent decides with.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millgate_shared::bundle::store::{Store, StoreError};
use serde::de::DeserializeOwned;

use super::running::{Answer, RunningAgent};
use super::{FAILED, OK, UNUSABLE, complain};
use crate::admin::bundle::Switch;
use crate::config::EdgeConfig;
use crate::epochs::{Refusal, Report, State, roll_back_stopped};

/// A large bundle takes a while to copy, to load and to prove.
const PATIENCE: Duration = Duration::from_secs(600);
/// The bundle fails its checks.
const REFUSED: u8 = 2;

#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Path of edge.toml
    #[arg(long, value_name = "FILE", env = "MILLGATE_EDGE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Folder of the agent's state; overrides `state_dir` of the configuration
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Write the result as text for people or as one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Switch the running agent to another bundle, once that has passed its checks
    #[command(
        after_help = "Example:\n  millgate-edge bundle switch factory-1.2.tar.zst --config /etc/millgate/edge.toml"
    )]
    Switch {
        /// Bundle that the agent can read: a folder or a .tar.zst
        path: PathBuf,
    },
    /// Switch back to the bundle before; a second time, forth again
    #[command(after_help = "Example:\n  millgate-edge bundle rollback --config /etc/millgate/edge.toml")]
    Rollback,
    /// Show the active bundle, the one before and the configured one
    #[command(after_help = "Example:\n  millgate-edge bundle status --config /etc/millgate/edge.toml")]
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What came of a command.
enum Done {
    Switched(Report),
    Shown(State),
    Refused(Refusal),
}

/// Carries the command out; gives the exit code.
pub fn bundle(args: BundleArgs, out: &mut impl Write) -> io::Result<u8> {
    let state_dir = match (args.state_dir, args.config.as_deref().map(EdgeConfig::load).transpose()) {
        (Some(dir), _) => dir,
        (None, Ok(Some(config))) => config.state_dir,
        (None, Ok(None)) => {
            complain(&"either --config or --state-dir is needed");
            return Ok(2);
        }
        (None, Err(error)) => {
            complain(&error);
            return Ok(UNUSABLE);
        }
    };
    match carry_out(&state_dir, args.command) {
        Ok(done) => report(&done, args.output, out),
        Err(error) => {
            complain(&error);
            Ok(FAILED)
        }
    }
}

fn carry_out(state_dir: &Path, command: Command) -> Result<Done, String> {
    if !state_dir.is_dir() {
        return Err(format!("{}: is not a directory", state_dir.display()));
    }
    let store = match Store::existing(state_dir) {
        Err(StoreError::Busy { .. }) => {
            let agent = RunningAgent::find(state_dir, PATIENCE)?;
            return ask(&agent, command).map_err(|error| error.to_string());
        }
        store => store.map_err(|error| error.to_string())?,
    };
    let dir = state_dir.display();
    match (command, store) {
        (Command::Status, _) => {
            State::of_stopped(state_dir).map(Done::Shown).map_err(|error| error.to_string())
        }
        (Command::Switch { .. }, _) => Err(format!(
            "no agent runs with {dir}: set `bundle` in its configuration to the new one, and start it"
        )),
        (Command::Rollback, Some(mut store)) => {
            roll_back_stopped(&mut store).map(Done::Switched).or_else(|error| match error.is_bad_input() {
                true => Ok(Done::Refused(Refusal::of(&error))),
                false => Err(error.to_string()),
            })
        }
        (Command::Rollback, None) => Err(format!("{dir}: no agent was ever started with it")),
    }
}

fn ask(agent: &RunningAgent, command: Command) -> io::Result<Done> {
    let answer = match command {
        Command::Status => return done(agent.get("/bundle")?, Done::Shown),
        Command::Switch { path } => {
            // The agent may run in another folder.
            let switch = Switch { path: std::path::absolute(path)? };
            agent.post("/bundle/switch", &serde_json::to_vec(&switch)?)?
        }
        Command::Rollback => agent.post("/bundle/rollback", b"")?,
    };
    done(answer, Done::Switched)
}

fn done<T: DeserializeOwned>(answer: Answer, of: impl FnOnce(T) -> Done) -> io::Result<Done> {
    match answer {
        Answer::Ok(body) => Ok(of(serde_json::from_slice(&body)?)),
        Answer::Conflict(body) => Ok(Done::Refused(serde_json::from_slice(&body)?)),
        Answer::NotThere => {
            Err(io::Error::other("the running agent cannot switch bundles: is it an older one?"))
        }
    }
}

fn report(done: &Done, output: Output, out: &mut impl Write) -> io::Result<u8> {
    let json = match done {
        Done::Switched(report) => serde_json::to_string(report),
        Done::Shown(state) => serde_json::to_string(state),
        Done::Refused(refusal) => serde_json::to_string(refusal),
    };
    match (output, done) {
        (Output::Json, _) => writeln!(out, "{}", json?)?,
        (Output::Text, Done::Switched(report)) => writeln!(out, "{report}")?,
        (Output::Text, Done::Shown(state)) => writeln!(out, "{state}")?,
        (Output::Text, Done::Refused(_)) => {}
    }
    let Done::Refused(refusal) = done else { return Ok(OK) };
    complain(&refusal.error);
    Ok(if refusal.is_bad_input { REFUSED } else { FAILED })
}
