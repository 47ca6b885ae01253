//! The screen of a line: what was decided last, why, and one tap to say what a part really was.
//!
//! Everything that the page needs is in the binary, and nothing is fetched from elsewhere. The server holds the state: a page that
//! was reloaded, asleep or cut off shows what every other one shows, since each message has the whole of it.
//!
//! Whoever reaches the port can look and can label, so the screen is shown on this machine alone: where the port is opened beyond
//! loopback there is none. Requests that a browser makes for a page of somebody else's are refused at the door.
//!
//! * `state`: what the page is told of the agent and its line. `live`: telling it again whenever that changes. `decision`: one
//!   decision, its pictures, and what people say of it. `assets`: the page itself.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::labels::Labels;
use crate::metrics::Metrics;
use crate::spool::Spool;

mod assets;
mod decision;
mod live;
mod state;

/// Pages that are told of changes at a time; others ask. They are half of the places that the port has, so that metrics and commands
/// find one.
const MOST_VIEWERS: usize = 32;
/// The longest body of a request, in bytes.
const MOST_BODY: usize = 16 << 10;

/// Nothing but what this server sends, nothing inline, and no frame round it.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the screen looks at.
#[derive(Debug, Clone)]
pub(super) struct Looks {
    pub(super) agent: Agent,
    pub(super) metrics: Arc<Metrics>,
    pub(super) labels: Labels,
    pub(super) spool: Option<Spool>,
    /// Cancelled when no more samples are taken.
    pub(super) draining: CancellationToken,
    /// Cancelled when the port closes.
    pub(super) closing: CancellationToken,
}

#[derive(Debug, Clone)]
struct Screen {
    looks: Looks,
    viewers: Arc<Semaphore>,
}

/// Paths of the screen at a port that listens at `address`.
pub(super) fn routes(looks: Looks, address: SocketAddr) -> Router {
    if !address.ip().is_loopback() {
        return Router::new().route("/", get(elsewhere));
    }
    let screen = Screen { looks, viewers: Arc::new(Semaphore::new(MOST_VIEWERS)) };
    Router::new()
        .merge(assets::routes())
        .route("/screen/line", get(state::line))
        .route("/screen/live", get(live::live))
        .route("/screen/decisions/{id}", get(decision::decision))
        .route("/screen/pictures/{id}/{modality}", get(decision::picture))
        .route("/screen/labels", post(decision::label))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(middleware::map_response(guarded))
        .with_state(screen)
}

async fn elsewhere() -> impl IntoResponse {
    let words = "The screen is shown on the agent's own machine alone, and `admin.listen` is beyond loopback. Set it to \
                 127.0.0.1:8012, and reach it from elsewhere through `ssh -L 8012:127.0.0.1:8012`.\n";
    std::future::ready((StatusCode::FORBIDDEN, words)).await
}

/// Adds what keeps a page to itself.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let each = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in each {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    std::future::ready(response).await
}
