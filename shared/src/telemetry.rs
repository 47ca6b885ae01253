//! Logs: to standard error, so that standard output stays for decisions.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Sets the process's logger. `default` is a filter such as `info`; the variable `MILLGATE_LOG` overrides it. A second
/// call does nothing, so that an agent and a pool can share a process.
pub fn init(default: &str, format: LogFormat) {
    let filter = std::env::var("MILLGATE_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_set_already = match format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init().is_err()
        }
        LogFormat::Json => builder.json().try_init().is_err(),
    };
    if !is_set_already {
        crate::panics::report_briefly();
    }
}
