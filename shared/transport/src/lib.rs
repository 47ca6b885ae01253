//! How gRPC gets from one machine to another: the same services and the same generated clients over every transport.
//!
//! A client is a tower service of `http::Request<tonic::body::Body>`, a server takes any such service.
//!
//! * [`quic`]: gRPC messages over bare QUIC streams. [`congestion`]: what decides how much of it is under way.
//! * [`tcp`]: HTTP/2's socket, set for a bad line; through a proxy where there is one.

pub mod congestion;
pub mod quic;
pub mod tcp;
pub mod timeout;
