//! Runs a bundle's models, and with them a sample's way to a decision.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`embedding`]: what encoders make of a sample.
//! * [`inputs`]: what models are given.
//! * [`runner`]: a bundle's models with one thread's state; turns samples into scores and answers.
//! * [`workers`]: the threads that run them, behind one bounded queue. [`local`]: a sample's stay on such a thread.
//! * [`proof`]: golden samples and variants, run before a bundle is used.

pub mod embedding;
pub mod inputs;
pub mod local;
pub mod proof;
pub mod runner;
pub mod workers;
