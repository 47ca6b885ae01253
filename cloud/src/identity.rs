//! Who the pool is, and whom it has let in: its authority, its own certificate, the devices that it has enrolled. All of
//! it lies in `state_dir`; the commands of the binary change the same files while a pool runs.
//!
//! * [`state`]: the folder, its lock, its tables. [`authority`]: signs. `own`: the pool's own certificate.
//! * [`claims`]: what lets a device enrol. [`devices`]: those that have. `enrolment`: how the one becomes the other.
//! * [`clones`]: devices that were at two places at once. `material`: what the doors show and trust, exchanged while they are open.

pub mod authority;
pub mod claims;
pub mod clones;
pub(crate) mod config;
pub mod devices;
pub(crate) mod enrolment;
pub(crate) mod material;
pub(crate) mod own;
pub mod state;

pub use state::{StateDir, StateError};
