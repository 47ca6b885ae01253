//! The commands, their flags, and what their exit codes mean.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done; for `run`: stopped as asked |
//! | 1 | failed, or standard output does not take what was asked for; trying again may help: a bundle that is missing, half copied or fails its checks, a port in use, no free descriptor. For `check`: something is wrong |
//! | 2 | wrong usage; for `infer`: some input could not be decided, the others were; for `queue drop` and `label`: an id is not there; for `bundle switch` and `rollback`: the bundle fails its checks |
//! | 3 | the configuration is wrong: trying again changes nothing (systemd: `RestartPreventExitStatus=3`); for `infer`: the bundle or the arguments cannot be used, or with `--require-cloud`: a decision wanted the pool and did not get it, or there is no pool |

use std::io;

use clap::{Parser, Subcommand};
use millgate_shared::telemetry::{self, LogFormat};

pub mod bundle;
pub mod check;
pub mod enroll;
pub mod infer;
pub mod label;
mod place;
pub mod pool;
pub mod queue;
pub mod run;
mod running;

pub(crate) const OK: u8 = 0;
pub(crate) const FAILED: u8 = 1;
pub(crate) const UNUSABLE: u8 = 3;

#[derive(Debug, Parser)]
#[command(
    name = "millgate-edge",
    version,
    about = "Decides on samples beside the machine that makes them, with or without a pool of larger models"
)]
#[command(after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  millgate-edge infer part_0001.png --bundle models/factory
  millgate-edge enroll --pool https://pool.example:8001 --token-file claim --device cam-7
  millgate-edge check --config /etc/millgate/edge.toml
  millgate-edge run --config /etc/millgate/edge.toml
  millgate-edge queue --config /etc/millgate/edge.toml
  millgate-edge bundle status --config /etc/millgate/edge.toml

Exit codes: 0: the command is done. 1: it failed, and trying again may help (for `run` also where the bundle is missing or not
whole yet). 2: the usage is wrong or an input could not be decided. 3: the configuration is wrong, and trying again changes
nothing; for `infer` also: the bundle cannot be used, or `--require-cloud` lacks the pool.
The variable MILLGATE_LOG sets what is logged to standard error: error, warn, info, debug or trace,
or a level for each target, as info,millgate_edge=debug.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Decide on files and print one record for each
    #[command(after_help = "\
Examples:
  millgate-edge infer part_0001.png
  millgate-edge infer captures/ --cloud https://pool.example:8001 --identity ident --risk 0.01 --output jsonl
  millgate-edge infer captures/ --cloud https://pool.example:8001 --mode always --require-cloud --wait-cloud 2m
  millgate-edge infer board.png --part template=golden_board.png --mode never

Exit codes: 0: everything was decided. 1: the decisions could not be written. 2: some input was not decided, or the usage is
wrong. 3: the bundle or the arguments cannot be used, or --require-cloud was not met (which goes before 2).
A decision that wanted the pool and did not get its answer is `provisional`; the summary counts those by reason.")]
    Infer(Box<infer::InferArgs>),
    /// Run the agent until SIGTERM: watch folders, serve local gRPC and deliver decisions
    #[command(after_help = "\
Example:
  millgate-edge run --config /etc/millgate/edge.toml

deploy/edge/edge.toml documents every key. On SIGTERM or Ctrl-C the agent decides and delivers what it has begun, then stops.

Exit codes: 0: stopped as asked. 1: it cannot run now, and trying again may help: the bundle is missing, half copied or fails
its checks, a port is in use, no descriptor or memory is free. 3: a key of the configuration is wrong.")]
    Run(run::RunArgs),
    /// Check everything that the agent depends on, and say what to do about what is wrong
    #[command(after_help = "\
Examples:
  millgate-edge check --config /etc/millgate/edge.toml
  millgate-edge check --bundle models/factory --cloud https://pool.example:8001
  millgate-edge check --config /etc/millgate/edge.toml --output json")]
    Check(check::CheckArgs),
    /// Get a certificate for this device from a pool, in exchange for a claim token of that pool
    #[command(after_help = "\
