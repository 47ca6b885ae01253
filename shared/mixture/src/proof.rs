//! Proof that a bundle's models do what the bundle says, run before it is used.
//!
//! * [`golden`]: inputs with known outputs, through every model and through whole decisions.
//! * [`variant`]: files that only some engines can run, held against the models that they stand for.

pub mod golden;
pub mod variant;
