//! `millgate-load`: flags, exit code. 0: done; 1: it failed; 2: what was given is at fault.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use millgate_load::LoadError;
use millgate_load::cli::Cli;
use millgate_load::run::run;
use millgate_shared::telemetry::{self, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init("warn", LogFormat::Text);
    match run(cli.command, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(LoadError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _nowhere_left = writeln!(std::io::stderr().lock(), "millgate-load: {error}").is_err();
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}
