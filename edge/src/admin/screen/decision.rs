//! One decision: its record, its pictures, and what people say of it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json as value;

use super::Screen;
use crate::admin::door::json;
use crate::labels::kept::{Refusal, Said, Say};
use crate::recent::Entry;

/// How the files begin that a browser can show, and their content types.
const KINDS: [(&[u8], &str); 4] = [
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
];

/// What is told of one decision.
#[derive(Serialize)]
struct Told<'a> {
    decision: &'a millgate_shared::decision::Decision,
    at: String,
    /// Modalities of which a file is kept.
    pictures: Vec<String>,
    /// What was said of it, the oldest first.
    said: Vec<Said>,
    /// Labels of its task.
    labels: Vec<String>,
}

/// One of the last decisions.
pub(super) async fn decision(State(screen): State<Screen>, Path(id): Path<String>) -> Response {
    let looks = &screen.looks;
    let Some(Entry { decision, at, label: _ }) = looks.metrics.recent.entry(&id) else {
        let words = "this decision is not among the last ones any more\n";
        return (StatusCode::NOT_FOUND, words).into_response();
    };
    let (mut pictures, mut said) = (Vec::new(), Vec::new());
    // Where no labels are kept there are none.
    if let Ok(row) = looks.labels.row(id).await {
        pictures = row.decision.pictures.into_iter().map(|picture| picture.modality).collect();
        said = row.said;
    }
    let epoch = looks.agent.epoch();
    let task = epoch.manifest().task(&decision.task);
    let labels = task.map_or_else(Vec::new, |task| task.labels.to_vec());
    json(&Told { decision: &decision, at: at.to_string(), pictures, said, labels })
}

/// The file that is kept of one of its modalities.
pub(super) async fn picture(
    State(screen): State<Screen>,
    Path((id, modality)): Path<(String, String)>,
) -> Response {
    match screen.looks.labels.picture(id, modality).await {
        Ok(bytes) => match KINDS.iter().find(|(start, _)| bytes.starts_with(start)) {
            Some((_, kind)) => ([(header::CONTENT_TYPE, *kind)], bytes).into_response(),
            None => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "no browser shows this kind of file\n").into_response()
            }
        },
        Err(refusal) => refused(&refusal),
    }
}

/// Keeps what a person says.
pub(super) async fn label(State(screen): State<Screen>, headers: HeaderMap, body: Bytes) -> Response {
    // No form of another page can send this type.
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if !kind.starts_with(b"application/json") {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json\n")
            .into_response();
    }
    let say: Say = match serde_json::from_slice(&body) {
        Ok(say) => say,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match screen.looks.labels.label(say).await {
        Ok(row) => json(&value!({ "said": row.said })),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Unknown(_) => StatusCode::NOT_FOUND,
        Refusal::Bad { .. } => StatusCode::BAD_REQUEST,
        Refusal::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Off | Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{refusal}\n")).into_response()
}