Example (as the agent's user, who must be able to read the key):
  sudo -u millgate millgate-edge enroll --pool https://pool.example:8001 --token-file claim --device cam-7

The token also names the authority by which the pool is known. docs/security.md tells more.")]
    Enroll(enroll::EnrollArgs),
    /// Show, export or drop the provisional decisions that wait for an answer of the pool
    #[command(after_help = "\
Examples:
  millgate-edge queue --config /etc/millgate/edge.toml
  millgate-edge queue show --entries --output json --state-dir /var/lib/millgate/state
  millgate-edge queue export /tmp/queue --config /etc/millgate/edge.toml
  millgate-edge queue drop --id 0193e2c8-… --config /etc/millgate/edge.toml

This works while the agent runs (through its admin port) and while it does not.")]
    Queue(queue::QueueArgs),
    /// Switch the agent to another bundle, switch it back, or show which one decides
    #[command(after_help = "\
Examples:
  millgate-edge bundle switch /srv/bundles/factory-1.2.tar.zst --config /etc/millgate/edge.toml
  millgate-edge bundle rollback --config /etc/millgate/edge.toml
  millgate-edge bundle status --output json --state-dir /var/lib/millgate/state

A bundle that fails its checks changes nothing (exit code 2). A switch holds, also through restarts, until another bundle
lies where the configuration says. `switch` needs a running agent; `rollback` and `status` do not.")]
    Bundle(bundle::BundleArgs),
    /// Say what a decision should have been, and show or export what was said
    #[command(after_help = "\
Examples:
  millgate-edge label 0193e2c8-… deeppcb/short --who anna --note 'hair on the lens' --config /etc/millgate/edge.toml
  millgate-edge label 0193e2c8-… deeppcb/scratch --new --config /etc/millgate/edge.toml
  millgate-edge label list --open --config /etc/millgate/edge.toml
  millgate-edge label export /tmp/labelled --config /etc/millgate/edge.toml
  millgate-edge label state --config /etc/millgate/edge.toml
  millgate-edge label reset --source cam1 --config /etc/millgate/edge.toml

This works while the agent runs (through its admin port) and while it does not. What is exported is what
`millgate-cloud bundle certify`, `evaluate` and `improve` read.

Exit codes: 0: done. 1: it failed, and trying again may help. 2: no such decision, or a label that the bundle does not have.
3: the configuration is wrong.")]
    Label(label::LabelArgs),
}

impl Cli {
    /// Carries the command out; gives the exit code.
    pub async fn execute(self) -> io::Result<u8> {
        match self.command {
            Command::Infer(args) => {
                telemetry::init("warn", LogFormat::Text);
                infer::infer(*args, &mut io::stdout().lock()).await.map_err(unwritten)
            }
            Command::Enroll(args) => {
                telemetry::init("warn", LogFormat::Text);
                enroll::enroll(args, &mut io::stdout().lock()).await.map_err(unwritten)
            }
            Command::Run(args) => run::run(args).await,
            Command::Check(args) => {
                telemetry::init("error", LogFormat::Text);
                check::check(args, &mut io::stdout().lock()).await.map_err(unwritten)
            }
            Command::Queue(args) => {
                telemetry::init("error", LogFormat::Text);
                let work = || queue::queue(args, &mut io::stdout().lock());
                let worked = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
                worked.map_err(unwritten)
            }
            Command::Label(args) => {
                telemetry::init("error", LogFormat::Text);
                let work = || label::label(args, &mut io::stdout().lock());
                let worked = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
                worked.map_err(unwritten)
            }
            Command::Bundle(args) => {
                telemetry::init("error", LogFormat::Text);
                let work = || bundle::bundle(args, &mut io::stdout().lock());
                let worked = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
                worked.map_err(unwritten)
            }
        }
    }
}

/// What was asked for has not reached whoever asked.
fn unwritten(error: io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::BrokenPipe => "its reader has gone".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("standard output: {why}"))
}

/// One line on standard error. Where that takes nothing the exit code has to be enough.
pub(crate) fn complain(message: &dyn std::fmt::Display) {
    telemetry::tell(&format!("error: {message}"));
}
