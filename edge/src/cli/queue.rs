//! `millgate-edge queue`: what awaits an amendment, of an agent that runs or of one that does not.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millgate_shared::files;
use millgate_shared::output::Output;

use super::place::Place;
use super::{FAILED, OK, complain};
use crate::spool::SpoolConfig;
use crate::spool::entry::Entry;
use crate::spool::status::Listed;
use source::Source;

mod source;
mod text;

/// What was to be dropped was not there.
const NOT_THERE: u8 = 2;

#[derive(Debug, Args)]
pub struct QueueArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how many decisions wait, their bytes, the oldest one, the next try and the room left (the default command)
    #[command(after_help = "Example:\n  millgate-edge queue show --entries --config /etc/millgate/edge.toml")]
    Show {
        /// List each waiting decision as well
        #[arg(long)]
        entries: bool,
    },
    /// Write each waiting decision to a folder of its own: its record, which answers it lacks, and what would be sent
    #[command(
        after_help = "Example:\n  millgate-edge queue export /tmp/queue --config /etc/millgate/edge.toml"
    )]
    Export {
        /// Folder to write to; it is made if it is not there
        dir: PathBuf,
    },
    /// Give waiting decisions up, so that they stay provisional
    #[command(
        after_help = "Example:\n  millgate-edge queue drop --id 0193e2c8-… --config /etc/millgate/edge.toml"
    )]
    #[command(group = clap::ArgGroup::new("what").required(true).args(["id", "all"]))]
    Drop {
        /// Id of a decision to give up; may be given several times
        #[arg(long, value_name = "ID")]
        id: Vec<String>,
        /// Give up every decision that waits
        #[arg(long)]
        all: bool,
    },
}

/// Gives the exit code.
pub fn queue(args: QueueArgs, out: &mut impl Write) -> io::Result<u8> {
    let (dir, config) = match args.place.find() {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    let spool = config.map_or_else(SpoolConfig::default, |config| config.spool);
    let opened = match dir.is_dir() {
        true => Source::open(&dir, &spool),
        false => Err(format!("{}: is not a directory", dir.display())),
    };
    let done = opened.and_then(|source| {
        carry_out(source, args.command, args.place.output, out).map_err(|error| error.to_string())
    });
    match done {
        Ok(code) => Ok(code),
        Err(error) => {
            complain(&error);
            Ok(FAILED)
        }
    }
}

fn carry_out(
    mut source: Source,
    command: Option<Command>,
    output: Output,
    out: &mut impl Write,
) -> io::Result<u8> {
    match command.unwrap_or(Command::Show { entries: false }) {
        Command::Show { entries } => {
            let status = source.status()?;
            let entries = if entries { Some(source.list()?) } else { None };
            match output {
                Output::Text => text::show(out, &status, entries.as_deref(), source.is_running())?,
                Output::Json => {
                    let mut value = serde_json::to_value(&status)?;
                    value["running"] = source.is_running().into();
                    if let Some(entries) = entries {
                        value["list"] = serde_json::to_value(entries)?;
                    }
                    writeln!(out, "{value}")?;
                }
            }
            Ok(OK)
        }
        Command::Export { dir } => {
            let exported = export(&mut source, &dir)?;
            report(out, output, "exported", exported)?;
            Ok(OK)
        }
        Command::Drop { id, all } => {
            let before = source.list()?;
            let dropped = source.discard((!all).then(|| id.clone()))?;
            report(out, output, "dropped", dropped)?;
            let after = source.list()?;
            Ok(not_dropped(&id, all, &before, &after))
        }
    }
}

/// Says what of what was to be dropped was not; gives the exit code.
fn not_dropped(ids: &[String], all: bool, before: &[Listed], after: &[Listed]) -> u8 {
    let has = |list: &[Listed], id: &String| list.iter().any(|listed| listed.id == *id);
    let unknown: Vec<&String> = ids.iter().filter(|id| !has(before, id)).collect();
    for id in &unknown {
        complain(&format!("`{id}` is not in the queue"));
    }
    let stays = after.iter().filter(|listed| has(before, &listed.id) && (all || ids.contains(&listed.id)));
    let stays = stays.count();
    if stays > 0 {
        complain(&format!("{stays} stay: their first decision has yet to reach the sinks; try again later"));
    }
    match (unknown.is_empty(), stays) {
        (false, _) => NOT_THERE,
        (true, 1..) => FAILED,
        (true, 0) => OK,
    }
}

fn report(out: &mut impl Write, output: Output, word: &str, count: usize) -> io::Result<()> {
    match output {
        Output::Text => writeln!(out, "{count} {word}"),
        Output::Json => writeln!(out, "{}", serde_json::json!({ word: count })),
    }
}

/// Entries that are answered while this goes on are left out.
fn export(source: &mut Source, dir: &Path) -> io::Result<usize> {
    let mut exported = 0;
    for listed in source.list()? {
        let Some(body) = source.body(&listed.id)? else { continue };
        let entry = Entry::read(&body).map_err(io::Error::other)?;
        // Ids are ours, but what becomes a path is looked at.
        let is_plain = listed.id.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        if !is_plain {
            return Err(io::Error::other(format!("`{}` is no decision id", listed.id)));
        }
        write_entry(&dir.join(&listed.id), &entry)?;
        exported += 1;
    }
    Ok(exported)
}

fn write_entry(dir: &Path, entry: &Entry) -> io::Result<()> {
    files::make_private_folder(dir)?;
    let write = |name: &str, bytes: &[u8]| files::replace(&dir.join(name), bytes, files::PRIVATE);
    write("record.json", entry.line.as_bytes())?;
    write("open.json", &serde_json::to_vec_pretty(&entry.open)?)?;
    for (at, request) in entry.requests.iter().enumerate() {
        write(&format!("request-{at}.pb"), &millgate_shared::wire::to_bytes(request))?;
        for part in &request.parts {
            // Encoded forms of the pool's own have no file type that a viewer knows.
            let ending = match &part.data[..part.data.len().min(4)] {
                [0x89, b'P', b'N', b'G'] => "png",
                [0xff, 0xd8, ..] => "jpg",
                _ => "bin",
            };
            let name: String =
                part.modality.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect();
            write(&format!("request-{at}-{name}.{ending}"), &part.data)?;
        }
    }
    Ok(())
}
