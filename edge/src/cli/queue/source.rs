//! Where the queue is read from: the running agent, or its state directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent as Http, Body};

use crate::admin::queue::{Door, Drop, Dropped};
use crate::journal::JournalError;
use crate::spool::SpoolConfig;
use crate::spool::look::{Look, LookError};
use crate::spool::status::{Listed, Status};

/// A running agent that does not answer by then hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Larger than any entry.
const BODY_LIMIT: u64 = 512 << 20;

pub(super) enum Source {
    Running { http: Http, door: Door },
    Stopped(Box<Look>),
}

impl Source {
    pub(super) fn open(state_dir: &Path, config: &SpoolConfig) -> Result<Self, String> {
        match Look::open(state_dir, config) {
            Ok(look) => Ok(Self::Stopped(Box::new(look))),
            Err(LookError::Journal(JournalError::InUse { .. })) => {
                let door = Door::read(state_dir).map_err(|error| {
                    format!("an agent is running, and cannot be asked ({error}): has it an admin port, and a spool?")
                })?;
                let http = Http::config_builder()
                    .timeout_global(Some(PATIENCE))
                    .http_status_as_error(false)
                    .proxy(None)
                    .build()
                    .new_agent();
                Ok(Self::Running { http, door })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    pub(super) fn status(&mut self) -> io::Result<Status> {
        match self {
            Self::Running { http, door } => {
                Ok(serde_json::from_slice(&get(http, door, "/queue")?.ok_or_else(no_spool)?)?)
            }
            Self::Stopped(look) => Ok(look.status()),
        }
    }

    pub(super) fn list(&mut self) -> io::Result<Vec<Listed>> {
        match self {
            Self::Running { http, door } => {
                Ok(serde_json::from_slice(&get(http, door, "/queue/entries")?.ok_or_else(no_spool)?)?)
            }
            Self::Stopped(look) => Ok(look.list()),
        }
    }

    pub(super) fn body(&mut self, id: &str) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Running { http, door } => get(http, door, &format!("/queue/entries/{id}")),
            Self::Stopped(look) => Ok(look.body(id)),
        }
    }

    /// `None`: all.
    pub(super) fn discard(&mut self, ids: Option<Vec<String>>) -> io::Result<usize> {
        match self {
            Self::Running { http, door } => {
                let all = ids.is_none();
                let text = serde_json::to_vec(&Drop { ids: ids.unwrap_or_default(), all })?;
                let posted = http
                    .post(format!("http://{}/queue/drop", door.addr))
                    .header("Authorization", format!("Bearer {}", door.token))
                    .send(&text[..]);
                let body = answer(posted)?.ok_or_else(no_spool)?;
                Ok(serde_json::from_slice::<Dropped>(&body)?.dropped)
            }
            Self::Stopped(look) => look.discard(ids.as_deref()).map_err(io::Error::other),
        }
    }
}

fn no_spool() -> io::Error {
    io::Error::other(
        "the running agent keeps no spool: it needs `spool.enabled`, a pool, and records of what it decides",
    )
}

/// `None`: there is no such thing.
fn get(http: &Http, door: &Door, path: &str) -> io::Result<Option<Vec<u8>>> {
    let url = format!("http://{}{path}", door.addr);
    answer(http.get(url).header("Authorization", format!("Bearer {}", door.token)).call())
}

fn answer(response: Result<Response<Body>, ureq::Error>) -> io::Result<Option<Vec<u8>>> {
    let mut response = response.map_err(|error| io::Error::other(format!("the running agent: {error}")))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec().map_err(io::Error::other)?;
    match status.as_u16() {
        200 => Ok(Some(body)),
        404 => Ok(None),
        _ => Err(io::Error::other(format!(
            "the running agent: {status} {}",
            String::from_utf8_lossy(&body).trim()
        ))),
    }
}
