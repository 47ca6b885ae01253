//! What agent and pool must agree on, under one name: the rooms of the crates in `shared/`.
//!
//! A room stands here only if both binaries use it, or if it defines the wire or the bundle format. The path of a sample
//! through them:
//!
//! ```text
//! bytes -> image (decode) -> sample -> workers: local (gate -> driver: choose, run experts, risk)
//!                                        └-> the pool, if deciding asks for it ─┐
//!                                                    deciding: combine <────────┴──> decision
//! ```
//!
//! The crates, lowest first; each knows only crates of a line above its own:
//!
//! * `base`: [`bounded`], [`digest`], [`files`], [`memory`], [`panics`], [`tarball`], [`text_file`], [`toml_file`],
//!   [`trouble`]. `array`: [`mod@array`], what models take and give.
//! * `rim`: [`output`], [`quiet`], [`shutdown`], [`telemetry`], [`metrics`]. `engine`: [`engine`] runs ONNX; nothing else names tract. `sample`:
//!   [`index`], [`image`], [`part`], [`modality`], [`sample`], what comes in.
//! * `model`: [`manifest`](bundle::manifest), [`competence`], [`combine`], [`scope`], [`recipe`], [`novelty`], [`decision`], [`gate`],
//!   [`deciding`]: how a decision is made and recorded, pure. `transport`: [`transport`], gRPC between agent and pool.
//! * `bundle`: [`bundle`], a bundle on disk. `wire`: [`wire`] and [`proto`], records and samples as protobuf. `identity`:
//!   [`identity`], certificates, TLS, tokens.
//! * `door`: [`door`], where connections come in.
//! * `mixture`: [`embedding`], [`inputs`], [`runner`], [`driver`], [`workers`], [`local`], [`proof`]: what runs
//!   models and decides.

pub use millgate_array::each_values;
pub use millgate_base::{bounded, digest, files, memory, panics, tarball, text_file, toml_file, trouble};
pub use millgate_mixture::{
    driver, embedding, inputs, local, looks, novelty as banks, proof, runner, workers,
};
pub use millgate_model::{combine, competence, deciding, decision, gate, novelty, recipe, scope};
pub use millgate_rim::{metrics, output, quiet, shutdown, telemetry};
pub use millgate_sample::{image, index, modality, part, sample};
pub use millgate_wire::proto;
pub use {
    millgate_array as array, millgate_bundle as bundle, millgate_door as door, millgate_engine as engine,
    millgate_identity as identity, millgate_transport as transport, millgate_wire as wire,
};
