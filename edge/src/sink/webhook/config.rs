//! `type = "webhook"` in `[[sinks]]`.

use std::time::Duration;

use serde::Deserialize;

use super::{Webhook, check};
use crate::finding::Item;
use crate::settings::{Refused, not_zero, refuse};
use crate::sink::worker::{Settings, Worker};
use crate::sink::{Opening, SinkSettings, WhenFull};

/// One HTTP POST a decision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `http://` or `https://`.
    pub url: String,
    /// How long one attempt may take, from connecting to the answer's end.
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

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_queue() -> usize {
    256
}

fn default_when_full() -> WhenFull {
    WhenFull::Block
}

impl WebhookConfig {
    /// Gives one with the defaults of all that has one.
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

impl SinkSettings for WebhookConfig {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn check(&self) -> Result<(), Refused> {
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return refuse("url", format!("`{}` does not begin with http:// or https://", self.url));
        }
        if self.queue == 0 {
            return refuse("queue", "must be at least 1");
        }
        not_zero("timeout", self.timeout)
    }

    fn look_there(&self, at: &str) -> Vec<Item> {
        vec![check::look(&format!("{at}.url"), &self.url)]
    }

    fn open(&self, opening: Opening<'_>) -> Result<Worker, String> {
        let settings = Settings { queue: self.queue, when_full: self.when_full, retries: self.retries };
        Ok(opening.start(settings, Webhook::new(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::shown;

    #[test]
    fn the_shipped_example_shows_every_default() {
        let [webhook] = &shown::<WebhookConfig>("sinks", "webhook")[..] else { panic!("not one receiver") };
        let retries = webhook.retries;
        assert!(retries.is_some());
        assert_eq!(*webhook, WebhookConfig { retries, ..WebhookConfig::new(&webhook.url) });
    }
}
