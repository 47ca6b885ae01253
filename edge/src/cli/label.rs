//! `millgate-edge label`: what people say of decisions, of an agent that runs or of one that does not.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millgate_shared::output::Output;
use serde_json::json;

use super::place::Place;
use super::{FAILED, OK, complain};
use crate::labels::LabelsConfig;
use crate::labels::export::Export;
use crate::labels::kept::{Asked, Page, Refusal, Row, Say};
use source::{Failed, Source};

mod source;

/// No such decision, or no such label.
const REFUSED: u8 = 2;
/// Decisions on one page of an export.
const PAGE: usize = 200;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LabelArgs {
    #[command(flatten)]
    place: Place,
    /// Id of the decision, from its record
    #[arg(required = true, value_name = "ID")]
    id: Option<String>,
    /// What it should have been: a label of its task
    #[arg(required = true, value_name = "LABEL")]
    label: Option<String>,
    /// Allow a class that the bundle does not have
    #[arg(long)]
    new: bool,
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER", default_value = "")]
    who: String,
    /// What else there is to say
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the decisions that were labelled
    #[command(after_help = "Example:\n  millgate-edge label list --open --config /etc/millgate/edge.toml")]
    List {
        /// Those that somebody should look at and nobody has labelled, in place of those that were
        #[arg(long)]
        open: bool,
    },
    /// Write what was labelled as data that bundles are certified, evaluated and improved with
    #[command(
        after_help = "Example:\n  millgate-edge label export /tmp/labelled --config /etc/millgate/edge.toml"
    )]
    Export {
        /// Folder to write to; it is made if it is not there
        dir: PathBuf,
        /// Forget what was exported, so that there is room for more
        #[arg(long)]
        forget: bool,
    },
    /// Show how often local answers are wrong and samples are unlike the known ones, and whether that is an alarm
    #[command(after_help = "Example:\n  millgate-edge label state --config /etc/millgate/edge.toml")]
    State,
    /// Begin the tests of errors and drift anew: what was the matter has been put right
    #[command(
        after_help = "Example:\n  millgate-edge label reset --source cam1 --config /etc/millgate/edge.toml"
    )]
    Reset {
        /// Only those of this source
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
    },
}

/// Carries the command out; gives the exit code.
pub fn label(args: LabelArgs, out: &mut impl Write) -> io::Result<u8> {
    let (dir, config) = match args.place.find() {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    let labels = config.map_or_else(LabelsConfig::default, |config| config.labels);
    let done = Source::open(&dir, &labels).and_then(|source| carry_out(source, &dir, args, out));
    match done {
        Ok(()) => Ok(OK),
        Err(error) => {
            complain(&error);
            Ok(match error {
                Failed::Refused(Refusal::Unknown(_) | Refusal::Bad { .. }) => REFUSED,
                Failed::Refused(_) | Failed::Else(_) => FAILED,
            })
        }
    }
}

fn carry_out(
    mut source: Source,
    state_dir: &Path,
    args: LabelArgs,
    out: &mut impl Write,
) -> Result<(), Failed> {
    let is_json = matches!(args.place.output, Output::Json);
    match args.command {
        None => {
            let (id, label) = (args.id.unwrap_or_default(), args.label.unwrap_or_default());
            let row = source.label(Say { id, label, is_new: args.new, who: args.who, note: args.note })?;
            write_row(&row, is_json, out)?;
        }
        Some(Command::List { open }) => {
            each(&mut source, open, |row| Ok(write_row(&row, is_json, out)?))?;
        }
        Some(Command::Export { dir, forget }) => {
            let mut export = Export::begin(state_dir, &dir)?;
            each(&mut source, false, |row| Ok(export.add(&row)?))?;
            export.end()?;
            let (written, without) = (export.written.len(), export.without.len());
            let forgotten = if forget { source.forget(export.written)? } else { 0 };
            if is_json {
                let value = json!({"exported": written, "without_picture": without, "forgotten": forgotten});
                writeln!(out, "{value}")?;
            } else {
                writeln!(out, "{written} exported to {}", dir.display())?;
                if without > 0 {
                    writeln!(out, "{without} left out: their pictures are not kept any more")?;
                }
            }
        }
        Some(Command::State) => {
            let state = source.state()?;
            if is_json {
                writeln!(out, "{}", serde_json::to_string(&state).map_err(io::Error::from)?)?;
            } else if state.streams.is_empty() {
                writeln!(out, "nothing was observed yet")?;
            } else {
                for standing in &state.streams {
                    writeln!(out, "{standing}")?;
                }
            }
        }
        Some(Command::Reset { source: of }) => {
            let reset = source.reset(of)?;
            if is_json {
                writeln!(out, "{}", json!({"reset": reset}))?;
            } else {
                writeln!(out, "the tests of {reset} sources begin anew")?;
            }
        }
    }
    Ok(())
}

/// Does something with every decision that was labelled, or that is open.
fn each(
    source: &mut Source,
    open: bool,
    mut work: impl FnMut(Row) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut after = String::new();
    loop {
        let Page { rows, next } = source.list(Asked { after, most: PAGE, open })?;
        for row in rows {
            work(row)?;
        }
        let Some(next) = next else { return Ok(()) };
        after = next;
    }
}

fn write_row(row: &Row, is_json: bool, out: &mut impl Write) -> io::Result<()> {
    if is_json {
        return writeln!(out, "{}", serde_json::to_string(row)?);
    }
    let Row { decision, said } = row;
    let pictures = if decision.pictures.is_empty() { "" } else { "  (pictures kept)" };
    let pool = decision.pool.as_ref().map_or_else(String::new, |pool| format!("  the pool says {pool}"));
    writeln!(out, "{}  {}  {}{pool}{pictures}", decision.id, decision.label, decision.path)?;
    for said in said {
        let who = if said.who.is_empty() { "somebody" } else { &said.who };
        let note = if said.note.is_empty() { String::new() } else { format!(": {}", said.note) };
        writeln!(out, "    {}  {who} says {}{note}", said.at, said.label)?;
    }
    Ok(())
}
