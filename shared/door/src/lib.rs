//! Where connections come in, of the pool and of the agent: accepted, bounded in number and by who holds them, handed to
//! gRPC or HTTP/1.1 with who is at the other end.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`counts`]: what an operator sees of it. [`holder`]: who a place is charged to. [`origin`]: requests that a browser makes
//!   for a page of somebody else's, which are refused.
//! * `knocks`: places of those who have yet to show that they are real. `places`: those of the others, in fair shares.
//!   Both are pure.
//! * [`seats`]: the two as one lock, with what ends a connection.
//! * [`descriptors`]: how many files the process may have open, and what the doors get of them. [`peer`]: who is at the
//!   other end.
//! * [`incoming`]: TCP, with or without TLS. [`quic`]: UDP.
//! * [`http1`]: what HTTP/1.1 makes of an accepted connection.

pub mod counts;
pub mod descriptors;
pub mod holder;
pub mod http1;
pub mod incoming;
mod knocks;
pub mod origin;
pub mod peer;
mod places;
pub mod quic;
pub mod seats;
