//! What a configuration must mean, beyond its types. Each refusal names the key.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use millgate_shared::deciding::Mode;
use millgate_shared::transport::tcp::Proxy;

use crate::uplink::ledger::Limits;
use crate::uplink::{MOST_OUT, Pools};

use super::{After, EdgeConfig, FolderConfig, OffloadConfig, SinkConfig, SourceConfig, SpoolConfig};

/// Under it a budget is a slip of the pen.
const LEAST_BUDGET: u64 = 1 << 10;

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct Refused {
    pub key: String,
    pub message: String,
}

fn refuse(key: impl Into<String>, message: impl Into<String>) -> Result<(), Refused> {
    Err(Refused { key: key.into(), message: message.into() })
}

impl EdgeConfig {
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Refused> {
        if self.task.is_empty() {
            return refuse("task", "is empty");
        }
        if self.queue == 0 {
            return refuse("queue", "must be at least 1");
        }
        if self.threads > 1024 {
            return refuse("threads", "is over 1024");
        }
        self.offload.check()?;
        self.spool.check()?;
        check_listen("api", self.api.listen, self.api.plaintext_beyond_loopback)?;
        check_listen("admin", self.admin.listen, self.admin.plaintext_beyond_loopback)?;
        if self.api.enabled
            && self.admin.enabled
            && self.api.listen == self.admin.listen
            && self.api.listen.port() != 0
        {
            return refuse("admin.listen", format!("{} is taken by `api.listen`", self.admin.listen));
        }
        self.check_sources()?;
        self.check_sinks()
    }

    fn check_sources(&self) -> Result<(), Refused> {
        let mut names = BTreeSet::new();
        for (at, source) in self.sources.iter().enumerate() {
            if !names.insert(source.name()) {
                return refuse(format!("sources[{at}].name"), format!("`{}` stands twice", source.name()));
            }
            match source {
                SourceConfig::Folder(folder) => folder.check(&format!("sources[{at}]"))?,
            }
        }
        Ok(())
    }

    fn check_sinks(&self) -> Result<(), Refused> {
        let mut paths: BTreeSet<&Path> = BTreeSet::new();
        let mut stdouts = 0;
        for (at, sink) in self.sinks.iter().enumerate() {
            let key = |name: &str| format!("sinks[{at}].{name}");
            match sink {
                SinkConfig::Stdout(_) => stdouts += 1,
                SinkConfig::Jsonl(jsonl) => {
                    if jsonl.path.file_name().is_none() {
                        return refuse(key("path"), "names no file");
                    }
                    if !paths.insert(&jsonl.path) {
                        return refuse(key("path"), format!("{} stands twice", jsonl.path.display()));
                    }
                }
                SinkConfig::Webhook(webhook) => {
                    if !webhook.url.starts_with("http://") && !webhook.url.starts_with("https://") {
                        return refuse(
                            key("url"),
                            format!("`{}` does not begin with http:// or https://", webhook.url),
                        );
                    }
                    if webhook.queue == 0 {
                        return refuse(key("queue"), "must be at least 1");
                    }
                    not_zero(&key("timeout"), webhook.timeout)?;
                }
            }
            if stdouts > 1 {
                return refuse(key("type"), "`stdout` stands twice");
            }
        }
        Ok(())
    }
}

impl OffloadConfig {
    /// `mode` and `pinned`, as the agent takes them.
    pub fn parsed_mode(&self) -> Result<Mode, Refused> {
        Mode::from_name(&self.mode, self.pinned.clone()).ok_or_else(|| Refused {
            key: "offload.mode".to_owned(),
            message: format!("`{}` is none of {}", self.mode, Mode::NAMES.join(", ")),
        })
    }

    /// `proxy`, as connections take it.
    pub fn parsed_proxy(&self) -> Result<Option<Proxy>, Refused> {
        self.proxy.as_deref().map(Proxy::parse).transpose().map_err(|message| Refused {
            key: "offload.proxy".to_owned(),
            message: format!("the address {message}"),
        })
    }

