//! Telling pages of changes, as server-sent events: each has the whole state, so that none can be missed for good.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State as Held;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::state::State;
use super::{Looks, Screen};

/// The shortest time between two messages: a person sees no more, and a hundred decisions a second are one message.
const PACE: Duration = Duration::from_millis(200);
/// The longest: queues and the line to the pool change without a decision.
const PULSE: Duration = Duration::from_secs(3);
/// A comment is sent so often, so that a proxy does not take the line for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One page that is told.
struct Viewer {
    looks: Looks,
    changes: watch::Receiver<u64>,
    last: Option<(Instant, State)>,
    _place: OwnedSemaphorePermit,
}

/// Tells of changes until the page leaves or the port closes.
pub(super) async fn live(Held(screen): Held<Screen>) -> Response {
    let Ok(place) = std::sync::Arc::clone(&screen.viewers).try_acquire_owned() else {
        let words = "as many pages look on as may; this one has to ask\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], words).into_response();
    };
    let closing = screen.looks.closing.clone();
    let changes = screen.looks.metrics.recent.changes();
    let viewer = Viewer { looks: screen.looks, changes, last: None, _place: place };
    let events = messages(viewer).take_until(async move { closing.cancelled().await });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    // A proxy must pass each message on as it comes.
    ([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response()
}

fn messages(viewer: Viewer) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(viewer, |mut viewer| async move {
        loop {
            if let Some((at, _)) = &viewer.last {
                // The sender lives as long as the agent.
                let _quiet = timeout(PULSE, viewer.changes.changed()).await.is_err();
                sleep_until(*at + PACE).await;
            }
            viewer.changes.mark_unchanged();
            let state = State::of(&viewer.looks).await;
            let now = Instant::now();
            if viewer.last.as_ref().is_some_and(|(_, last)| *last == state) {
                viewer.last = Some((now, state));
                continue;
            }
            let text = serde_json::to_string(&state).ok()?;
            viewer.last = Some((now, state));
            return Some((Ok(Event::default().event("state").data(text)), viewer));
        }
    })
}
