//! What the page is told: how the line stands, and how the agent does.

use axum::extract::State as Held;
use axum::response::Response;
use serde::Serialize;

use super::{Looks, Screen};
use crate::admin::door::json;
use crate::recent::Shown;
use crate::uplink::session::LinkState;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct State {
    pub(super) agent: Doing,
    pub(super) line: Shown,
}

/// How the agent does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Doing {
    version: &'static str,
    bundle: String,
    bundle_version: String,
    /// `up`, `down`, `unknown`, or `none` where no pool is configured.
    link: &'static str,
    is_draining: bool,
    /// Samples that wait for a model thread, and files that are not yet acknowledged by every sink.
    queued: usize,
    in_flight: i64,
    /// Provisional decisions that await an amendment, and the age of the oldest in seconds.
    spooled: usize,
    oldest_seconds: Option<f64>,
    /// What is wrong, in sentences.
    troubles: Vec<String>,
}

impl State {
    pub(super) async fn of(looks: &Looks) -> Self {
        let spool = match &looks.spool {
            Some(spool) => spool.status().await.unwrap_or_default(),
            None => Default::default(),
        };
        let epoch = looks.agent.epoch();
        let manifest = epoch.manifest();
        let troubles = looks.metrics.journal.trouble().into_iter().chain(looks.metrics.labels.alarms());
        let agent = Doing {
            version: env!("CARGO_PKG_VERSION"),
            bundle: manifest.name.clone(),
            bundle_version: manifest.version.clone(),
            link: match looks.agent.link() {
                LinkState::Up => "up",
                LinkState::Unconfigured => "none",
                LinkState::Unknown => "unknown",
                LinkState::Down { .. } => "down",
            },
            is_draining: looks.draining.is_cancelled(),
            queued: looks.agent.queued(),
            in_flight: looks.metrics.in_flight.get(),
            spooled: spool.entries,
            oldest_seconds: spool.oldest_seconds.map(f64::round),
            troubles: troubles.collect(),
        };
        Self { agent, line: looks.metrics.recent.shown() }
    }
}

/// The whole state, for a page that is not told of changes.
pub(super) async fn line(Held(screen): Held<Screen>) -> Response {
    json(&State::of(&screen.looks).await)
}
