//! Agent, pool and clients together, across real sockets and processes. One binary; each file is a chapter.

#![expect(clippy::unwrap_used, reason = "in a test, to fail is the answer")]

mod access;
mod bundles;
mod bytes;
mod decide;
mod demo;
mod engines;
mod hostile;
mod identity;
mod lines;
mod mixture;
mod neighbours;
mod nodes;
mod observe;
mod open_inference;
mod outage;
mod pool;
mod quic;
mod repository;
mod rest;
mod service;
mod silent;
mod spool;
mod survival;
mod tidy;
mod tritonclient;
mod uplink;
