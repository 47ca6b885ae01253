//! Flags, runtime, exit code; the commands are in `millgate_edge::cli`.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millgate_edge::cli::Cli;

/// A thread that hangs on a share that does not answer must not hold up the end of the process.
const LAST_GRACE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(cli.execute());
    runtime.shutdown_timeout(LAST_GRACE);
    match ended {
        Ok(code) => ExitCode::from(code),
        // The reader of standard output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &std::io::Error) -> ExitCode {
    // If standard error is gone too there is nobody left to tell.
    let _told = writeln!(std::io::stderr().lock(), "error: {error}").is_ok();
    ExitCode::FAILURE
}
