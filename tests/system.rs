//! Agent, pool and clients together, across real sockets and processes. One binary; each file is a chapter.

#![expect(clippy::unwrap_used, reason = "in a test, to fail is the answer")]

mod access;
mod bundles;
mod bytes;
mod colour;
mod crowds;
mod decide;
mod demo;
mod dependencies;
mod doors;
mod engines;
mod examples;
mod guests;
mod holding;
mod hostile;
mod identity;
mod init;
mod lines;
mod metrics;
mod mixture;
mod modality;
mod neighbours;
mod nodes;
mod observe;
mod open_inference;
mod outage;
mod pictures;
mod pool;
mod quic;
mod repository;
mod rest;
mod said;
mod service;
mod shares;
mod silent;
mod spool;
mod stores;
mod survival;
mod switch;
mod tidy;
mod trials;
mod tritonclient;
mod troubles;
mod uplink;
mod worker;
