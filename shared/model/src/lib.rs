//! How a decision is made and recorded, by what a bundle's manifest says. Pure: no model runs here, nothing waits, no file is
//! read, and no clock.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`digest`]: what names a bundle. [`recipe`]: accept, reject or review. [`novelty`]: whether a sample is like anything known.
//! * [`manifest`]: what a bundle says, checked. Everything a decision depends on.
//! * [`scope`]: which labels may be the answer.
//! * [`competence`]: how likely an expert is right on a sample.
//! * [`combine`]: answers into one verdict with its risk.
//! * [`decision`]: what is decided, and the record of it.
//! * [`gate`]: from the gate's scores to the experts that may answer, in order.
//! * [`deciding`]: a sample's way from the scores to a verdict, as a state machine.
//!
//! ```
//! use millgate_model::competence::Answer;
//! use millgate_sample::index::{ExpertIx, Ix};
//!
//! let answer = Answer::from_logits(ExpertIx::new(0), 2, &[0.0, 3.0])?;
//! assert_eq!(answer.top(), 1);
//! assert!(answer.confidence() > 0.95);
//! # Ok::<(), millgate_model::competence::AnswerError>(())
//! ```

pub mod combine;
pub mod competence;
pub mod deciding;
pub mod decision;
pub mod digest;
pub mod gate;
pub mod manifest;
pub mod novelty;
pub mod recipe;
pub mod scope;
