//! `millgate-cloud`: flags, logs, runtime, exit code. 0: done; 1: it failed; 2: what was given is at fault.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use millgate_cloud::command::identity::{self, ClaimArgs, StateArgs, TokenArgs};
use millgate_cloud::command::serve::{ServeArgs, serve};
use millgate_cloud::command::{CommandError, Output, bundle, check, engine, experts};
use millgate_shared::identity::DeviceName;
use millgate_shared::telemetry::{self, LogFormat};

/// Models that still load when the pool is told to stop must not hold up its end.
const LAST_GRACE: Duration = Duration::from_millis(200);

/// The Millgate pool: hosts every expert of a bundle and answers the agents.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example:\n  millgate-cloud serve --bundle models/factory")]
struct Cli {
    /// Logs as JSON lines instead of text; the variable MILLGATE_LOG sets the level
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a bundle until SIGTERM or SIGINT
    #[command(after_help = "Example:\n  millgate-cloud serve --bundle models/factory --grpc 127.0.0.1:8001")]
    Serve(ServeArgs),
    /// Loads what `serve` would, and says which engine runs each model, and why
    #[command(after_help = "Example:\n  millgate-cloud check --config cloud.toml --output json")]
    Check {
        #[command(flatten)]
        args: ServeArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Lists the experts of a running pool
    #[command(
        after_help = "Examples:\n  millgate-cloud experts --pool http://127.0.0.1:8001 --output json\n  \
                            millgate-cloud experts --pool https://pool:8001 --ca ca.pem --token-file token"
    )]
    Experts(experts::ExpertsArgs),
    /// Makes a claim token, with which a device enrols: `millgate-edge enroll`
    #[command(
        after_help = "Example:\n  millgate-cloud enroll-token --config cloud.toml --tenant acme --device cam-7 --ttl 1h"
    )]
    EnrollToken(ClaimArgs),
    /// Lists, revokes and restores devices
    #[command(subcommand, after_help = "Example:\n  millgate-cloud devices list --config cloud.toml")]
    Devices(DevicesCommand),
    /// Makes, lists and revokes API tokens for clients without a certificate
    #[command(
        subcommand,
        after_help = "Example:\n  millgate-cloud api-token create --config cloud.toml --name dashboard"
    )]
    ApiToken(TokenCommand),
    /// Brings ONNX Runtime in place, from a file that was downloaded; lists and removes what is there
    #[command(
        subcommand,
        after_help = "Example:\n  pip download --no-deps onnxruntime && millgate-cloud engine install onnxruntime-*.whl"
    )]
    Engine(EngineCommand),
    /// Looks at, proves or packs a bundle; has a running pool switch to another one
    #[command(subcommand, after_help = "Example:\n  millgate-cloud bundle verify models/factory")]
    Bundle(BundleCommand),
}

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// Lists the devices that have enrolled
    #[command(after_help = "Example:\n  millgate-cloud devices list --config cloud.toml --output json")]
    List {
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// From now on a running pool refuses what the device asks
    #[command(after_help = "Example:\n  millgate-cloud devices revoke acme/cam-7 --config cloud.toml")]
    Revoke {
        /// tenant/device
        device: DeviceName,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Lets a revoked device in again
    #[command(after_help = "Example:\n  millgate-cloud devices restore acme/cam-7 --config cloud.toml")]
    Restore {
        /// tenant/device
        device: DeviceName,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it, the only time that it can be seen
    #[command(
        after_help = "Example:\n  millgate-cloud api-token create --config cloud.toml --name dashboard \\\n      --tasks inspect --models 'pcb-*' --ttl 90d"
    )]
    Create(TokenArgs),
    /// Lists tokens, without what they are
    #[command(after_help = "Example:\n  millgate-cloud api-token list --config cloud.toml")]
    List {
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// From now on a running pool refuses it
    #[command(after_help = "Example:\n  millgate-cloud api-token revoke dashboard --config cloud.toml")]
    Revoke {
        name: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Debug, Subcommand)]
enum EngineCommand {
    /// Puts the library into the state folder, once it is proved to work on this machine; `serve` then finds it by itself
    #[command(
        after_help = "Examples:\n  millgate-cloud engine install onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_x86_64.whl\n  \
                            millgate-cloud engine install onnxruntime-linux-x64-1.32.0.tgz --config cloud.toml"
    )]
    Install {
        /// A wheel, a release's .tgz, the library, or a folder with one of these
        #[arg(value_name = "FILE|DIR")]
        from: PathBuf,
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Lists the libraries that are there, in the order in which they are looked for
    #[command(after_help = "Example:\n  millgate-cloud engine list --config cloud.toml --output json")]
    List {
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Takes an installed library out; a pool that runs with it goes on until it stops
    #[command(after_help = "Example:\n  millgate-cloud engine remove 1.32.0 --config cloud.toml")]
    Remove {
        /// As `engine list` shows it
        version: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Shows tasks, experts, costs, thresholds, sizes and digest
    #[command(after_help = "Example:\n  millgate-cloud bundle inspect models/factory")]
    Inspect {
        /// A directory or a .tar.zst
        path: PathBuf,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Checks digests, loads every model and runs the golden samples
    #[command(after_help = "Example:\n  millgate-cloud bundle verify factory-1.1.0.tar.zst --output json")]
    Verify {
        /// A directory or a .tar.zst
        path: PathBuf,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Packs a bundle into one file and opens that file again to prove it
    #[command(after_help = "Example:\n  millgate-cloud bundle pack models/factory -o factory-1.1.0.tar.zst")]
    Pack {
        /// A directory or a .tar.zst
        path: PathBuf,
        /// The .tar.zst to write
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Has a running pool switch to another bundle, without a restart; one that fails its checks changes nothing
    #[command(
        after_help = "Example:\n  millgate-cloud bundle switch factory-1.1.0.tar.zst --config cloud.toml"
    )]
    Switch {
        /// A directory or a .tar.zst, which the pool can read
        path: PathBuf,
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Has a running pool go back to the bundle before the last switch
    #[command(after_help = "Example:\n  millgate-cloud bundle rollback --config cloud.toml")]
    Rollback {
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Shows which bundle a running pool answers with, which one it had before, and which one is configured
    #[command(after_help = "Example:\n  millgate-cloud bundle status --config cloud.toml --output json")]
    Status {
        #[command(flatten)]
        state: StateArgs,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A report is for whoever asked; the log stays out of its way.
    let level = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    telemetry::init(level, if cli.log_json { LogFormat::Json } else { LogFormat::Text });
    let ended = run(cli.command);
    let code = match &ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::tell(&format!("millgate-cloud: {error}"));
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    };
    telemetry::flush();
    code
}

fn run(command: Command) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Serve(args) => {
            let runtime = runtime()?;
            let served = runtime.block_on(serve(args.resolve()?));
            runtime.shutdown_timeout(LAST_GRACE);
            served
        }
        Command::Check { args, output } => runtime()?.block_on(check::check(args, output, &mut out)),
        Command::Experts(args) => runtime()?.block_on(experts::experts(&args, &mut out)),
        Command::EnrollToken(args) => identity::enroll_token(args, &mut out),
        Command::Devices(DevicesCommand::List { state, output }) => {
            identity::devices(&state, output, &mut out)
        }
        Command::Devices(DevicesCommand::Revoke { device, state }) => {
            identity::set_revoked(&state, &device, true, &mut out)
        }
        Command::Devices(DevicesCommand::Restore { device, state }) => {
            identity::set_revoked(&state, &device, false, &mut out)
        }
        Command::ApiToken(TokenCommand::Create(args)) => identity::create_token(args, &mut out),
        Command::ApiToken(TokenCommand::List { state, output }) => {
            identity::list_tokens(&state, output, &mut out)
        }
        Command::ApiToken(TokenCommand::Revoke { name, state }) => {
            identity::revoke_token(&state, &name, &mut out)
        }
        Command::Engine(EngineCommand::Install { from, state, output }) => {
            engine::install(&from, &state, output, &mut out)
        }
        Command::Engine(EngineCommand::List { state, output }) => engine::list(&state, output, &mut out),
        Command::Engine(EngineCommand::Remove { version, state }) => {
            engine::remove(&version, &state, &mut out)
        }
        Command::Bundle(BundleCommand::Inspect { path, output }) => bundle::inspect(&path, output, &mut out),
        Command::Bundle(BundleCommand::Verify { path, output }) => bundle::verify(&path, output, &mut out),
        Command::Bundle(BundleCommand::Pack { path, out: file }) => bundle::pack(&path, &file, &mut out),
        Command::Bundle(BundleCommand::Switch { path, state, output }) => {
            bundle::switch(&path, &state, output, &mut out)
        }
        Command::Bundle(BundleCommand::Rollback { state, output }) => {
            bundle::rollback(&state, output, &mut out)
        }
        Command::Bundle(BundleCommand::Status { state, output }) => bundle::status(&state, output, &mut out),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
