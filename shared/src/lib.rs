//! What agent and pool must agree on.
//!
//! A module lives here only if both binaries use it, or if it defines the wire or the bundle format. The path of a
//! sample through this crate:
//!
//! ```text
//! bytes -> image (decode) -> sample -> workers: local (gate -> deciding: choose, run experts, risk)
//!                                        └-> the pool, if deciding asks for it ─┐
//!                                                    deciding: combine <────────┴──> decision
//! ```
//!
//! * [`image`], [`sample`]: what comes in; [`embedding`]: what encoders make of it. [`mod@array`]: tensors of any datatype, as
//!   models take them.
//! * [`bundle`]: the manifest, its checks, golden samples, archives. Everything a decision depends on.
//! * [`engine`]: runs ONNX. The only room that names tract.
//! * [`runner`]: a bundle's models with one thread's state; turns samples into scores and answers.
//! * [`workers`]: the threads that run them, behind one bounded queue. [`local`]: a sample's stay on such a thread.
//! * [`gate`], [`competence`], [`combine`], [`deciding`]: how a decision is made. Pure: no clock, no IO, no model.
//! * [`decision`]: the record of it. [`wire`]: records and samples as protobuf; the only module that names [`proto`].
//! * [`transport`]: gRPC between agent and pool.
//! * [`identity`]: certificates, TLS, tokens, and a clock with a floor.
//! * [`breaker`]: when to stop asking a peer that does not answer. Pure.
//! * [`memory`]: what may still be taken of it.
//! * [`shutdown`], [`panics`], [`telemetry`], [`metrics`], [`text_file`], [`toml_file`], [`files`]: the rim both
//!   binaries share.

pub mod array;
pub mod breaker;
pub mod bundle;
pub mod combine;
pub mod competence;
pub mod deciding;
pub mod decision;
pub mod embedding;
pub mod engine;
pub mod files;
pub mod gate;
pub mod identity;
pub mod image;
pub mod local;
pub mod memory;
pub mod metrics;
pub mod panics;
pub mod proto;
pub mod runner;
pub mod sample;
pub mod shutdown;
pub mod telemetry;
pub mod text_file;
pub mod toml_file;
pub mod transport;
pub mod wire;
pub mod workers;
