//! `millgate-cloud`: flags, logs, runtime, exit code. 0: done; 1: it failed; 2: what was given is at fault.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millgate_cloud::command::serve::{ServeArgs, serve};
use millgate_cloud::command::{CommandError, Output, bundle, check, experts};
use millgate_shared::telemetry::{self, LogFormat};

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
    #[command(after_help = "Example:\n  millgate-cloud experts --pool http://127.0.0.1:8001 --output json")]
    Experts {
        /// The pool's gRPC address
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001")]
        pool: String,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Looks at, proves or packs a bundle
    #[command(subcommand, after_help = "Example:\n  millgate-cloud bundle verify models/factory")]
    Bundle(BundleCommand),
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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A report is for whoever asked; the log stays out of its way.
    let level = if matches!(cli.command, Command::Check { .. }) { "warn" } else { "info" };
    telemetry::init(level, if cli.log_json { LogFormat::Json } else { LogFormat::Text });
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(CommandError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _nowhere_left = writeln!(std::io::stderr().lock(), "millgate-cloud: {error}").is_err();
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Serve(args) => runtime()?.block_on(serve(args.resolve()?)),
        Command::Check { args, output } => runtime()?.block_on(check::check(args, output, &mut out)),
        Command::Experts { pool, output } => runtime()?.block_on(experts::experts(&pool, output, &mut out)),
        Command::Bundle(BundleCommand::Inspect { path, output }) => bundle::inspect(&path, output, &mut out),
        Command::Bundle(BundleCommand::Verify { path, output }) => bundle::verify(&path, output, &mut out),
        Command::Bundle(BundleCommand::Pack { path, out: file }) => bundle::pack(&path, &file, &mut out),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
