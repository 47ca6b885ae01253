//! Logs: to standard error, so that standard output stays for decisions.
//!
//! Whoever logs waits for nobody: lines go through a bounded queue to a thread of their own. A standard error that is full,
//! closed or read by nobody costs lines of the log, which are counted, and never the process.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use lines::Lines;

mod lines;

/// Time that the last lines get before the process ends.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Sets the process's logger. `default` is a filter: a level such as `info`, or levels by target, as `info,millgate_edge=debug`;
/// the variable `MILLGATE_LOG` overrides it. A second
/// call does nothing, so that an agent and a pool can share a process. A filter that cannot be read is named in the log, and
/// `info` is taken.
pub fn init(default: &str, format: LogFormat) {
    let (name, filter) = match std::env::var("MILLGATE_LOG") {
        Ok(filter) => ("MILLGATE_LOG", filter),
        Err(_) => ("the log's level", default.to_owned()),
    };
    let (parsed, refused) = match filter.parse::<Targets>() {
        Ok(parsed) => (parsed, None),
        Err(error) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
    };
    // An internal error would be said on standard error, by a macro that panics where that fails.
    let lines = layer().with_writer(|| Line).log_internal_errors(false);
    let filtered = tracing_subscriber::registry().with(parsed);
    let is_set_already = match format {
        LogFormat::Text => {
            let lines = lines.with_target(false).with_ansi(io::stderr().is_terminal());
            filtered.with(lines).try_init().is_err()
        }
        LogFormat::Json => filtered.with(lines.json()).try_init().is_err(),
    };
    if !is_set_already {
        millgate_base::panics::report_by(|panic| {
            tell(&panic);
            flush();
        });
        if let Some(error) = refused {
            tracing::warn!(filter, %error, "{name} is no filter of log lines; `info` is taken");
        }
    }
}

/// Writes one line for people, after the log lines before it; the filter does not apply. It is lost where those would
/// be.
pub fn tell(line: &dyn Display) {
    Lines::of_process().put(format!("{line}\n").into_bytes());
}

/// Waits until what was logged and told has been written, but not for a standard error that takes nothing. To be called
/// before the process ends.
pub fn flush() {
    Lines::of_process().flush(LAST_GRACE);
}

/// Counts the lines that were lost.
pub(crate) fn register(registry: &mut Registry) {
    let lost: Counter = Lines::of_process().lost();
    registry.register("log_lines_lost", "Lines of the log that standard error did not take", lost);
}

/// Writer that puts one event's line in the queue.
struct Line;

impl io::Write for Line {
    /// Takes a whole line, as the formatter hands it over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Lines::of_process().put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
