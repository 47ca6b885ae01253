//! `[[sinks]]`: where decisions go.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkConfig {
    Stdout(StdoutConfig),
    Jsonl(JsonlConfig),
    Webhook(WebhookConfig),
}

impl SinkConfig {
    /// For logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stdout(_) => "stdout",
            Self::Jsonl(_) => "jsonl",
            Self::Webhook(_) => "webhook",
        }
    }
}

/// One JSON object a line on standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}

/// One JSON object a line, appended to a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    pub path: PathBuf,
    /// A file that would grow over this many bytes becomes `path.1`, and that `path.2`. 0: never.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// How many of those are kept; the oldest is deleted.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// Each write reaches the disk before it counts. Without, a power cut can lose the last seconds.
    #[serde(default = "default_sync")]
    pub sync: bool,
}

/// One HTTP POST a decision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `http://` or `https://`.
    pub url: String,
    /// For one attempt, from connecting to the answer's end.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// Decisions that wait for delivery.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// What a full queue does.
    #[serde(default = "default_when_full")]
    pub when_full: WhenFull,
    /// Attempts after the first before a decision is given up (counted and logged). None: until it is delivered.
    pub retries: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Folders wait, their files stay on disk: nothing is lost, but a receiver that is down stops them.
    Block,
    /// The oldest decision in the queue is not delivered to this sink: counted in
    /// `millgate_sink_records_total{outcome="dropped"}`.
    DropOldest,
}

fn default_rotate_bytes() -> u64 {
    64 << 20
}

fn default_keep() -> usize {
    5
}

fn default_sync() -> bool {
    true
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_queue() -> usize {
    256
}

fn default_when_full() -> WhenFull {
    WhenFull::Block
}

impl JsonlConfig {
    /// With the defaults of all that has one.
    pub fn new(path: PathBuf) -> Self {
        Self { path, rotate_bytes: default_rotate_bytes(), keep: default_keep(), sync: default_sync() }
    }
}

impl WebhookConfig {
    /// With the defaults of all that has one.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            timeout: default_timeout(),
            queue: default_queue(),
            when_full: default_when_full(),
            retries: None,
        }
    }
}
