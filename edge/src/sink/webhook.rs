//! One HTTP POST a record, on the sink's own thread.
//!
//! The header `Idempotency-Key` carries the decision's id and version, `<id>:<version>`: a record that is posted again,
//! after a lost answer or a restart, has the same, and an amended decision another than the first.

use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;

use super::{Record, Write, WriteError};
use way::Through;

mod check;
mod config;
mod way;

pub use config::WebhookConfig;

/// How much of an answer's body stands in an error message, bytes.
const BODY_LIMIT: u64 = 200;

#[derive(Debug)]
pub(super) struct Webhook {
    url: String,
    agent: Agent,
    /// The way that the environment named at the start; an error says what is wrong with it.
    through: Result<Option<Through>, String>,
}

impl Webhook {
    pub(super) fn new(config: &WebhookConfig) -> Self {
        let through = way::from_env(&config.url);
        let proxy = through.as_ref().ok().and_then(Option::as_ref).map(|through| through.proxy.clone());
        let agent = Agent::config_builder()
            .proxy(proxy)
            .timeout_global(Some(config.timeout))
            .timeout_connect(Some(config.timeout.min(Duration::from_secs(5))))
            .http_status_as_error(false)
            // A moved receiver is for the operator to know of.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("millgate-edge/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { url: config.url.clone(), agent, through }
    }

    /// Whom an error is about.
    fn target(&self) -> String {
        let url = without_secrets(&self.url);
        match &self.through {
            Ok(Some(through)) => format!("{url}, through {through}"),
            _ => url,
        }
    }

    fn post(&self, record: &Record) -> Result<(), WriteError> {
        if let Err(error) = &self.through {
            return Err(WriteError::Later(format!("{}: {error}", self.target())));
        }
        let posted = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", format!("{}:{}", record.key().id, record.key().version))
            .send(record.json());
        let mut response =
            posted.map_err(|error| WriteError::Later(format!("{}: {error}", self.target())))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = response.body_mut().with_config().limit(BODY_LIMIT).lossy_utf8(true).read_to_string();
        let body = body.unwrap_or_default();
        let message = format!("{}: {status} {}", self.target(), body.trim());
        Err(if is_final(status) { WriteError::Refused(message) } else { WriteError::Later(message) })
    }
}

impl Write for Webhook {
    const BATCH: usize = 1;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        batch.iter().try_for_each(|record| self.post(record))
    }
}

/// The receiver says that this very record is wrong. Anything else (a wrong path, a missing right) is wrong for all
/// records and may be put right, so it is tried again.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// Gives it without user, password and query, where tokens are kept.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) =
                rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::record::Undecided;

    fn record() -> Record {
        let undecided = Undecided { path: "a.png".to_owned(), code: "test", message: String::new() };
        Record::of_error("id-1".to_owned(), &undecided).unwrap()
    }

    /// A receiver that answers one request; gives its head and body.
    fn receiver(answer: &'static str) -> (String, std::thread::JoinHandle<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://user:secret@{}/hook?token=secret", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            (head, String::from_utf8(body).unwrap())
        });
        (url, served)
    }

    fn post(answer: &'static str) -> (Result<(), WriteError>, String, String) {
        let (url, served) = receiver(answer);
        let result = Webhook::new(&WebhookConfig::new(&url)).write(&[record()]);
        let (head, body) = served.join().unwrap();
        (result, head, body)
    }

    #[test]
    fn a_record_is_posted_with_its_id() {
        let (result, head, body) = post("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(result, Ok(()));
        assert!(head.to_lowercase().contains("idempotency-key: id-1:0"), "{head}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn answers_decide_between_later_and_never() {
        let (result, ..) = post("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
        let Err(WriteError::Later(message)) = result else { panic!("{result:?}") };
        assert!(
            message.contains("503") && message.contains("busy") && !message.contains("secret"),
            "{message}"
        );
        let (result, ..) = post("HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(result, Err(WriteError::Later(_))), "{result:?}");
        let (result, ..) = post("HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(result, Err(WriteError::Refused(_))), "{result:?}");
    }

    #[test]
    fn a_receiver_that_hangs_costs_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = WebhookConfig::new(&format!("http://{}/", listener.local_addr().unwrap()));
        config.timeout = Duration::from_millis(100);
        let started = std::time::Instant::now();
        let result = Webhook::new(&config).write(&[record()]);
        assert!(matches!(result, Err(WriteError::Later(_))), "{result:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