    /// Where the pools are; without what is not in this table.
    pub(crate) fn pools(&self) -> Pools {
        Pools {
            urls: self.cloud.clone(),
            transport: self.transport,
            proxy: self.proxy.clone(),
            plaintext_beyond_loopback: self.plaintext_beyond_loopback,
            identity: None,
            state_dir: None,
        }
    }

    fn check(&self) -> Result<(), Refused> {
        let is_pinned = matches!(self.parsed_mode()?, Mode::Pinned(_));
        if is_pinned && self.pinned.is_empty() {
            return refuse("offload.pinned", "names no expert, and mode is `pinned`");
        }
        if !is_pinned && !self.pinned.is_empty() {
            return refuse("offload.pinned", format!("is for mode `pinned`, and mode is `{}`", self.mode));
        }
        if self.risk.is_some_and(|risk| !(risk > 0.0 && risk < 1.0)) {
            return refuse("offload.risk", "must be above 0 and below 1");
        }
        self.pools()
            .parsed()
            .map_err(|error| Refused { key: format!("offload.{}", error.key), message: error.message })?;
        let Limits { per_hour, per_day } = self.budget;
        for (key, limit) in [("per_hour", per_hour), ("per_day", per_day)] {
            if limit > 0 && limit < LEAST_BUDGET {
                let message =
                    format!("is {limit} bytes, and a call takes hundreds; at least {LEAST_BUDGET}, or 0");
                return refuse(format!("offload.budget.{key}"), message);
            }
        }
        if per_hour > 0 && per_day > 0 && per_hour > per_day {
            return refuse("offload.budget.per_hour", format!("is more than a day's {per_day}"));
        }
        if self.send.modality.keys().any(String::is_empty) {
            return refuse("offload.send.modality", "has an empty name");
        }
        not_zero("offload.deadline", self.deadline)
    }
}

impl SpoolConfig {
    fn check(&self) -> Result<(), Refused> {
        // Less, and a single picture fills it.
        const LEAST: u64 = 1 << 20;
        if self.max_bytes < LEAST {
            return refuse("spool.max_bytes", format!("is under {LEAST}"));
        }
        if self.parallel == 0 || self.parallel > MOST_OUT {
            let message = format!("is {}, and the uplink takes 1 to {MOST_OUT} at a time", self.parallel);
            return refuse("spool.parallel", message);
        }
        not_zero("spool.max_age", self.max_age)
    }
}

impl FolderConfig {
    fn check(&self, at: &str) -> Result<(), Refused> {
        let key = |name: &str| format!("{at}.{name}");
        if self.name.is_empty() {
            return refuse(key("name"), "is empty");
        }
        if self.patterns.is_empty() || self.patterns.iter().any(String::is_empty) {
            return refuse(key("patterns"), "holds no pattern, or an empty one");
        }
        self.parsed_bit_depth().map_err(|message| Refused { key: key("bit_depth"), message })?;
        not_zero(&key("settle"), self.settle)?;
        not_zero(&key("rescan"), self.rescan)?;
        if let After::Move(dir) = &self.after
            && (*dir == self.path || (self.recursive && dir.starts_with(&self.path)))
        {
            return refuse(key("after"), format!("{} is inside the watched folder", dir.display()));
        }
        Ok(())
    }
}

fn not_zero(key: &str, duration: Duration) -> Result<(), Refused> {
    if duration.is_zero() { refuse(key, "must be longer than 0") } else { Ok(()) }
}

fn check_listen(section: &str, listen: SocketAddr, is_allowed: bool) -> Result<(), Refused> {
    if listen.ip().is_loopback() || is_allowed {
        return Ok(());
    }
    let message = format!(
        "{listen} is not loopback, and what is said there is neither encrypted nor authenticated; \
         set `{section}.plaintext_beyond_loopback = true` if that is meant"
    );
    refuse(format!("{section}.listen"), message)
}
