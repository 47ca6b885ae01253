//! Speaks to a running agent over its admin port.

use std::io;
use std::path::Path;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent as Http, Body};

use crate::admin::door::Door;

/// Larger than any answer, in bytes.
const BODY_LIMIT: u64 = 512 << 20;

/// A running agent, which has not been spoken to yet.
pub(super) struct RunningAgent {
    http: Http,
    door: Door,
}

/// What a running agent answered.
pub(super) enum Answer {
    Ok(Vec<u8>),
    /// The agent does not keep what was asked for.
    NotThere,
    /// The agent refuses, and says why.
    Conflict(Vec<u8>),
}

impl RunningAgent {
    /// Finds the agent of a state directory. `patience` is how long each answer is waited for.
    pub(super) fn find(state_dir: &Path, patience: Duration) -> Result<Self, String> {
        let door = Door::read(state_dir).map_err(|error| {
            format!("an agent is running, and cannot be asked ({error}): has it an admin port?")
        })?;
        let http = Http::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self { http, door })
    }

    pub(super) fn get(&self, path: &str) -> io::Result<Answer> {
        answer(self.http.get(self.url(path)).header("Authorization", self.token()).call())
    }

    pub(super) fn post(&self, path: &str, body: &[u8]) -> io::Result<Answer> {
        answer(self.http.post(self.url(path)).header("Authorization", self.token()).send(body))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.door.addr)
    }

    fn token(&self) -> String {
        format!("Bearer {}", self.door.token)
    }
}

fn answer(response: Result<Response<Body>, ureq::Error>) -> io::Result<Answer> {
    let mut response = response.map_err(|error| io::Error::other(format!("the running agent: {error}")))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec().map_err(io::Error::other)?;
    match status.as_u16() {
        200 => Ok(Answer::Ok(body)),
        404 => Ok(Answer::NotThere),
        409 => Ok(Answer::Conflict(body)),
        _ => Err(io::Error::other(format!(
            "the running agent: {status} {}",
            String::from_utf8_lossy(&body).trim()
        ))),
    }
}
