//! `[offload]`.

use std::time::Duration;

use millgate_shared::deciding::Mode;
use millgate_shared::transport::tcp::Proxy;
use serde::{Deserialize, Deserializer};

use crate::settings::{Refused, not_zero, refuse};
use crate::uplink::ledger::Limits;
use crate::uplink::upload::SendConfig;
use crate::uplink::{Allowed, Pools};

/// Under it a budget is a slip of the pen.
const LEAST_BUDGET: u64 = 1 << 10;

/// When the pool is asked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OffloadConfig {
    /// The pools, each `https://host:port`, the preferred one first; one alone needs no list. None: the agent decides alone,
    /// and says so in each decision that wanted a pool.
    #[serde(deserialize_with = "one_or_many")]
    pub cloud: Vec<String>,
    /// auto, quic or tcp.
    pub transport: Allowed,
    /// `http://[user:password@]host:port` of an HTTP proxy, for TCP.
    pub proxy: Option<String>,
    /// Allows `http://` to pools that are not on this machine.
    pub plaintext_beyond_loopback: bool,
    /// confidence, gate, always, never or pinned.
    pub mode: String,
    /// Accepted error rate among samples that stay local, above 0 and below 1. None: the bundle's own.
    pub risk: Option<f64>,
    /// Share of the decisions made here under the certificate that the pool is asked about as well, 0 to 1.
    pub audit: f64,
    /// Experts for mode pinned.
    pub pinned: Vec<String>,
    /// From the start of a sample to its decision. A pool that hangs costs at most this.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// How long further answers of the pool are waited for once enough have come.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// The line costs by the byte: only live calls that are worth it go up, backlog and bulk wait. Can be switched while
    /// the agent runs; see `docs/bytes.md`.
    pub metered: bool,
    /// What leaves the device.
    pub send: SendConfig,
    /// How much of it.
    pub budget: Limits,
}

impl Default for OffloadConfig {
    fn default() -> Self {
        Self {
            cloud: Vec::new(),
            transport: Allowed::Auto,
            proxy: None,
            plaintext_beyond_loopback: false,
            mode: "confidence".to_owned(),
            risk: None,
            audit: 0.01,
            pinned: Vec::new(),
            deadline: Duration::from_secs(1),
            grace: Duration::from_millis(10),
            metered: false,
            send: SendConfig::default(),
            budget: Limits::default(),
        }
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

    /// Gives the first thing that is wrong.
    pub(crate) fn check(&self) -> Result<(), Refused> {
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
        if !(0.0..=1.0).contains(&self.audit) {
            return refuse("offload.audit", "must be 0 to 1");
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

/// A text, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of them")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
