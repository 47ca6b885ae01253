//! How bytes get from the agent to the pool. gRPC is the same over both: a client is a tower service over HTTP requests.
//!
//! * [`tcp`]: HTTP/2's socket, set for a bad line; through a proxy where there is one.

pub mod tcp;
