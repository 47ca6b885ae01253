//! `millgate-load`: flags, exit code. 0: done; 1: it failed; 2: what was given is at fault.

use std::process::ExitCode;

use clap::Parser;
use millgate_load::cli::Cli;
use millgate_load::run::run;
use millgate_shared::telemetry::{self, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init("warn", LogFormat::Text);
    let code = match run(cli.command, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::tell(&format!("millgate-load: {error}"));
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    };
    telemetry::flush();
    code
}
