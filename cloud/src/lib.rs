//! The pool: hosts every expert of a bundle and answers agents, and anyone else who sends a sample.
//!
//! The path of a request:
//!
//! ```text
//! connection (server: bounded, cut after the grace)
//!   -> api: deadline -> clock, count -> digest
//!        RunExperts   -> input ─ one job per expert ─┐
//!        Decide       ────────── one job in all ─────┤
//!                                                    v
//!   pool: workers' bounded queue (full: refused, with a time to retry) -> model thread -> shared::runner
//!                                                    │
//!   answer <── api: one mapping of failures to gRPC <┘
//! ```
//!
//! * [`config`]: what an operator can set. [`server`]: binds, loads, serves, drains.
//! * [`pool`]: the experts, loaded, proved on golden samples, timed, on threads.
//! * `api`: the gRPC services. Work that nobody waits for any more is not computed: a call that is dropped or past its
//!   deadline takes its jobs with it.
//! * [`engines`]: what runs a model, and which of two does.
//! * `oip`, `serving`, [`scheduling`], `repository`: every model of the bundle, and plain ONNX files, over the Open
//!   Inference Protocol: request -> queue -> batch -> model thread.
//! * [`metrics`], `admin`: what an operator sees. [`readiness`]: whether work is wanted.
//! * [`command`]: what the binary's other subcommands do.
//!
//! A pool in this process, for tests and the demo:
//!
//! ```no_run
//! # async fn start() -> Result<(), millgate_cloud::ServeError> {
//! use millgate_cloud::{CloudConfig, Server};
//!
//! let free_port = "127.0.0.1:0".parse().expect("an address");
//! let config = CloudConfig { grpc: free_port, metrics: free_port, ..CloudConfig::default() };
//! let grace = config.drain_grace();
//! let running = Server::start(config).await?;
//! let _url = running.url();
//! running.drain(grace).await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod api;
pub mod command;
pub mod config;
pub mod engines;
pub mod failure;
pub mod metrics;
mod oip;
pub mod pool;
pub mod readiness;
pub mod repository;
pub mod scheduling;
pub mod server;
mod serving;

pub use config::CloudConfig;
pub use server::{Running, ServeError, Server};
