//! The page, its script, its looks and its words, as they stand in the binary.

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millgate_shared::digest::sha256_hex;

use super::Screen;

/// One file: its path, its content type, and what is in it.
type Asset = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [Asset; 7] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/screen/app.js", SCRIPT, include_str!("assets/app.js")),
    ("/screen/decision.js", SCRIPT, include_str!("assets/decision.js")),
    ("/screen/live.js", SCRIPT, include_str!("assets/live.js")),
    ("/screen/style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("/screen/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("/screen/words.json", "application/json", include_str!("assets/words.json")),
];

/// Digits of a digest that tell one version of a file from another.
const TAG: usize = 16;

/// Paths of the files.
pub(super) fn routes() -> Router<Screen> {
    ASSETS.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        let tag = format!("\"{}\"", &sha256_hex(text.as_bytes())[..TAG]);
        router
            .route(path, get(move |headers: HeaderMap| std::future::ready(asset(&headers, kind, text, &tag))))
    })
}

/// A browser keeps a file, and asks each time whether it is still the same: an upgraded agent has other ones.
fn asset(headers: &HeaderMap, kind: &'static str, text: &'static str, tag: &str) -> Response {
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let kept = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag)];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, kept).into_response(),
        false => (kept, [(header::CONTENT_TYPE, kind)], text).into_response(),
    }
}

#[cfg(test)]
mod tests;
