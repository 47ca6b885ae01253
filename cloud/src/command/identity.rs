//! `enroll-token`, `devices` and `api-token`: what they change, a running pool sees within a second or two.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::{Span, SpanRelativeTo, Timestamp};
use millgate_shared::digest::hex;
use millgate_shared::identity::DeviceName;
use millgate_shared::identity::name::{self, DEFAULT_TENANT};
use serde_json::{Value, json};

use super::{CommandError, Output, table};
use crate::access::tokens::{self, Token};
use crate::config::CloudConfig;
use crate::identity::claims::{self, Terms};
use crate::identity::clones::{self, Noticed};
use crate::identity::devices::{self, Device};
use crate::identity::{StateDir, material};

/// The pool whose devices and tokens are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct StateArgs {
    /// The pool's TOML file, of which `state_dir` is used, and `tls.certificate` for claim tokens
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the pool's state; overrides `state_dir` of the configuration
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl StateArgs {
    pub(super) fn resolve(&self) -> Result<CloudConfig, CommandError> {
        let base = self.config.as_deref().map_or_else(|| Ok(CloudConfig::default()), CloudConfig::read)?;
        let state_dir = self.state_dir.clone().unwrap_or_else(|| base.state_dir.clone());
        let config = CloudConfig { state_dir, ..base };
        config.check()?;
        Ok(config)
    }

    fn state(&self) -> Result<StateDir, CommandError> {
        Ok(StateDir::new(&self.resolve()?.state_dir))
    }
}

/// "1h", "30d", "90m".
fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    let exact = Duration::try_from(exact).map_err(|_| "must not be negative".to_owned())?;
    if exact.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(exact) }
}

fn after(ttl: Duration) -> Result<Timestamp, CommandError> {
    let too_long = |_| CommandError::Value("`--ttl` is too long".to_owned());
    Timestamp::now().checked_add(ttl).map_err(too_long)
}

fn checked(what: &'static str, name: &str) -> Result<(), CommandError> {
    name::check(what, name).map_err(|error| CommandError::Value(error.to_string()))
}

