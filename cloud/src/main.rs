//! `millgate-cloud`: flags, logs, runtime, exit code. 0: done; 1: it failed, and trying again may help; 2: what was given is
//! at fault, for `serve` the configuration or a flag.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use millgate_cloud::command::identity::{self, ClaimArgs, StateArgs, TokenArgs};
use millgate_cloud::command::serve::{ServeArgs, serve};
use millgate_cloud::command::{CommandError, Output, bundle, check, engine, experts};
use millgate_cloud::guests::{Guests, GuestsConfig};
use millgate_cloud::worker;
use millgate_shared::identity::DeviceName;
use millgate_shared::telemetry::{self, LogFormat};

/// Models that still load when the pool is told to stop must not hold up its end.
const LAST_GRACE: Duration = Duration::from_millis(200);

/// The Millgate pool: hosts every expert of a bundle, answers the agents, and serves plain ONNX models.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Write the log as JSON lines instead of text
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  millgate-cloud serve --bundle models/factory
  millgate-cloud serve --no-bundle --model-repository models/
  millgate-cloud bundle verify models/factory
  millgate-cloud enroll-token --config cloud.toml --tenant acme --device cam-7

Exit codes: 0: the command is done. 1: it failed, and trying again may help (for `serve` also where a bundle or a model is
missing, not whole yet or fails its checks). 2: what was given is at fault, for `serve` the configuration or a flag.
The variable MILLGATE_LOG sets what is logged to standard error: error, warn, info, debug or trace,
or a level for each target, as info,millgate_cloud=debug.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a bundle and plain models until SIGTERM or Ctrl-C
    #[command(after_help = "Example:\n  millgate-cloud serve --bundle models/factory --grpc 127.0.0.1:8001")]
    Serve(ServeArgs),
    /// Load what `serve` would load, and say which engine runs each model and why
    #[command(after_help = "Example:\n  millgate-cloud check --config cloud.toml --output json")]
    Check {
        #[command(flatten)]
        args: ServeArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// List the experts of a running pool
    #[command(
        after_help = "Examples:\n  millgate-cloud experts --pool http://127.0.0.1:8001 --output json\n  \
                            millgate-cloud experts --pool https://pool:8001 --ca ca.pem --token-file token"
    )]
    Experts(experts::ExpertsArgs),
    /// Make a claim token, with which a device enrols by `millgate-edge enroll`
    #[command(
        after_help = "Example:\n  millgate-cloud enroll-token --config cloud.toml --tenant acme --device cam-7 --ttl 1h"
    )]
    EnrollToken(ClaimArgs),
    /// List, revoke and restore devices
    #[command(subcommand, after_help = "Example:\n  millgate-cloud devices list --config cloud.toml")]
    Devices(DevicesCommand),
    /// Make, list and revoke API tokens for clients without a certificate
    #[command(
        subcommand,
        after_help = "Example:\n  millgate-cloud api-token create --config cloud.toml --name dashboard"
    )]
    ApiToken(TokenCommand),
    /// Install ONNX Runtime from a downloaded file; list and remove what is installed
    #[command(
        subcommand,
        after_help = "Example:\n  pip download --no-deps onnxruntime && millgate-cloud engine install onnxruntime-*.whl"
    )]
    Engine(EngineCommand),
    /// Make, inspect, verify or pack a bundle, or let a running pool switch to another one
    #[command(subcommand, after_help = "Example:\n  millgate-cloud bundle verify models/factory")]
    Bundle(BundleCommand),
}

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// List the devices that have enrolled
    #[command(after_help = "Example:\n  millgate-cloud devices list --config cloud.toml --output json")]
    List {
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Revoke a device: a running pool refuses its requests from now on
    #[command(after_help = "Example:\n  millgate-cloud devices revoke acme/cam-7 --config cloud.toml")]
    Revoke {
        /// Device as TENANT/NAME
        device: DeviceName,
        #[command(flatten)]
        state: StateArgs,
    },
    /// Let a revoked device in again
    #[command(after_help = "Example:\n  millgate-cloud devices restore acme/cam-7 --config cloud.toml")]
    Restore {
        /// Device as TENANT/NAME
        device: DeviceName,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, which is the only time that it can be seen
    #[command(
        after_help = "Example:\n  millgate-cloud api-token create --config cloud.toml --name dashboard \\\n      --tasks inspect --models 'pcb-*' --ttl 90d"
    )]
    Create(TokenArgs),
    /// List tokens by name, without their secrets
    #[command(after_help = "Example:\n  millgate-cloud api-token list --config cloud.toml")]
    List {
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Revoke a token: a running pool refuses it from now on
    #[command(after_help = "Example:\n  millgate-cloud api-token revoke dashboard --config cloud.toml")]
    Revoke {
        /// Name of the token, as `api-token list` shows it
        name: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Debug, Subcommand)]
