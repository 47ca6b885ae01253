//! Congestion control for a line that loses packets without being full.
//!
//! Loss-based control takes every loss for a full queue, and on a radio line it stops sending. This one measures what
//! the line delivers and how long an empty line takes, keeps about that much under way, and ignores losses until
//! they are a fifth of what is sent. It sends no more than a bulk transfer needs to keep the line busy, so that the queue
//! in front of the line stays short and small calls pass through it.
//!
//! * `link`: the control, pure. `filter`: what it remembers. `rate`: what the line has delivered.
//! * `controller`: quinn's view of it. `line`: a line in virtual time, for its tests.
//!
//! quinn's pacer sends at 1.25 x window / round trip, whatever a controller would like, so the window is all there is to
//! set.

pub use controller::LinkConfig;

mod controller;
mod filter;
#[cfg(test)]
mod line;
mod link;
mod rate;
#[cfg(test)]
mod tests;
