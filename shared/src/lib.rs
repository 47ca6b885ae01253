//! What agent and pool must agree on, under one name: the rooms of the crates in `shared/`.
//!
//! A room stands here only if both binaries use it, or if it defines the wire or the bundle format. The path of a sample
//! through them:
//!
//! ```text
//! bytes -> image (decode) -> sample -> workers: local (gate -> deciding: choose, run experts, risk)
//!                                        └-> the pool, if deciding asks for it ─┐
//!                                                    deciding: combine <────────┴──> decision
//! ```
//!
//! The crates, lowest first; each knows only crates of a line above its own:
//!
//! * `rim`: [`digest`], [`files`], [`memory`], [`metrics`], [`output`], [`panics`], [`shutdown`], [`telemetry`],
//!   [`text_file`], [`toml_file`]. `array`: [`mod@array`], what models take and give.
//! * `engine`: [`engine`] runs ONNX; nothing else names tract. `sample`: [`index`], [`image`], [`part`], [`modality`] and
//!   [`sample`], what comes in.
//!   `transport`: [`transport`], gRPC between agent and pool.
//! * `model`: [`bundle`], [`competence`], [`combine`], [`decision`], [`gate`], [`deciding`]: how a decision is made and
//!   recorded. Pure: no model runs, nothing waits. `identity`: [`identity`], certificates, TLS, tokens.
//! * `mixture`: [`embedding`], [`inputs`], [`runner`], [`workers`], [`local`], [`proof`]: what runs models. `wire`: [`wire`] and
//!   [`proto`], records and samples as protobuf.

pub use millgate_array::each_values;
pub use millgate_mixture::{embedding, inputs, local, proof, runner, workers};
pub use millgate_model::{bundle, combine, competence, deciding, decision, gate};
pub use millgate_rim::{
    digest, files, memory, metrics, output, panics, shutdown, telemetry, text_file, toml_file,
};
pub use millgate_sample::{image, index, modality, part, sample};
pub use millgate_wire::proto;
pub use {
    millgate_array as array, millgate_engine as engine, millgate_identity as identity,
    millgate_transport as transport, millgate_wire as wire,
};
