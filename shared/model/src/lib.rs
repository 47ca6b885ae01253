//! How a decision is made and recorded, by what a bundle says. No model runs here, nothing waits, nobody is asked: the only
//! IO is that [`bundle`] opens a bundle's files.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`bundle`]: the manifest, its checks, archives. Everything a decision depends on.
//! * [`competence`]: how likely an expert is right on a sample.
//! * [`combine`]: answers into one verdict with its risk.
//! * [`decision`]: what is decided, and the record of it.
//! * [`gate`]: from the gate's scores to the experts that may answer, in order.
//! * [`deciding`]: a sample's way from the scores to a verdict, as a state machine.

pub mod bundle;
pub mod combine;
pub mod competence;
pub mod deciding;
pub mod decision;
pub mod gate;
