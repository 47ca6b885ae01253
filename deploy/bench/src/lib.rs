//! Load for any server of the Open Inference Protocol over gRPC, and the bare engine to hold it against.
//!
//! ```text
//! requests (made from the server's metadata) ─┐
//! schedule (when each is due) ──> drive ──> target ══ server
//!                                   │
//!                                samples ──> summary, recovery ──> report (table, JSON)
//! ```
//!
//! * [`cli`]: what can be asked. [`run`](mod@run): does it.
//! * [`schedule`], [`summary`], [`recovery`]: the arithmetic; pure.
//! * [`engine`]: the model in this process, without a server: the limit.
//! * [`cases`]: what that answers to models and inputs laid out by a script.
//! * [`reload`]: a model unloaded and loaded over and over, and what that does to the server's [`memory`].

pub mod cases;
pub mod cli;
pub mod drive;
pub mod engine;
pub mod memory;
pub mod random;
pub mod recovery;
pub mod reload;
pub mod report;
pub mod requests;
pub mod run;
pub mod schedule;
pub mod summary;
pub mod target;

/// Why a run did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{url}: {}", chain(source))]
    Connect { url: String, source: tonic::transport::Error },
    #[error("{what}: {}: {}", status.code(), status.message())]
    Call { what: String, status: Box<tonic::Status> },
    #[error("model `{model}`: input `{input}`: {message}")]
    Input { model: String, input: String, message: String },
    #[error("`{flag}`: {message}")]
    Flag { flag: &'static str, message: String },
    #[error("not ready within {0} s")]
    NotReady(f64),
    #[error(transparent)]
    Engine(#[from] millgate_shared::engine::EngineError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error(transparent)]
    Output(#[from] std::io::Error),
    #[error("a worker stopped: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

/// What tonic says, and why: it names its cause nowhere but in its sources.
fn chain(error: &tonic::transport::Error) -> String {
    let first: Option<&dyn std::error::Error> = Some(error);
    let all: Vec<String> =
        std::iter::successors(first, |error| error.source()).map(ToString::to_string).collect();
    all.join(": ")
}

impl LoadError {
    /// What was given is at fault, not the server.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Flag { .. } | Self::Input { .. } | Self::Engine(_))
    }
}
