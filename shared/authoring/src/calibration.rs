//! Temperatures, competence, certified thresholds, novelty banks and picture bounds, fitted on samples that no model was trained on.
//!
//! * [`certificate`]: a threshold on the local risk, certified by Clopper and Pearson's bound along a fixed sequence.
//! * [`competence`]: how likely an expert is right, by its confidence and the gate's share. [`temperature`]: how sharp its
//!   logits are. [`answers`]: what both are fitted on. [`banks`]: what the pictures of a product look like.

pub mod answers;
pub mod banks;
pub mod certificate;
pub mod competence;
pub mod temperature;
#[cfg(test)]
mod tests;
