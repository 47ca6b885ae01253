//! The pool: hosts every expert of a bundle and answers agents, and anyone else who sends a sample.
//!
//! The path of a request:
//!
//! ```text
//! connection (door: bounded, cut after the grace)
//!   -> api: deadline -> clock, count -> digest
//!        RunExperts   -> input (pictures: decoded on a model thread) ─ one entry per expert ─┐
//!        Decide       -> mixture: decode, encode, gate, choose ─────── one entry per model ──┤
//!        ModelInfer   -> oip ────────────────────────────── rows, in parts where that pays ──┤
//!                                                                                            v
//!   serving: scheduling (full or hopeless: refused, with a time to retry) -> batch -> model thread -> engine
//!                                                                                            │
//!   answer <────────────────────────────────────────── api: one mapping of failures to gRPC <┘
//! ```
//!
//! * [`config`]: what an operator can set. `door`: where connections come in. [`server`]: binds, loads, serves, drains.
//! * `switching`: another bundle while the pool runs. [`pool`]: what this node serves. [`hosted`]: the bundle, proved on its golden samples. `mixture`: one decision.
//! * `api`: the gRPC services. Work that nobody waits for any more is not computed: a call that is dropped or past its
//!   deadline takes its jobs with it.
//! * [`identity`]: the pool's authority, its certificate, its devices. [`access`]: who may call what. `principal`:
//!   whom a call is for, and what share of the compute that one has.
//! * `holding`: the bytes and calls that each caller has, before anything is read.
//! * [`engines`]: what runs a model, and which of two does. [`guests`]: the processes that models run in; [`worker`]: what
//!   such a process does.
//! * `oip`: the Open Inference Protocol's messages. `repository`: plain ONNX files from folders.
//! * `serving`, [`scheduling`]: models by name, what waits for them, batches, model threads.
//! * [`metrics`], `admin`, `trace`: what an operator sees. [`readiness`]: whether work is wanted.
//! * [`command`]: what the binary's other subcommands do.
//!
//! A pool in this process, for tests and the demo:
//!
//! ```no_run
//! # async fn start() -> Result<(), millgate_cloud::ServeError> {
//! use millgate_cloud::{CloudConfig, Server};
//!
//! let free_port = "127.0.0.1:0".parse().expect("an address");
//! let config = CloudConfig { grpc: free_port, http: free_port, metrics: free_port, ..CloudConfig::default() };
//! let grace = config.drain_grace();
//! let running = Server::start(config).await?;
//! let _url = running.url();
//! running.drain(grace).await;
//! # Ok(())
//! # }
//! ```

pub mod access;
mod admin;
mod api;
pub mod command;
pub mod config;
mod door;
pub mod engines;
pub mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod guests;
mod heavy;
mod holding;
pub mod hosted;
pub mod identity;
pub mod metrics;
mod mixture;
mod oip;
pub mod pool;
pub mod principal;
pub mod readiness;
pub mod repository;
mod rest;
pub mod scheduling;
pub mod server;
mod serving;
mod strikes;
mod switching;
mod trace;
pub mod worker;

pub use config::CloudConfig;
pub use server::{Running, ServeError, Server};
