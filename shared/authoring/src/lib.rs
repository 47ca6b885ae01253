//! Makes bundles from labelled data, without Python: `millgate-cloud bundle init`, `add-expert`, `certify`, `evaluate` and their
//! like are thin shells round these rooms.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`data`]: labelled samples of a folder, a CSV or a JSONL file, split by group.
//!   [`draft`]: a bundle that is being written. [`linear`]: heads fitted on frozen features. [`onnx`]: graphs written.
//!   [`progress`]: how far the work is.
//! * [`features`]: what a bundle's models make of labelled samples.
//! * [`calibration`]: temperatures, competence, certified thresholds, novelty banks and picture bounds, fitted.
//! * [`certifying`]: a bundle certified anew. [`evaluation`]: a bundle judged.
//! * [`making`]: a bundle from a folder. [`growing`]: an expert more or less.
//! * [`improving`]: a bundle made anew with what people said.

pub mod calibration;
pub mod certifying;
pub mod data;
pub mod draft;
pub mod evaluation;
pub mod features;
pub mod growing;
pub mod improving;
pub mod linear;
pub mod making;
pub mod onnx;
pub mod progress;