#[derive(Debug, Clone, Args)]
pub struct ClaimArgs {
    #[command(flatten)]
    pub state: StateArgs,
    /// Tenant that the device will belong to
    #[arg(long, default_value = DEFAULT_TENANT)]
    pub tenant: String,
    /// Name of the only device that may use the token; needed to enrol a device anew that is enrolled already
    #[arg(long)]
    pub device: Option<String>,
    /// How long the token can be used, as 30m, 1h or 7d
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// How many devices may enrol with the token, 1 to 100000
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub uses: u32,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Makes a claim token and prints it.
pub fn enroll_token(args: ClaimArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let config = args.state.resolve()?;
    checked("tenant", &args.tenant)?;
    if let Some(device) = &args.device {
        checked("device", device)?;
    }
    let expires = after(args.ttl)?;
    let authority = material::anchor_for_claims(&config.state_dir, &config.tls)?;
    let terms = Terms { tenant: args.tenant, device: args.device, expires, uses: args.uses };
    let claim = claims::make(&StateDir::new(&config.state_dir), authority, terms.clone(), Timestamp::now())?;
    match args.output {
        Output::Text => writeln!(out, "{claim}")?,
        Output::Json => writeln!(
            out,
            "{}",
            json!({
                "token": claim.to_string(),
                "tenant": terms.tenant,
                "device": terms.device,
                "uses": terms.uses,
                "expires": terms.expires,
                "authority_sha256": hex(&authority),
            })
        )?,
    }
    Ok(())
}

/// Lists the devices that have enrolled.
pub fn devices(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let (devices, clones) = (devices::list(&state.state()?)?, clones::list(&state.state()?)?);
    match output {
        Output::Json => {
            let rows: Vec<Value> = devices.iter().map(|device| device_json(device, &clones)).collect();
            writeln!(out, "{}", json!({ "devices": rows }))?;
        }
        Output::Text => {
            let rows: Vec<Vec<String>> = devices.iter().map(|device| device_row(device, &clones)).collect();
            let columns = ["device", "state", "enrolled", "renewed", "certificate ends", "cloned"];
            table::write(out, &columns, &rows)?;
        }
    }
    Ok(())
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

fn device_state(device: &Device) -> &'static str {
    match device {
        Device { revoked: Some(_), .. } => "revoked",
        Device { not_after: Some(end), .. } if *end <= Timestamp::now() => "expired",
        _ => "good",
    }
}

fn device_row(device: &Device, clones: &[Noticed]) -> Vec<String> {
    let shown = |time: Option<Timestamp>| time.map_or("-".to_owned(), day);
    vec![
        format!("{}/{}", device.tenant, device.device),
        device_state(device).to_owned(),
        shown(device.enrolled),
        shown(device.renewed),
        shown(device.not_after),
        shown(clones::of(clones, device).map(|clone| clone.noticed)),
    ]
}

fn device_json(device: &Device, clones: &[Noticed]) -> Value {
    let clone = clones::of(clones, device);
    json!({
        "tenant": device.tenant,
        "device": device.device,
        "state": device_state(device),
        "key_sha256": device.key,
        "serial": device.serial,
        "enrolled": device.enrolled,
        "renewed": device.renewed,
        "certificate_ends": device.not_after,
        "revoked": device.revoked,
        "cloned": clone.map(|clone| clone.noticed),
        "cloned_addresses": clone.map(|clone| clone.addresses),
    })
}

/// Revokes a device, or restores it.
pub fn set_revoked(
    state: &StateArgs,
    device: &DeviceName,
    is_revoked: bool,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let revoked = is_revoked.then(Timestamp::now);
    match (devices::set_revoked(&state.state()?, device, revoked)?, is_revoked) {
        (true, true) => writeln!(out, "{device} is revoked")?,
        (false, true) => writeln!(out, "{device} is revoked; none of that name has enrolled here")?,
        (true, false) => writeln!(out, "{device} is restored")?,
        (false, false) => {
            return Err(CommandError::Value(format!("no device {device} has enrolled here or is revoked")));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub state: StateArgs,
    /// Name of the token in lists, logs and refusals
    #[arg(long)]
    pub name: String,
    /// Tenant whose limits hold for the token
    #[arg(long, default_value = DEFAULT_TENANT)]
    pub tenant: String,
    /// Tasks that may be asked with the token, separated by commas [default: all that its tenant may ask]
    #[arg(long, value_delimiter = ',')]
    pub tasks: Option<Vec<String>>,
    /// Experts and other models that may be run with the token, separated by commas; `pcb-*` names all that begin so [default:
    /// all that its tenant may run]
    #[arg(long, value_delimiter = ',')]
    pub models: Option<Vec<String>>,
    /// Let the token also load and unload models and change settings
    #[arg(long)]
    pub admin: bool,
    /// The best rank that requests with the token may ask for, 1 (first) to 255; 128 is that of requests that ask for none
    /// [default: what its tenant may]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub priority: Option<u8>,
    /// How long the token is valid, as 12h or 90d [default: until it is revoked]
    #[arg(long, value_parser = duration)]
    pub ttl: Option<Duration>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Makes an API token and prints it, the only time that it can be seen.
pub fn create_token(args: TokenArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let state = args.state.state()?;
    checked("name", &args.name)?;
    checked("tenant", &args.tenant)?;
    let token = Token {
        name: args.name.clone(),
        tenant: args.tenant,
        hash: String::new(),
        tasks: args.tasks,
        models: args.models,
        admin: args.admin,
        priority: args.priority,
        created: Timestamp::now(),
        expires: args.ttl.map(after).transpose()?,
        revoked: None,
    };
    let Some(secret) = tokens::create(&state, token.clone())? else {
        return Err(CommandError::Value(format!("there is an API token `{}`: revoke it first", args.name)));
    };
    let printed = match args.output {
        Output::Text => writeln!(out, "{}", secret.api_token()),
        Output::Json => {
            let mut shown = token_json(&token);
            shown["token"] = Value::String(secret.api_token());
            writeln!(out, "{shown}")
        }
    };
    if let Err(error) = printed.and_then(|()| out.flush()) {
        // Nobody will ever see it.
        tokens::revoke(&state, &args.name, Timestamp::now())?;
        return Err(error.into());
    }
    Ok(())
}

/// Lists API tokens, without their secrets.
pub fn list_tokens(state: &StateArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let tokens = tokens::list(&state.state()?)?;
    match output {
        Output::Json => {
            let rows: Vec<Value> = tokens.iter().map(token_json).collect();
            writeln!(out, "{}", json!({ "tokens": rows }))?;
        }
        Output::Text => {
            let rows: Vec<Vec<String>> = tokens.iter().map(token_row).collect();
            table::write(out, &["name", "tenant", "state", "tasks", "models", "admin", "expires"], &rows)?;
        }
    }
    Ok(())
}

fn token_state(token: &Token) -> &'static str {
    match token {
        Token { revoked: Some(_), .. } => "revoked",
        Token { expires: Some(at), .. } if *at <= Timestamp::now() => "expired",
        _ => "good",
    }
}

fn token_row(token: &Token) -> Vec<String> {
    let list = |names: &Option<Vec<String>>| names.as_ref().map_or("all".to_owned(), |it| it.join(","));
    vec![
        token.name.clone(),
        token.tenant.clone(),
        token_state(token).to_owned(),
        list(&token.tasks),
        list(&token.models),
        if token.admin { "yes" } else { "no" }.to_owned(),
        token.expires.map_or("never".to_owned(), day),
    ]
}

fn token_json(token: &Token) -> Value {
    json!({
        "name": token.name,
        "tenant": token.tenant,
        "state": token_state(token),
        "tasks": token.tasks,
        "models": token.models,
        "admin": token.admin,
        "priority": token.priority,
        "created": token.created,
        "expires": token.expires,
        "revoked": token.revoked,
    })
}

/// Revokes an API token.
pub fn revoke_token(state: &StateArgs, name: &str, out: &mut impl Write) -> Result<(), CommandError> {
    if !tokens::revoke(&state.state()?, name, Timestamp::now())? {
        return Err(CommandError::Value(format!("no API token `{name}` that is good")));
    }
    writeln!(out, "API token `{name}` is revoked")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800), ("1h30m", 5400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "0s", "-1h", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