enum EngineCommand {
    /// Copy the library into the state folder once it is proved to work on this machine; `serve` then finds it by itself
    #[command(
        after_help = "Examples:\n  millgate-cloud engine install onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_x86_64.whl\n  \
                            millgate-cloud engine install onnxruntime-linux-x64-1.32.0.tgz --config cloud.toml"
    )]
    Install {
        /// Python wheel, .tgz of a release, the library itself, or a folder that holds one of these
        #[arg(value_name = "FILE|DIR")]
        from: PathBuf,
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// List the libraries that are found, in the order in which they are looked for
    #[command(after_help = "Example:\n  millgate-cloud engine list --config cloud.toml --output json")]
    List {
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove an installed library; a pool that runs with it keeps it until it stops
    #[command(after_help = "Example:\n  millgate-cloud engine remove 1.32.0 --config cloud.toml")]
    Remove {
        /// Version to remove, as `engine list` shows it
        version: String,
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Make a bundle for a product, from a folder of classes or of good pictures alone
    #[command(
        after_help = "Examples:\n  millgate-cloud bundle init caps --product cap --data pictures/ --good good\n  \
                            millgate-cloud bundle init caps --product cap --good pictures/good --defects pictures/defects"
    )]
    Init(bundle::InitArgs),
    /// Certify a bundle anew, on labelled pictures that no model was trained on
    #[command(
        after_help = "Example:\n  millgate-cloud bundle certify models/factory --data calibration/ --product xsdd --out certified"
    )]
    Certify(bundle::CertifyArgs),
    /// Add an expert of your own, while every old decision stays as it was
    #[command(
        after_help = "Example:\n  millgate-cloud bundle add-expert models/factory caps.onnx --product cap --labels good,dent \
                      --good good --data caps/ --out grown"
    )]
    AddExpert(bundle::AddArgs),
    /// Remove an expert, with everything that only it was for
    #[command(
        after_help = "Example:\n  millgate-cloud bundle remove-expert models/factory generalist-s --out smaller"
    )]
    RemoveExpert(bundle::RemoveArgs),
    /// Make a bundle of `init` anew with what people said of its decisions, and say what is better and what is worse
    #[command(
        after_help = "Example:\n  millgate-cloud bundle improve caps caps-2 --labels labelled/ --data pictures/"
    )]
    Improve(bundle::ImproveArgs),
    /// Say what a bundle is worth on labelled pictures: numbers, and a page with the worst errors
    #[command(
        after_help = "Example:\n  millgate-cloud bundle evaluate caps --product cap --data held-out/ --report caps.html"
    )]
    Evaluate(bundle::EvaluateArgs),
    /// Put two bundles beside each other on the same labelled pictures
    #[command(
        after_help = "Example:\n  millgate-cloud bundle compare caps caps-2 --product cap --data held-out/"
    )]
    Compare(bundle::CompareArgs),
    /// Show a bundle's tasks, experts, costs, thresholds, sizes and digest
    #[command(after_help = "Example:\n  millgate-cloud bundle inspect models/factory")]
    Inspect {
        /// Bundle: a folder or a .tar.zst
        path: PathBuf,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Check a bundle's digests, load every model and run its golden samples
    #[command(after_help = "Example:\n  millgate-cloud bundle verify factory-1.2.0.tar.zst --output json")]
    Verify {
        /// Bundle: a folder or a .tar.zst
        path: PathBuf,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Pack a bundle into one file, and open that file again to prove it
    #[command(after_help = "Example:\n  millgate-cloud bundle pack models/factory -o factory-1.2.0.tar.zst")]
    Pack {
        /// Bundle: a folder or a .tar.zst
        path: PathBuf,
        /// The .tar.zst file to write
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Let a running pool switch to another bundle without a restart; one that fails its checks changes nothing
    #[command(
        after_help = "Example:\n  millgate-cloud bundle switch factory-1.2.0.tar.zst --config cloud.toml"
    )]
    Switch {
        /// Bundle that the pool can read: a folder or a .tar.zst
        path: PathBuf,
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Let a running pool go back to the bundle before the last switch
    #[command(after_help = "Example:\n  millgate-cloud bundle rollback --config cloud.toml")]
    Rollback {
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Show which bundle a running pool answers with, which one it had before, and which one is configured
    #[command(after_help = "Example:\n  millgate-cloud bundle status --config cloud.toml --output json")]
    Status {
        #[command(flatten)]
        state: StateArgs,
        /// How to write the answer
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

fn main() -> ExitCode {
    if let Some(code) = worker::asked() {
        return code;
    }
    let cli = Cli::parse();
    // A report is for whoever asked; the log stays out of its way.
    let is_service = matches!(cli.command, Command::Serve(_));
    let level = if is_service { "info" } else { "warn" };
    telemetry::init(level, if cli.log_json { LogFormat::Json } else { LogFormat::Text });
    let ended = run(cli.command);
    let code = match &ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::tell(&format!("millgate-cloud: {error}"));
            let is_final = if is_service { error.is_final() } else { error.is_bad_input() };
            ExitCode::from(if is_final { 2 } else { 1 })
        }
    };
    telemetry::flush();
    code
}

fn run(command: Command) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Serve(args) => {
            let args = with_workers(args);
            let runtime = runtime()?;
            let served = runtime.block_on(serve(args.resolve()?));
            runtime.shutdown_timeout(LAST_GRACE);
            served
        }
        Command::Check { args, output } => {
            let args = with_workers(args);
            runtime()?.block_on(check::check(args, output, &mut out))
        }
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
            engine::install(&from, &state, &workers(), output, &mut out)
        }
        Command::Engine(EngineCommand::List { state, output }) => engine::list(&state, output, &mut out),
        Command::Engine(EngineCommand::Remove { version, state }) => {
            engine::remove(&version, &state, &mut out)
        }
        Command::Bundle(BundleCommand::Init(args)) => bundle::init(&args, &mut out),
        Command::Bundle(BundleCommand::Improve(args)) => bundle::improve(&args, &mut out),
        Command::Bundle(BundleCommand::Certify(args)) => bundle::certify(&args, &mut out),
        Command::Bundle(BundleCommand::AddExpert(args)) => bundle::add_expert(&args, &mut out),
        Command::Bundle(BundleCommand::RemoveExpert(args)) => bundle::remove_expert(&args, &mut out),
        Command::Bundle(BundleCommand::Evaluate(args)) => bundle::evaluate(&args, &mut out),
        Command::Bundle(BundleCommand::Compare(args)) => bundle::compare(&args, &mut out),
        Command::Bundle(BundleCommand::Inspect { path, output }) => bundle::inspect(&path, output, &mut out),
        Command::Bundle(BundleCommand::Verify { path, output }) => {
            bundle::verify(&path, &workers(), output, &mut out)
        }
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

/// The processes of a command that reads no configuration.
fn workers() -> Guests {
    Guests::new(Some(PathBuf::from(worker::THIS_PROGRAM)), &GuestsConfig::default())
}

/// Models run in processes of their own, which this program is started as.
fn with_workers(args: ServeArgs) -> ServeArgs {
    ServeArgs { worker_program: Some(PathBuf::from(worker::THIS_PROGRAM)), ..args }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
