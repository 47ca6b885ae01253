//! The agent beside the machine.
//!
//! A sample's path, and the room for each step:
//!
//! ```text
//! source: files, messages … ──┐   (joining: parts that arrive apart)
//! api (gRPC on loopback) ────┼─> input ─> agent ─> model thread: decode, gate, choose, local experts
//! cli infer FILE… ───────────┘              │                              │ risk over the threshold?
//!                                           │                        uplink: one gRPC stream to the pool
//!                                           └──<── combine ──<─────────────┘                 ^
//!                                                  │                                         │ later
//!                                               decision ─> spool, if provisional ─> back-log ┘
//!                                                  │                                   │ amended
//!                                               outbox ─> sink (stdout, JSON lines, webhook)
//! ```
//!
//! How a decision is made is in `millgate_shared`; here is what stands round it: files, sockets, clocks and threads.
//! `labels` keeps what people say of decisions, `audit` puts some of them to the pool as well, and `drift` tells from both whether what was
//! certified still holds.
//! `recent` is what was decided lately; the screen of `admin` shows it.
//! `journal` remembers what was decided and what is still to be delivered; `crash` notes what is in hand, for the next start.
//! [`identity`] is who the device is towards the pool. [`check`] looks at all of that before a device is trusted with it.
//! [`config`] puts together the settings that each room has of its own.

pub mod admin;
pub mod agent;
pub mod api;
mod audit;
mod backlog;
pub mod backoff;
pub mod check;
pub mod cli;
pub mod config;
mod crash;
mod drift;
pub mod engines;
mod epochs;
pub mod finding;
pub mod identity;
pub mod input;
mod joining;
pub mod journal;
pub mod labels;
pub mod metrics;
mod outbox;
mod recent;
pub mod record;
pub mod service;
pub mod settings;
pub mod sink;
pub mod source;
pub mod spool;
pub mod uplink;
pub mod wishes;
