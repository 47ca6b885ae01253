//! The HTTP side for operators: `/metrics`, `/healthz` (the process lives), `/readyz` (it takes samples), `/metered` (the
//! line costs by the byte; GET shows it, PUT switches it), the screen at `/`, and `/queue`, `/bundle` and `/labels` for the command
//! line.
//!
//! PUT and not POST: a page in the device's own browser can make it post to any port without asking, but not put. What such
//! a page asks for is refused besides, by [`millgate_shared::door::origin`].

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use millgate_shared::door::http1::{self, Guard};
use millgate_shared::door::incoming::Door;
use millgate_shared::door::origin::Hosts;
use millgate_shared::metrics::Format;
use millgate_shared::shutdown::Tasks;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::epochs::Epochs;
use crate::labels::Labels;
use crate::metrics::Metrics;
use crate::spool::Spool;

pub(crate) mod bundle;
mod config;
pub(crate) mod door;
pub(crate) mod labels;
pub(crate) mod queue;
mod screen;

pub use config::AdminConfig;
use screen::Looks;

/// The longest body of a request, in bytes; the longest word that one may hold has seven.
const MOST_BODY: usize = 64;

#[derive(Debug, Clone)]
struct Admin {
    agent: Agent,
    metrics: Arc<Metrics>,
    /// Cancelled when no more samples are taken.
    draining: CancellationToken,
}

/// Where the port is, and the names under which it may be called.
pub(crate) struct Port {
    pub(crate) door: Door,
    pub(crate) address: SocketAddr,
    pub(crate) hosts: Hosts,
}

/// What the command line finds the way to in the state directory.
pub(crate) struct Kept {
    pub(crate) spool: Option<Spool>,
    pub(crate) epochs: Epochs,
    pub(crate) labels: Labels,
}

/// Serves at `port` until `tasks` stop. `intake` are the tasks that take samples. The command line finds the way to
/// what is `kept` in the state directory.
pub(crate) fn start(
    port: Port,
    config: &AdminConfig,
    agent: &Agent,
    metrics: &Arc<Metrics>,
    kept: Kept,
    intake: &Tasks,
    tasks: &Tasks,
) {
    let Kept { spool, epochs, labels } = kept;
    let shown = config.screen.then(|| {
        let looks = Looks {
            agent: agent.clone(),
            metrics: Arc::clone(metrics),
            labels: labels.clone(),
            spool: spool.clone(),
            draining: intake.token().clone(),
            closing: tasks.token().clone(),
        };
        screen::routes(looks, port.address)
    });
    let admin =
        Admin { agent: agent.clone(), metrics: Arc::clone(metrics), draining: intake.token().clone() };
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| std::future::ready("alive\n")))
        .route("/readyz", get(ready))
        .route("/metered", get(metered).put(switch_metered))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(admin)
        .merge(door::behind(
            queue::routes(spool).merge(bundle::routes(epochs.clone())).merge(labels::routes(labels)),
            epochs.state_dir(),
            port.address,
        ))
        .merge(shown.unwrap_or_default());
    let guard = Guard {
        hosts: port.hosts,
        is_health: |path| ["/healthz", "/readyz"].contains(&path),
        refuse: |status, words| (status, format!("{words}\n")).into_response(),
    };
    tasks.spawn(http1::serve(port.door, router, guard, tasks.clone()));
}

async fn metrics_text(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::wanted(headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes));
    let page = admin.metrics.render(&admin.agent, format);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], page)
}

async fn metered(State(admin): State<Admin>) -> &'static str {
    if admin.agent.ledger().is_metered() { "on\n" } else { "off\n" }
}

async fn switch_metered(State(admin): State<Admin>, body: String) -> (StatusCode, String) {
    let to = match body.trim() {
        "on" => Some(true),
        "off" => Some(false),
        "default" => None,
        _ => return (StatusCode::BAD_REQUEST, "the body must be on, off or default\n".to_owned()),
    };
    let ledger = admin.agent.ledger().clone();
    let switched = tokio::task::spawn_blocking(move || ledger.switch_metered(to)).await;
    match switched {
        Ok(Ok(())) => {
            tracing::info!(metered = body.trim(), "switched");
            (StatusCode::OK, metered(State(admin)).await.to_owned())
        }
        Ok(Err(error)) => {
            let message = format!("switched, but only until the agent stops: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, message)
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "panicked\n".to_owned()),
    }
}

/// An agent that cannot remember decides all the same: it is ready, and says what is wrong in a second line; alarms of errors and
/// drift follow.
async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let trouble = admin.metrics.journal.trouble().map_or_else(String::new, |trouble| trouble + "\n");
    let alarms: String = admin.metrics.labels.alarms().into_iter().map(|alarm| alarm + "\n").collect();
    (StatusCode::OK, format!("ready\n{trouble}{alarms}"))
}
