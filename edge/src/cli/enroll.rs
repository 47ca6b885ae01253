//! `millgate-edge enroll`: a claim token becomes this device's certificate.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use millgate_shared::output::Output;
use millgate_shared::text_file;

use super::{FAILED, OK, UNUSABLE, complain};
use crate::config::EdgeConfig;
use crate::identity::IdentityError;
use crate::identity::asking::{AskError, Enrolment, enrol};
use crate::identity::store::Store;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("claim").required(true).args(["token", "token_file"]))]
pub struct EnrollArgs {
    /// URL of the pool's gRPC port, as https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pool: String,
    /// Claim token that `millgate-cloud enroll-token` printed; other users of this device can see it among the flags
    #[arg(long, env = "MILLGATE_CLAIM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that holds the claim token, which keeps it out of the list of processes
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of this device; leave it out if the token was made for one device
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    device: String,
    /// Folder to keep the key and the certificate in [default: `identity.dir` of the configuration, else
    /// /var/lib/millgate/identity]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Path of edge.toml, of which `identity.dir` and `offload.proxy` are used
    #[arg(long, value_name = "FILE", env = "MILLGATE_EDGE_CONFIG")]
    config: Option<PathBuf>,
    /// PEM file of the authority that signed the pool's certificate, used instead of the one that the token names; may be
    /// given several times
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Enrol again even if this device is enrolled already; the private key is kept
    #[arg(long)]
    force: bool,
    /// Write the result as text for people or as one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Gives the exit code.
pub async fn enroll(args: EnrollArgs, out: &mut impl Write) -> io::Result<u8> {
    let config = match args.config.as_deref().map(EdgeConfig::load).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(error) => {
            complain(&error);
            return Ok(UNUSABLE);
        }
    };
    let proxy = match config.offload.parsed_proxy() {
        Ok(proxy) => proxy,
        Err(error) => {
            complain(&error);
            return Ok(UNUSABLE);
        }
    };
    let dir = args.dir.unwrap_or(config.identity.dir);
    let token = match (args.token, &args.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => match text_file::read(path) {
            Ok(token) => token,
            Err(error) => {
                complain(&format!("{}: {error}", path.display()));
                return Ok(UNUSABLE);
            }
        },
        (None, None) => String::new(),
    };
    let EnrollArgs { pool, device, ca, force, .. } = args;
    let ask = Enrolment { pool, token, device, ca, proxy, force };
    let certificate = match enrol(&Store::new(&dir), &ask).await {
        Ok(certificate) => certificate,
        Err(error) => {
            let instead = match &error {
                AskError::Identity(IdentityError::Io { .. }) => "; --dir names another place to keep it",
                _ => "",
            };
            complain(&format!("{error}{instead}"));
            return Ok(if error.is_final() { UNUSABLE } else { FAILED });
        }
    };
    let name = certificate.device.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    let ends = humantime::format_rfc3339_seconds(certificate.not_after).to_string();
    match args.output {
        Output::Text => {
            writeln!(out, "enrolled as {name}; the certificate ends on {ends} and is renewed by `run`")?;
            writeln!(out, "key and certificate are in {}", dir.display())?;
            writeln!(out, "next: `cloud = \"{}\"` in [offload] of edge.toml", ask.pool)?;
        }
        Output::Json => {
            let shown = serde_json::json!({
                "device": name,
                "certificate_ends": ends,
                "dir": dir.display().to_string(),
                "pool": ask.pool,
            });
            writeln!(out, "{shown}")?;
        }
    }
    out.flush()?;
    Ok(OK)
}
