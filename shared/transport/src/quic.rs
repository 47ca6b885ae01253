//! gRPC over QUIC: one bidirectional stream a call, gRPC's own length-prefixed messages on it, nothing of HTTP/3.
//!
//! ```text
//! client  channel -> sending (head, messages) ──── stream ───> server: reading -> any http service
//!         reading <- (head, messages, trailers) <─ stream ──── sending <─────────┘
//! ```
//!
//! * `head`, `blocks`: the bytes, pure; fuzzed. The ALPN name [`ALPN`] carries their version.
//! * [`Endpoint`], [`Channel`]: the client. [`server`]: the other side.
//! * [`Tuning`]: what is asked of QUIC itself.
//!
//! Cancelling a call resets its stream, and the other side drops its work. Nothing is buffered beyond QUIC's own windows:
//! a reader that reads no more holds its sender back.

use std::time::Duration;

use quinn::{ConnectError, ConnectionError, VarInt};
use tonic::{Code, Status};

pub use channel::Channel;
pub use endpoint::Endpoint;
pub use tuning::{Control, Tuning};

pub mod blocks;
mod channel;
mod endpoint;
pub mod head;
mod reading;
mod sending;
pub mod server;
#[cfg(test)]
mod tests;
mod tuning;

/// ALPN name: the protocol and its version, in the handshake.
pub const ALPN: &[u8] = b"millgate-grpc/1";

/// Codes of a stream's end: the reason why one side gave a call up.
const CANCELLED: VarInt = VarInt::from_u32(1);
const MALFORMED: VarInt = VarInt::from_u32(2);
const BROKEN: VarInt = VarInt::from_u32(3);

/// Reason why a peer closed its connection, as the code that it sends along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The peer has nothing more to ask or to say.
    Done,
    /// The pool drains; another one may answer.
    Stopping,
    /// The pool gave the place to another one, or its grace was over.
    Cut,
}

impl Goodbye {
    pub fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Done => 0,
            Self::Stopping => 1,
            Self::Cut => 3,
        })
    }

    fn of(code: VarInt) -> Option<Self> {
        [Self::Done, Self::Stopping, Self::Cut].into_iter().find(|goodbye| goodbye.code() == code)
    }

    /// Words for the log of the other side.
    pub fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stopping => "the pool is stopping",
            Self::Cut => "the connection was cut",
        }
    }
}

/// Least error code of the transport that is an alert of TLS (RFC 9001, 4.8).
const CRYPTO_ERRORS: u64 = 0x100;

/// Alert of TLS, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// This side broke the handshake off.
    Ours(u8),
    /// The peer broke the handshake off.
    Theirs(u8),
}

/// Reason why there is no connection, or no more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("{}", lost(.0))]
    Lost(#[from] ConnectionError),
}

impl Error {
    /// Goodbye of the peer; `None` unless it closed the connection in so many words.
    pub fn goodbye(&self) -> Option<Goodbye> {
        match self {
            Self::Lost(ConnectionError::ApplicationClosed(close)) => Goodbye::of(close.error_code),
            _ => None,
        }
    }

    /// Alert that broke the handshake off; `None` if neither side sent one.
    pub fn alert(&self) -> Option<Alert> {
        let code = |code: u64| code.checked_sub(CRYPTO_ERRORS).and_then(|code| u8::try_from(code).ok());
        match self {
            Self::Lost(ConnectionError::TransportError(error)) => {
                code(u64::from(error.code)).map(Alert::Ours)
            }
            Self::Lost(ConnectionError::ConnectionClosed(close)) => {
                code(u64::from(close.error_code)).map(Alert::Theirs)
            }
            _ => None,
        }
    }
}

fn lost(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "the line is silent".to_owned(),
        ConnectionError::ApplicationClosed(close) => Goodbye::of(close.error_code)
            .map_or_else(|| close.to_string(), |goodbye| goodbye.words().to_owned()),
        other => other.to_string(),
    }
}

/// Status of calls on a connection that is gone: another one may take them.
fn gone(error: &ConnectionError) -> Status {
    Status::unavailable(format!("the connection is gone: {}", lost(error)))
}

/// Status of a call that the peer alone gave up.
fn given_up(code: VarInt) -> Status {
    match code {
        CANCELLED => Status::cancelled("the peer has cancelled the call"),
        MALFORMED => Status::internal("the peer could not read the call"),
        _ => Status::new(Code::Internal, format!("the peer gave the call up (code {code})")),
    }
}

/// Counts of a connection since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub round_trip: Duration,
    pub sent_packets: u64,
    pub lost_packets: u64,
    /// Bytes of UDP payload that were sent.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Bytes that may be under way.
    pub window: u64,
}
