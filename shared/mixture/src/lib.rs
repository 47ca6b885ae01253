//! Runs a bundle's models, and with them a sample's way to a decision.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`embedding`]: what encoders make of a sample.
//! * [`inputs`]: what models are given.
//! * [`runner`]: a bundle's models with one thread's state; turns samples into scores and answers.
//! * [`driver`]: one sample's way to its verdict, over experts that run wherever they run.
//! * [`workers`]: the threads that run models, behind one bounded queue. [`local`]: a sample's visit to such a thread.
//! * [`proof`]: golden samples and variants, run before a bundle is used.

pub mod driver;
pub mod embedding;
pub mod inputs;
pub mod local;
pub mod proof;
pub mod runner;
pub mod workers;
