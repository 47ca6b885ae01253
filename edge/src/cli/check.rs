//! `millgate-edge check`: the report, for people or for programs.

use millgate_shared::output::Output;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::pool::PoolArgs;
use super::{FAILED, OK};
use crate::check::{Report, Subject, examine};
use crate::finding::Status;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["config", "bundle"]))]
pub struct CheckArgs {
    /// Path of edge.toml
    #[arg(long, value_name = "FILE", env = "MILLGATE_EDGE_CONFIG")]
    config: Option<PathBuf>,
    /// Bundle to look at, a folder or a .tar.zst; overrides `bundle` of the configuration
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    pool: PoolArgs,
    /// Check only what a start needs; skip the pool, the watched folders and the sinks, which may come later
    #[arg(long)]
    local: bool,
    /// Write the report as text for people or as one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Gives the exit code: 1 if anything is wrong.
pub async fn check(args: CheckArgs, out: &mut impl Write) -> io::Result<u8> {
    let pools = args.pool.pools();
    let subject = Subject {
        config: args.config,
        bundle: args.bundle,
        pools,
        identity: args.pool.identity,
        plaintext_beyond_loopback: args.pool.plaintext_beyond_loopback,
        is_local_only: args.local,
    };
    let report = examine(subject).await;
    match args.output {
        Output::Text => write_text(out, &report)?,
        Output::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(if report.ok { OK } else { FAILED })
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let width = report.items.iter().map(|item| item.name.chars().count()).max().unwrap_or(0);
    for item in &report.items {
        let mark = match item.status {
            Status::Ok => '✓',
            Status::Warning => '!',
            Status::Failed => '✗',
        };
        writeln!(out, "{mark} {:width$}  {}", item.name, item.message)?;
        if let Some(advice) = &item.advice {
            writeln!(out, "  {:width$}  → {advice}", "")?;
        }
    }
    let count = |status| report.items.iter().filter(|item| item.status == status).count();
    writeln!(
        out,
        "{} ok, {} to look at, {} wrong",
        count(Status::Ok),
        count(Status::Warning),
        count(Status::Failed)
    )
}
