//! Flags, runtime, exit code; the commands are in `millgate_edge::cli`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millgate_edge::cli::Cli;
use millgate_shared::telemetry;

/// A thread that hangs on a share that does not answer must not hold up the end of the process.
const LAST_GRACE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let ended = execute(Cli::parse());
    if let Err(error) = &ended {
        telemetry::tell(&format!("error: {error}"));
    }
    telemetry::flush();
    ended.map_or(ExitCode::FAILURE, ExitCode::from)
}

fn execute(cli: Cli) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(cli.execute());
    runtime.shutdown_timeout(LAST_GRACE);
    ended
}
